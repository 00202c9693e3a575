"""Every task's episodes, from start to end: all 157 are collected, built, validated, read back.

Each task goes through its stages in an empty folder: ``dataset_builder.collect`` with an expert
that nobody trained (the bot in BabyAI), ``dataset_builder.build``, ``dataset_builder.validate``,
which also plays an episode again. What the trainer then reads of an episode is compared with what
a fresh environment shows: shapes, observations (the stacks of four frames in Atari) and rewards.
A line for each task that fails, exit code 1.

    python -m benchmarks.smoke_collect --workers 2
"""

import argparse
import math
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.smoke import report, try_all
from benchmarks.untrained import write_untrained
from dataset_builder import build, collect, validate
from pipeline import paths
from pipeline.domains import PUBLISHED_DOMAINS, get_domain
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.manifest import read_manifest
from pipeline.params import Params, validate_params
from pipeline.shards import read_rows
from pipeline.stage import exit_with_one_line, log, write_json
from pipeline.tasks import all_tasks, get_task
from pipeline.types import Task, VectorEnv
from trainer.feed.batches import EpisodeSource, make_batch
from trainer.feed.data import find_shards, load
from trainer.feed.specs import make_spec
from trainer.feed.tokenizer import train_tokenizer
from trainer.model.image_jat import stack_frames
from trainer.model.processing_jat import JatProcessor

SLOTS = {"mujoco": 4, "metaworld": 4, "babyai": 4, "atari": 2}
EPISODES_PER_SLOT = {"mujoco": 2, "metaworld": 2, "babyai": 2, "atari": 1}
"""One on Atari, where a game lasts up to 27,000 steps."""
REPLAYED = 1
"""Episodes of a task that the validation plays again."""
COMPARED = 1000
"""Steps of an episode that are compared with the environment's, about."""
VOCABULARY = 300
SEED = 1


@dataclass(frozen=True)
class Unit:
    """What is collected of one task."""

    task: Task
    episodes_per_slot: int

    @property
    def params(self) -> Params:
        """A profile of this task alone, whose budget is one shard."""
        slots = SLOTS[self.task.domain]
        groups: dict[str, Any] = {name: {"collect": {"episodes": 1}} for name in PUBLISHED_DOMAINS}
        groups[self.task.domain] = {
            "tasks": [self.task.id],
            "expert": {"source": "train" if get_domain(self.task.domain).recipe else "bot"},
            "collect": {
                "episodes": slots * self.episodes_per_slot,
                "slots": slots,
                "episodes_per_slot": self.episodes_per_slot,
            },
        }
        values = {"profile": "smoke", "seed": SEED, "workers": 1, **groups}
        return validate_params(values, "the smoke run")


@dataclass(frozen=True)
class Shown:
    """The first steps of an episode as the trainer reads them."""

    observations: np.ndarray
    """(N, ...), in the shape of the environment's."""
    actions: np.ndarray
    """(N, ...)."""
    rewards: np.ndarray
    """float32 (N,): what the action before earned, 0 at the first step."""


def check(unit: Unit) -> dict[str, Any]:
    """Steps collected of a task, and seconds. UserError or RuntimeError says what is wrong."""
    start, task = time.monotonic(), unit.task
    log.info("%s", task.id)
    with tempfile.TemporaryDirectory() as name, chdir(name):
        if get_domain(task.domain).recipe:
            write_untrained(task, paths.expert_folder(task))
            write_json(paths.expert_folder(task) / "score.json", {"verdict": "untrained"})
        collect.main(unit.params, Namespace(domain=task.domain, accept_code=False))
        build.main(unit.params, Namespace())
        validate.check_or_stop(paths.DATASET, replay=REPLAYED, workers=1)
        read_back(task)
        steps = read_manifest(paths.episodes_folder(task))["totals"]["steps"]
    return {"steps": steps, "seconds": round(time.monotonic() - start, 1)}


