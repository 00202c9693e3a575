"""The trained experts of a profile, each with what it takes to train it again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.appo.curve import read_curve
from experts.load import load_policy
from experts.train import ExpertJob, expert_jobs, is_made, score
from pipeline.domains import PUBLISHED_DOMAINS, gymnasium, stage_of
from pipeline.errors import UserError, did_you_mean
from pipeline.files import ExpertConfig, NetworkConfig, TrainedConfig, read_model
from pipeline.params import Params
from pipeline.tasks import get_task

SCORES = (
    "mean", "std", "low", "high", "episodes", "success", "success_low", "normalised", "random_mean",
    "noop_mean", "reference_mean", "bar", "verdict",
)  # fmt: skip
"""What of ``score.json`` goes into the provenance."""


def trained_experts(params: Params, id: str | None = None) -> list[ExpertJob]:
    """The profile's experts that are networks, or the one of task ``id``.

    UserError when there are none, or one is not as the parameters would make it now.
    """
    if id is not None and id not in params.tasks:
        raise UserError(f"'{id}' is no task of this profile{did_you_mean(id, params.tasks)}")
    names = params.rl_domains
    jobs = [job for name in names for job in expert_jobs(params, name) if id in (None, job.task)]
    trained = [job for job in jobs if _kind(job.folder) == "network"]
    if not trained:
        which = f" of {id}" if id else ""
        stage = stage_of(get_task(id).domain if id else "mujoco")
        raise UserError(f"no trained expert{which} is there: run `dvc repro train_{stage}` first")
    for job in trained:
        if not is_made(job, read_model(job.folder / "config.json", NetworkConfig)):
            raise UserError(
                f"'{job.folder}' was made with other parameters than these: "
                f"run `dvc repro train_{stage_of(get_task(job.task).domain)}`, or pass its --params"
            )
    return trained


def _kind(folder: Path) -> str | None:
    path = folder / "config.json"
    return read_model(path, ExpertConfig)["kind"] if path.exists() else None


@dataclass(frozen=True)
class Described:
    """An expert as others get it."""

    config: dict[str, Any]
    """``config.json`` and ``provenance``: command and params (what trains it; of an expert from
    elsewhere, what came with it), seed, steps, wall_seconds of the training, versions, score."""
    score: dict[str, Any]
    files: dict[str, bytes]
    """Name -> contents: config.json, score.json, model.safetensors and, if known, curve.csv."""


def describe(job: ExpertJob) -> Described:
    """The expert with its provenance and its score; UserError when it does not load.

    The gate is played again where its score is not of these weights (see ``experts.train``).
    """
    load_policy(get_task(job.task), job.folder, seed=0)
    shape = TrainedConfig if job.source == "train" else NetworkConfig
    config, scored = read_model(job.folder / "config.json", shape), score(job, job.folder)
    known = config.get("provenance", {})
    if job.source == "train":
        stage = stage_of(get_task(job.task).domain)
        rows = curve_of(job)
        known = {
            "command": f"python -m experts.train --domain {stage} --params params.yaml",
            "params": parameters(job, config["mode"]),
            "seed": config["seed"],
            "steps": config["steps"],
            "wall_seconds": rows[-1][1] if rows else None,
            "versions": config["versions"],
        }
    played = {"seed": job.seed, **{key: scored[key] for key in SCORES}}
    config = {**config, "provenance": {**known, "score": played}}
    for told in (config, scored):
        told.pop("decides", None)
    files = {"config.json": _json(config), "score.json": _json(scored)}
    for name in ("model.safetensors", "curve.csv"):
        if (job.folder / name).exists():
            files[name] = (job.folder / name).read_bytes()
    return Described(config, scored, files)


def curve_of(job: ExpertJob) -> list[tuple[int, float, float]]:
    """Its learning curve: rows of (agent steps, seconds, mean return); empty if not known."""
    path = job.folder / "curve.csv"
    return read_curve(path) if path.exists() else []


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def parameters(job: ExpertJob, mode: str) -> dict[str, Any]:
    """A whole ``params.yaml`` that makes this expert and nothing else.

    Of an expert from elsewhere it has no recipe: only what its score depends on.
    """
    expert: dict[str, Any] = {"mode": mode, "gate_episodes": job.episodes}
    if job.source == "train":
        expert |= {"envs": job.envs, "steps": job.steps, "recipe": job.recipe}
    groups: dict[str, Any] = {name: {"collect": {"episodes": 1}} for name in PUBLISHED_DOMAINS}
    task = get_task(job.task)
    own: dict[str, Any] = {"tasks": [task.id], "env": job.options, "expert": expert}
    if declared := gymnasium.declaration(task):
        groups |= {"environments": {task.id: declared}, "gymnasium": own}
    elif stage_of(task.domain) in groups:
        groups[task.domain] |= own
    else:
        groups["domains"] = {task.domain: own}
    return {
        "profile": job.task,
        "seed": job.seed,
        "random_episodes": job.random.episodes,
        **groups,
    }
