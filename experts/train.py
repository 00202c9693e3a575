"""Stage: an expert for every task of one domain, each scored by the gate.

Whatever its source, an expert is a folder: ``config.json`` (what it is), ``score.json`` (how good
it is) and, when it was trained, ``model.safetensors`` and ``curve.csv``.
"""

import shutil
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experts import network, sources
from experts.checkpoints import summaries_of
from experts.curve import read_curve
from experts.gate import VERDICTS, judge, play
from experts.policy import load_policy
from experts.random_scores import RandomPlay, random_play, random_score
from pipeline.domains import RL_DOMAINS, get_domain
from pipeline.fanout import fan_out
from pipeline.manifest import fingerprint, package_versions
from pipeline.params import Params
from pipeline.paths import ARTIFACTS, EXPERTS, METRICS, expert_folder
from pipeline.seeds import sequence
from pipeline.shards import sha256
from pipeline.stage import (
    log,
    read_json,
    replaced_folder,
    run_stage,
    write_atomic,
    write_json,
)
from pipeline.tasks import get_task

TRAINING = ARTIFACTS / "training"
"""Checkpoints of unfinished experts; a finished one leaves nothing here."""
FORMAT = 1
"""Of the expert folder; raising it makes every expert anew."""


@dataclass(frozen=True)
class Unit:
    """One task's expert."""

    task: str
    source: str
    steps: int
    envs: int
    recipe: dict[str, Any]
    env: dict[str, Any]
    seed: int
    mode: str | None
    """sample | argmax, or as the expert's description says."""
    episodes: int
    """Of the gate."""
    random: RandomPlay
    folder: Path
    """Where the expert goes."""
    training: Path
    """Where its training is kept meanwhile."""
    threads: int = 1
    """Of the environments and the learner; they decide how fast it goes."""

    @property
    def fingerprint(self) -> str:
        """Everything that decides the weights; another one makes the expert anew."""
        decides: dict[str, Any] = {"format": FORMAT, "task": self.task, "source": self.source}
        if self.source.startswith("file:"):
            decides["source"] = sources.file_checksum(get_task(self.task), self.source)
        if self.source == "train":
            keys = ("steps", "envs", "recipe", "env", "seed")
            decides |= {key: getattr(self, key) for key in keys}
        return fingerprint(decides)

    @property
    def state(self) -> Path:
        """The folder of this very run, so that other settings never resume it."""
        return self.training / self.fingerprint[:16]


def plan(params: Params, name: str) -> list[Unit]:
    """The experts of one domain."""
    domain, settings = get_domain(name), params.domain(name)
    expert, units = settings.expert, []
    for id in settings.tasks:
        task = get_task(id)
        recipe = domain.recipe(task) if domain.recipe else {}
        units.append(
            Unit(
                id,
                sources.absolute(expert.source_of(id)),
                expert.steps_of(id),
                expert.envs_of(id),
                {**recipe, **expert.recipe_of(id)},
                settings.env,
                params.seed,
                expert.mode_of(id)
                or (domain.expert_mode if expert.source_of(id) == "train" else None),
                expert.gate_episodes,
                random_play(params, id),
                expert_folder(task).resolve(),
                (TRAINING / id).resolve(),
                max(1, int(expert.cpus)),
            )
        )
    return units


def make_expert(unit: Unit) -> dict[str, Any]:
    """Make and score one expert, unless it is there as it would be made now; its score."""
    path = unit.folder / "config.json"
    if not path.exists() or read_json(path).get("fingerprint") != unit.fingerprint:
        with replaced_folder(unit.folder) as folder:
            config = MAKE[unit.source.partition(":")[0]](unit, folder)
            config |= {"source": unit.source, "fingerprint": unit.fingerprint}
            write_json(folder / "config.json", config)
            score(unit, folder)
        shutil.rmtree(unit.training, ignore_errors=True)
    config = read_json(path)
    if unit.mode and config.get("mode", unit.mode) != unit.mode:
        write_json(path, {**config, "mode": unit.mode})
    return score(unit, unit.folder)


def score(unit: Unit, folder: Path) -> dict[str, Any]:
    """The gate's score of the expert in ``folder``, played again only if something changed."""
    path, task = folder / "score.json", get_task(unit.task)
    (policy_seed,) = sequence(unit.seed, "gate", task.id).generate_state(1)
    policy = load_policy(task, folder, int(policy_seed))
    decides = {
        "policy": [policy.name, policy.checksum],
        "episodes": unit.episodes,
        "seed": unit.seed,
        "env": unit.env,
        "random": unit.random.settings,
    }
    if path.exists() and (known := read_json(path)).get("fingerprint") == fingerprint(decides):
        return known
    outcomes = play(task, policy, unit.episodes, unit.seed, unit.env)
    verdict = judge(task, outcomes, random_score(unit.random), unit.seed)
    result = {**verdict.to_dict(), "fingerprint": fingerprint(decides)}
    write_json(path, result)
    return result