def read_back(task: Task) -> None:
    """Read the dataset as the trainer does; RuntimeError if it is not what was played."""
    collected = read_manifest(paths.episodes_folder(task))["totals"]
    splits = [load(paths.DATASET, task.id, split, Path("cache")) for split in build.SPLITS]
    steps = sum(data.steps for data in splits)
    if steps != collected["steps"]:
        raise RuntimeError(f"{steps} steps are read of {collected['steps']}")
    data = splits[0]
    shards = find_shards(paths.DATASET, task.id, "train")
    rows = chain.from_iterable(read_rows(path, ["seed", "reset_index"]) for path in shards)
    # Its slot's first episode needs no other one played before it.
    number, seed = next((k, row["seed"]) for k, row in enumerate(rows) if not row["reset_index"])
    domain = get_domain(task.domain)
    processor = JatProcessor(train_tokenizer(data.texts(), VOCABULARY))
    source = EpisodeSource(data, make_spec(data, domain.context, normalise=False), processor)
    envs = make_envs(task, [seed])
    try:
        column, shape = task.modality.observation_column, envs.observation_space.shape
        compare(envs, column, shown(source, number, shape))
    finally:
        envs.close()


def shown(source: EpisodeSource, number: int, shape: tuple[int, ...]) -> Shown:
    """The first steps of the split's ``number``-th episode, from the batches of training."""
    windows = np.flatnonzero(source.windows.pieces == number)
    windows = windows[: math.ceil(COMPARED / source.spec.context)]
    batch = make_batch([(source, windows)])
    real = batch["attention_mask"].bool()
    if source.domain == "atari":
        observations = stack_frames(batch["frames"])[real]
    else:
        observations = batch[source.modality.observation_column][real]
    if source.domain == "babyai":  # the mission's tokens come after it
        observations = observations[:, : shape[0]]
    kind = "continuous" if source.spec.num_actions is None else "discrete"
    actions = batch[f"{kind}_actions"][real]
    return Shown(observations.numpy(), actions.numpy(), batch["rewards"][real].numpy())


def compare(envs: VectorEnv, column: str, shown: Shown) -> None:
    """Play an episode's actions in its environment; RuntimeError where it shows something else."""
    for name, rows, space in (
        ("observations", shown.observations, envs.observation_space),
        ("actions", shown.actions, envs.action_space),
    ):
        if rows.shape[1:] != space.shape:
            raise RuntimeError(f"{name} are read as {rows.shape[1:]}, the space has {space.shape}")
    observations, earned = envs.reset(), np.zeros(1, np.float32)
    for t in range(len(shown.actions)):
        if not np.array_equal(observations[column][0], shown.observations[t]):
            raise RuntimeError(f"'{column}' is read as it was not shown at step {t}")
        if earned[0] != shown.rewards[t]:
            raise RuntimeError(f"the reward before step {t} is read as {shown.rewards[t]}")
        step = envs.step(shown.actions[t : t + 1])
        observations, earned = step.observations, step.rewards


def run(
    tasks: Sequence[Task], workers: int, episodes_per_slot: int | None = None
) -> dict[str, Any]:
    """The outcome of every task (``benchmarks.smoke.try_all``)."""
    units = [Unit(task, episodes_per_slot or EPISODES_PER_SLOT[task.domain]) for task in tasks]
    return try_all(check, units, workers, name=lambda unit: unit.task.id)


def main() -> None:
    """Run all tasks, or those that are named."""
    parser = argparse.ArgumentParser(
        description="Collect, build, validate, replay and read back a few episodes of every task."
    )
    parser.add_argument("--task", nargs="+", help="these tasks only")
    parser.add_argument(
        "--episodes-per-slot", type=int, help="by default 2, and 1 on Atari, whose games are long"
    )
    parser.add_argument("--workers", type=int, default=2, help="tasks at a time")
    parser.add_argument("--json", action="store_true", help="the last line is a JSON object")
    arguments = parser.parse_args()
    if arguments.episodes_per_slot is not None and arguments.episodes_per_slot < 1:
        raise UserError(f"--episodes-per-slot {arguments.episodes_per_slot}: give 1 or more")
    tasks = [get_task(id) for id in arguments.task or all_tasks()]
    result = run(tasks, arguments.workers, arguments.episodes_per_slot)
    played = result["results"]
    for task in sorted(played, key=lambda task: -played[task]["seconds"])[:3]:
        print(f"longest: {task}, {played[task]['steps']} steps, {played[task]['seconds']:.0f} s")
    report(result, arguments.json)


if __name__ == "__main__":
    exit_with_one_line(main)
