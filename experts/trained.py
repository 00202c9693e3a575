"""The trained experts of a profile, each with what it takes to train it again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.curve import read_curve
from experts.policy import load_policy
from experts.train import Unit, plan, score
from pipeline.domains import RL_DOMAINS
from pipeline.errors import UserError, did_you_mean
from pipeline.params import Params
from pipeline.stage import read_json
from pipeline.tasks import get_task

SCORES = (
    "mean", "std", "low", "high", "episodes", "success", "normalised", "random_mean",
    "reference_mean", "verdict",
)  # fmt: skip
"""What of ``score.json`` goes into the provenance."""


def trained_experts(params: Params, id: str | None = None) -> list[Unit]:
    """The profile's experts that are networks, or the one of task ``id``.

    UserError when there are none, or one is not as the parameters would make it now.
    """
    if id is not None and id not in params.tasks:
        raise UserError(f"'{id}' is no task of this profile{did_you_mean(id, params.tasks)}")
    names = [name for name in RL_DOMAINS if params.domain(name).tasks]
    units = [unit for name in names for unit in plan(params, name) if id in (None, unit.task)]
    trained = [unit for unit in units if _kind(unit.folder) == "network"]
    if not trained:
        which = f" of {id}" if id else ""
        domain = get_task(id).domain if id else "mujoco"
        raise UserError(f"no trained expert{which} is there: run `dvc repro train_{domain}` first")
    for unit in trained:
        if read_json(unit.folder / "config.json").get("fingerprint") != unit.fingerprint:
            raise UserError(
                f"'{unit.folder}' was made with other parameters than these: "
                f"run `dvc repro train_{get_task(unit.task).domain}`, or pass its --params"
            )
    return trained


def _kind(folder: Path) -> str | None:
    path = folder / "config.json"
    return read_json(path).get("kind") if path.exists() else None


@dataclass(frozen=True)
class Described:
    """An expert as others get it."""

    config: dict[str, Any]
    """``config.json`` and ``provenance``: command and params (what trains it; of an expert from
    elsewhere, what came with it), seed, steps, wall_seconds of the training, versions, score."""
    score: dict[str, Any]
    files: dict[str, bytes]
    """Name -> contents: config.json, score.json, model.safetensors and, if known, curve.csv."""


def describe(unit: Unit) -> Described:
    """The expert with its provenance and its score; UserError when it does not load.

    The gate is played again where its score is not of these weights (see ``experts.train``).
    """
    load_policy(get_task(unit.task), unit.folder, seed=0)
    config, scored = read_json(unit.folder / "config.json"), score(unit, unit.folder)
    known = config.get("provenance", {})
    if unit.source == "train":
        domain = get_task(unit.task).domain
        rows = curve_of(unit)
        known = {
            "command": f"python -m experts.train --domain {domain} --params params.yaml",
            "params": parameters(unit, config["mode"]),
            "seed": config["seed"],
            "steps": config["steps"],
            "wall_seconds": rows[-1][1] if rows else None,
            "versions": config["versions"],
        }
    played = {"seed": unit.seed, **{key: scored[key] for key in SCORES}}
    config = {**config, "provenance": {**known, "score": played}}
    files = {"config.json": _json(config), "score.json": _json(scored)}
    for name in ("model.safetensors", "curve.csv"):
        if (unit.folder / name).exists():
            files[name] = (unit.folder / name).read_bytes()
    return Described(config, scored, files)


def curve_of(unit: Unit) -> list[tuple[int, float, float]]:
    """Its learning curve: rows of (agent steps, seconds, mean return); empty if not known."""
    path = unit.folder / "curve.csv"
    return read_curve(path) if path.exists() else []


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def parameters(unit: Unit, mode: str) -> dict[str, Any]:
    """A whole ``params.yaml`` that makes this expert and nothing else.

    Of an expert from elsewhere it has no recipe: only what its score depends on.
    """
    expert: dict[str, Any] = {"mode": mode, "gate_episodes": unit.episodes}
    if unit.source == "train":
        expert |= {"envs": unit.envs, "steps": unit.steps, "recipe": unit.recipe}
    groups: dict[str, Any] = {name: {"collect": {"episodes": 1}} for name in RL_DOMAINS}
    groups[get_task(unit.task).domain] |= {
        "tasks": [unit.task],
        "env": unit.env,
        "expert": expert,
    }
    return {
        "profile": unit.task,
        "seed": unit.seed,
        "random_episodes": unit.random.episodes,
        **groups,
    }