def train_expert(unit: Unit, folder: Path) -> dict[str, Any]:
    """Train with APPO, then write the weights and the curve; the description."""
    from experts.recipe import Training
    from experts.sample_factory import train
    from experts.selection import select

    task = get_task(unit.task)
    (seed,) = sequence(unit.seed, "appo", task.id).generate_state(1)
    training = Training(
        task.id, unit.steps, unit.envs, unit.recipe, unit.env, int(seed >> 1), unit.state,
        unit.threads,
    )  # fmt: skip
    last = train(training)
    policy, chosen = select(training, last, unit.mode or "sample", unit.episodes, unit.seed)
    write_atomic(folder / "model.safetensors", network.save(policy))
    shutil.copy(unit.state / "curve.csv", folder / "curve.csv")
    shutil.copytree(summaries_of(unit.state), folder / "tensorboard")
    return {
        "format": FORMAT,
        "kind": "network",
        "task": task.id,
        "network": policy.architecture.to_dict(),
        "mode": unit.mode,
        "weights_sha256": sha256(folder / "model.safetensors"),
        **chosen,
        "envs": unit.envs,
        "recipe": unit.recipe,
        "env": unit.env,
        "seed": unit.seed,
        "versions": {**package_versions(), "sample-factory": version("sample-factory")},
    }


MAKE = {
    "train": train_expert,
    "scripted": lambda unit, folder: sources.scripted(get_task(unit.task)),
    "bot": lambda unit, folder: sources.bot(get_task(unit.task)),
    "hub": lambda unit, folder: sources.hub(get_task(unit.task), unit.source, folder, unit.env),
    "file": lambda unit, folder: sources.file(get_task(unit.task), unit.source, folder, unit.env),
    "shipped": lambda unit, folder: sources.shipped(get_task(unit.task), folder),
}
"""Source -> what fills the folder and describes it."""


@contextmanager
def followed(units: list[Unit], every: float = 15) -> Iterator[None]:
    """Log how far the running trainings are; their curves say it wherever they run."""
    over, seen = threading.Event(), {}

    def look() -> None:
        while not over.wait(every):
            for unit in units:
                path = unit.state / "curve.csv"
                rows = read_curve(path) if path.exists() else []
                if rows and seen.get(unit.task) != rows[-1]:
                    seen[unit.task] = rows[-1]
                    steps, seconds, mean = rows[-1]
                    log.info(
                        "%s: %d of %d steps, %.0f s, mean return %.4g",
                        unit.task, steps, unit.steps, seconds, mean,
                    )  # fmt: skip

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def write_metrics(name: str, units: list[Unit], scores: list[dict[str, Any]]) -> None:
    """``metrics/experts_<domain>.json`` and ``metrics/curves_<domain>/<task>.csv``, for DVC."""
    known = [s["normalised"] for s in scores if s["normalised"] is not None]
    counts = {v: sum(s["verdict"] == v for s in scores) for v in VERDICTS}
    normalised = round(sum(known) / len(known), 4) if known else None
    write_json(METRICS / f"experts_{name}.json", {**counts, "normalised": normalised})
    with replaced_folder(METRICS / f"curves_{name}") as folder:
        for unit in units:
            curve = unit.folder / "curve.csv"
            if curve.exists():
                shutil.copy(curve, folder / f"{unit.task}.csv")


def main(params: Params, arguments: Namespace) -> None:
    """Make one domain's experts, none where the profile has no tasks of it."""
    (EXPERTS / arguments.domain).mkdir(parents=True, exist_ok=True)
    units = plan(params, arguments.domain)
    expert = params.domain(arguments.domain).expert
    with followed([unit for unit in units if unit.source == "train"]):
        scores = fan_out(
            make_expert,
            units,
            workers=params.workers,
            desc=f"{arguments.domain} experts",
            cpus=expert.cpus,
            gpus=expert.gpus,
            name=lambda unit: unit.task,
        )
    write_metrics(arguments.domain, units, scores)
    for s in scores:
        log.info(
            "%-32s %-7s %9.2f ± %.2f over %d episodes (random %.2f, reference %s)",
            s["task"], s["verdict"], s["mean"], s["std"], s["episodes"], s["random_mean"],
            s["reference_mean"],
        )  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    """The domain."""
    parser.add_argument("--domain", required=True, choices=RL_DOMAINS, help="whose experts to make")


if __name__ == "__main__":
    run_stage(main, "Make and score the experts of one domain.", add_arguments)
