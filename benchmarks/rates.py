"""How fast one core collects each domain, and how many bytes a step takes.

Plays a few tasks of a domain for some seconds each, through the same rollout, schema and shards
as the collection, and prints the rows that ``pipeline/data/measurements.json`` holds; with
``--write`` they replace those there. Actions are random (the bot's in BabyAI), so that an
expert's network has to be added: see ``expert_acts`` there.

    python -m benchmarks.rates --domain mujoco --seconds 10 --write
"""

import argparse
import datetime
import platform
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path

from pipeline import schema
from pipeline.domains import RL_DOMAINS, get_domain
from pipeline.policies import RandomPolicy
from pipeline.rollout import rollout
from pipeline.seeds import env_seeds
from pipeline.shards import write_shard
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task
from pipeline.types import Episode, resolve

TASKS = {
    "mujoco": ("ant", "halfcheetah", "hopper", "humanoid", "pendulum", "pusher", "reacher"),
    "metaworld": ("button-press", "assembly", "drawer-close", "reach", "sweep-into"),
    "babyai": ("go-to-local", "open", "pickup", "synth", "boss-level", "go-to", "key-corridor"),
    "atari": ("pong", "breakout", "freeway", "seaquest", "montezumarevenge", "asteroids"),
}
SLOTS = {"mujoco": 16, "metaworld": 16, "babyai": 8, "atari": 4}


def measure(task_id: str, seconds: float) -> tuple[int, int, float, int]:
    """(episodes, steps, core-seconds, bytes) of collecting one task for ``seconds`` of a core."""
    task = get_task(task_id)
    domain = get_domain(task.domain)
    make_envs = domain.expert_envs or domain.make_envs
    assert make_envs is not None
    policy = resolve(domain.policy)(task) if domain.expert_envs else RandomPolicy(0)
    seeds = env_seeds(0, "rates", task.id, count=SLOTS[domain.name])
    envs = make_envs(task, seeds)
    start, counts = time.process_time(), [0, 0]

    def until_late() -> Iterator[Episode]:
        keep = partial(schema.keep_observations, domain.name)
        for episode in rollout(task.id, envs, policy, seeds, 10**6, keep=keep):
            counts[0] += 1
            counts[1] += len(episode)
            yield episode
            if time.process_time() - start > seconds:
                return

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.parquet"
        tables = (schema.to_table(domain.name, [e], "name", "0" * 64) for e in until_late())
        write_shard(path, schema.arrow_schema(domain.name), tables)
        size = path.stat().st_size
    envs.close()
    return counts[0], counts[1], time.process_time() - start, size


def rows(domain: str, seconds: float) -> list[dict]:
    """The measurements of one domain, as means over its tasks."""
    measured = []
    for name in TASKS[domain]:
        measured.append(measure(f"{domain}-{name}", seconds))
        episodes, steps, spent, size = measured[-1]
        print(f"{name:20} {steps / spent:9.0f} steps/s {steps / episodes:7.1f} steps/episode "
              f"{size / steps:7.1f} bytes/step")  # fmt: skip
    count = len(measured)
    values = [
        # The same time for every task: the mean of seconds a step, not of steps a second.
        ("play", count / sum(spent / steps for _, steps, spent, _ in measured), "steps/core-s"),
        ("episode", sum(s / e for e, s, _, _ in measured) / count, "steps/episode"),
        ("size", sum(size / steps for _, steps, _, size in measured) / count, "bytes/step"),
    ]
    return [
        {
            "quantity": f"{domain}.{name}",
            "value": float(f"{value:.3g}"),
            "unit": unit,
            "machine": f"1 core, {platform.machine()}",
            "date": datetime.date.today().isoformat(),
            "command": f"python -m benchmarks.rates --domain {domain} --seconds {seconds:g}",
        }
        for name, value, unit in values
    ]


def main() -> None:
    """Measure one domain."""
    parser = argparse.ArgumentParser(description="Measure how fast a domain is collected.")
    parser.add_argument("--domain", required=True, choices=RL_DOMAINS)
    parser.add_argument("--seconds", type=float, default=10, help="for each task")
    parser.add_argument("--write", action="store_true", help="into measurements.json")
    arguments = parser.parse_args()
    new = {row["quantity"]: row for row in rows(arguments.domain, arguments.seconds)}
    for row in new.values():
        print(row)
    if arguments.write:
        path = Path(str(files("pipeline") / "data" / "measurements.json"))
        old = read_json(path)
        write_json(path, [new.pop(row["quantity"], row) for row in old] + list(new.values()))


if __name__ == "__main__":
    main()
