"""How fast one core collects each domain, and how many bytes a step takes.

Plays tasks of a domain for some seconds each, through the same rollout, schema and shards
as the collection. The policy is an untrained network of the size of an expert's, and the bot in
BabyAI. With ``--write`` the rows that are printed go to ``pipeline/data/measurements.json``.

    python -m benchmarks.rates --domain mujoco --seconds 1 --write
"""

import argparse
import datetime
import itertools
import platform
import tempfile
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow as pa
import torch

from experts.appo.network import CONVOLUTIONS, Architecture, Network
from experts.appo.network_policy import NetworkPolicy
from experts.bot.bot_policy import make_policy
from pipeline import schema
from pipeline.domains import PUBLISHED_DOMAINS, get_domain
from pipeline.engines import make_envs
from pipeline.rollout import rollout
from pipeline.seeds import env_seeds
from pipeline.shards import write_shard
from pipeline.stage import read_json, write_json
from pipeline.tasks import tasks_of
from pipeline.types import Policy, Task, VectorEnv

EVERY = {"mujoco": 1, "metaworld": 5, "babyai": 4, "atari": 4}
"""Every how many tasks of the table one is measured."""
UNITS = {"play": "steps/core-s", "size": "bytes/step", "episode": "steps/episode"}
PER_SLOT = {"mujoco": 1, "metaworld": 4, "babyai": 10, "atari": 1}
"""Episodes of each slot in a round."""
SLOTS = {"mujoco": 16, "metaworld": 16, "babyai": 8, "atari": 4}


def measure(task: Task, seconds: float) -> tuple[int, int, float, int]:
    """(episodes, steps, core-seconds, bytes) of collecting one task for ``seconds`` of a core."""
    counts, spent = [0, 0], 0.0

    def rounds() -> Iterator[pa.Table]:
        # Whole rounds only: episodes that were begun and not finished would cost and not count.
        nonlocal spent
        for number in itertools.count():
            envs, policy, seeds = start_round(task, number)
            start = time.process_time()
            keep = schema.keep_observations
            for episode in rollout(task.id, envs, policy, seeds, PER_SLOT[task.domain], keep=keep):
                counts[0] += 1
                counts[1] += len(episode)
                yield schema.to_table(task.modality, [episode], "name", "0" * 64)
            spent += time.process_time() - start
            envs.close()
            if spent >= seconds:
                return

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.parquet"
        write_shard(path, schema.arrow_schema(task.modality), rounds())
        size = path.stat().st_size
    return counts[0], counts[1], spent, size


def start_round(task: Task, number: int) -> tuple[VectorEnv, Policy, list[int]]:
    """Environments with seeds of their own, and who plays in them."""
    seeds = env_seeds(0, "rates", task.id, number, count=SLOTS[task.domain])
    envs = make_envs(task, seeds)
    trained = get_domain(task.domain).recipe is not None
    return envs, untrained(task, envs) if trained else make_policy(task), seeds


def untrained(task: Task, envs: VectorEnv) -> NetworkPolicy:
    """A network like an expert's, whose actions are all about equally likely."""
    image, discrete = task.modality.observation == "image", task.modality.action == "discrete"
    architecture = Architecture(
        observation=tuple(envs.observation_space.shape),
        actions=int(envs.action_space.n if discrete else envs.action_space.shape[0]),
        discrete=discrete,
        convolutions=CONVOLUTIONS["convnet_atari"] if image else (),
        layers=(512,) if image else (64, 64),
        activation="relu" if image else "tanh",
        subtract=0.0,
        divide=255.0 if image else 1.0,
        normalised=True,
    )
    column = task.modality.observation_column
    return NetworkPolicy(Network(architecture), column, "sample", 0, "untrained", "")


def rows(domain: str, seconds: float) -> list[dict[str, Any]]:
    """The measurements of one domain: means over its tasks, each played for as long."""
    machine = f"1 core, {platform.machine()}"
    command = f"python -m benchmarks.rates --domain {domain} --seconds {seconds:g}"
    found: dict[str, list[float]] = {"play": [], "size": [], "episode": []}
    measured = []
    tasks = tasks_of(domain)[:: EVERY[domain]]
    measure(tasks[0], 0)  # the first use of each library takes longer
    for task in tasks:
        episodes, steps, spent, written = measure(task, seconds)
        values = {"play": steps / spent, "size": written / steps, "episode": steps / episodes}
        print(task.id, *(f"{value:.1f} {UNITS[name]}" for name, value in values.items()), sep="  ")
        for name, value in values.items():
            found[name].append(value)
        if domain == "mujoco":  # its tasks differ too much for a mean: 3 to 376 dimensions
            measured += [
                record(f"{task.id}.{name}", values[name], UNITS[name], machine, command)
                for name in ("play", "size")
            ]
    # Tasks play equally many steps, so what is averaged is seconds a step.
    means = {"play": 1 / fmean(1 / rate for rate in found["play"]), "size": fmean(found["size"])}
    if domain != "mujoco":  # there, random play falls over long before an expert
        means["episode"] = fmean(found["episode"])
    for name, value in means.items():
        measured.append(record(f"{domain}.{name}", value, UNITS[name], machine, command))
    return measured


def record(quantity: str, value: float, unit: str, machine: str, command: str) -> dict[str, Any]:
    """A row of ``measurements.json``, with three digits and today's date."""
    return {
        "quantity": quantity,
        "value": float(f"{value:.3g}"),
        "unit": unit,
        "machine": machine,
        "date": datetime.date.today().isoformat(),
        "command": command,
    }


def write_measurements(rows: list[dict[str, Any]]) -> None:
    """Put rows into ``measurements.json``, in the place of those of the same quantity."""
    path = Path(str(files("pipeline") / "data" / "measurements.json"))
    known = {row["quantity"]: row for row in [*read_json(path), *rows]}
    write_json(path, [known[quantity] for quantity in sorted(known)])


def main() -> None:
    """Measure one domain."""
    parser = argparse.ArgumentParser(description="Measure how fast a domain is collected.")
    parser.add_argument("--domain", required=True, choices=PUBLISHED_DOMAINS)
    parser.add_argument("--seconds", type=float, default=1, help="for each task")
    parser.add_argument("--write", action="store_true", help="into measurements.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measured = rows(arguments.domain, arguments.seconds)
    for row in measured:
        print(row)
    if arguments.write:
        write_measurements(measured)


if __name__ == "__main__":
    main()
