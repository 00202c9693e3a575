"""How fast episodes are collected: against the published way, and against what is possible.

In each round, one after the other:

- collect: the collection as its stage does it with ``--workers`` processes, each making a shard
  (one thread steps EnvPool, another acts and cuts episodes, a third compresses);
- alone: the environment alone, EnvPool with all slots of these shards and a thread for each
  process, in a bare loop that repeats the actions just collected;
- bare loop with the policy: as fast as it can be when nothing is kept;
- published: the published way (``benchmarks.published``), one process, with the same expert in
  Sample Factory's network, as the published data was made; and in ours, which costs less a call.

Ratios are medians over the rounds. "per core-second" counts processor time in place of time that
passes: it does not reward the use of a second core, and a busy machine hardly changes it.

The policy is the expert in ``--experts``, where it has one of the task, else an untrained network
of the domain's recipe. BabyAI is played by our bot, and by minigrid's the published way; no
environment is measured alone there, since the levels are minigrid's own.

    python -m benchmarks.collect --domain mujoco --json
    python -m benchmarks.collect --domain metaworld --memory
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
import torch

from benchmarks import published
from benchmarks.sample_factory_policy import SampleFactoryPolicy
from benchmarks.untrained import SEED, make_job
from dataset_builder import collect
from pipeline.domains import PUBLISHED_DOMAINS
from pipeline.engines import make_envs
from pipeline.seeds import env_seeds
from pipeline.shards import read_rows
from pipeline.stage import read_json
from pipeline.tasks import get_task, tasks_of
from pipeline.types import Policy, Task

# Without the pusher: Gymnasium's v4 does not run on current releases of MuJoCo.
TASKS = {
    "mujoco": [t.id for t in tasks_of("mujoco") if t.id != "mujoco-pusher"],
    "metaworld": ["metaworld-reach"],
    "babyai": ["babyai-go-to-obj", "babyai-go-to-local", "babyai-pickup-dist"],
    "atari": ["atari-pong"],
}
SLOTS = {"mujoco": 128, "metaworld": 32, "babyai": 50, "atari": 32}
"""Slots of a shard."""
STEPS = {"mujoco": 100_000, "metaworld": 48_000, "babyai": 6_000, "atari": 90_000}
"""About as many are collected for a shard; a tenth of them the published way."""


@dataclass(frozen=True)
class Rate:
    """What one side did in one round."""

    steps: int
    seconds: float
    core_seconds: float


def timed(work: Callable[[], int]) -> Rate:
    """``work`` returns its steps."""
    wall, core = time.perf_counter(), time.process_time()
    steps = work()
    return Rate(steps, time.perf_counter() - wall, time.process_time() - core)


def collected(workers: Executor, shards: list[collect.Shard]) -> Rate:
    """The collection of shards, each by a process of its own."""
    started = time.perf_counter()
    rates = list(workers.map(collected_shard, shards))
    seconds = time.perf_counter() - started
    return Rate(sum(r.steps for r in rates), seconds, sum(r.core_seconds for r in rates))


def collected_shard(shard: collect.Shard) -> Rate:
    """The collection itself."""

    def work() -> int:
        collect.collect_shard(shard)
        return read_json(shard.path.with_suffix(".json"))["steps"]

    return timed(work)


def shard_seeds(shard: collect.Shard) -> list[int]:
    """The seeds of a shard's slots."""
    return env_seeds(SEED, shard.job.task.id, "collect", shard.number, count=shard.slots)


def alone(shards: list[collect.Shard], actions: np.ndarray) -> Rate:
    """A bare loop over EnvPool with ready actions (T, slots, ...); resets are no steps."""
    seeds = [seed for shard in shards for seed in shard_seeds(shard)]
    envs = make_envs(shards[0].job.task, seeds, threads=len(shards))
    pool: Any = getattr(envs, "pool")  # noqa: B009  of EnvPoolEnv, not of every VectorEnv

    def work() -> int:
        resets = ended = 0
        pool.reset()
        for row in actions:
            resets += ended
            _, _, terminated, truncated, _ = pool.step(row, pool.all_env_ids)
            ended = int((terminated | truncated).sum())
        return actions.shape[0] * actions.shape[1] - resets

    rate = timed(work)
    envs.close()
    return rate


def bare(workers: Executor, shards: list[collect.Shard], steps: int) -> Rate:
    """A bare loop over EnvPool and the policy, a process for each shard; nothing is kept."""
    started = time.perf_counter()
    rates = list(workers.map(bare_shard, shards, [steps] * len(shards)))
    seconds = time.perf_counter() - started
    return Rate(sum(r.steps for r in rates), seconds, sum(r.core_seconds for r in rates))


def bare_shard(shard: collect.Shard, steps: int) -> Rate:
    """``steps`` steps of every slot, resets counted."""
    job = shard.job
    policy = collect.load_policy(job.policy, job.task, job.policy_folder, SEED)
    envs = make_envs(job.task, shard_seeds(shard), threads=1)
    ids, zeros = np.arange(shard.slots), np.zeros(shard.slots, np.float32)

    def work() -> int:
        observations = envs.reset()
        for _ in range(steps):
            actions = policy.act(observations, ids, ids < 0, zeros)
            observations = envs.step(actions).observations
        return steps * shard.slots

    rate = timed(work)
    envs.close()
    return rate


def recorded_actions(shards: list[collect.Shard]) -> np.ndarray:
    """(T, slots, ...): what each slot did in the shards, and one action more for each reset.

    A slot that ended early starts over with its actions, so that all are busy to the end.
    """
    name = shards[0].job.task.modality.action_column
    whole: list[np.ndarray] = []
    for shard in shards:
        slots: dict[int, list[np.ndarray]] = {seed: [] for seed in shard_seeds(shard)}
        for row in read_rows(shard.path, ["seed", "reset_index", name]):
            slots[row["seed"]] += [row[name], row[name][:1]]
        whole += [np.concatenate(parts) for parts in slots.values()]
    length = int(np.mean([len(actions) for actions in whole]))
    return np.stack([np.resize(actions, (length, *actions.shape[1:])) for actions in whole], axis=1)


def measure(
    task: Task, experts: Path | None, workers: Executor, rounds: int, scale: float, count: int
) -> dict[str, Any]:
    """Rates of all sides, and the ratios."""
    budget = int(STEPS[task.domain] * scale)
    rates: dict[str, list[Rate]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = make_job(task, experts, folder, SLOTS[task.domain], 1)
        shards = [collect.Shard(job, number, SLOTS[task.domain]) for number in range(count)]
        # The first shards warm everything up, and tell how long episodes are.
        quota = round(budget * count / collected(workers, shards).steps)
        if quota > 1:
            settings = job.settings.model_copy(update={"episodes_per_slot": quota})
            shards = [replace(shard, job=replace(job, settings=settings)) for shard in shards]
            collected(workers, shards)
        env, file = published.make_env(task), folder / "published.parquet"

        def one_by_one(policy: Policy | None) -> Rate:
            return timed(lambda: published.collect(task, env, policy, budget // 10, file))

        sides: dict[str, Callable[[], Rate]] = {"collect": lambda: collected(workers, shards)}
        if task.domain == "babyai":
            sides["published"] = lambda: one_by_one(None)
        else:
            theirs = SampleFactoryPolicy(task, job.policy_folder)
            ours = collect.load_policy(job.policy, task, job.policy_folder, SEED)
            actions = recorded_actions(shards)[: 2 * budget // (SLOTS[task.domain] * count)]
            sides["published"] = lambda: one_by_one(theirs)
            sides["published, our network"] = lambda: one_by_one(ours)
            sides["alone"] = lambda: alone(shards, actions)
            sides["bare loop with the policy"] = lambda: bare(workers, shards, len(actions) // 2)
        for _ in range(rounds):
            for side, work in sides.items():
                rates.setdefault(side, []).append(work())
        env.close()
    return summary(rates)


def summary(rates: dict[str, list[Rate]]) -> dict[str, Any]:
    """Medians of rates and of the ratios of each round."""
    result: dict[str, Any] = {}
    for clock, unit in (("seconds", "steps/s"), ("core_seconds", "steps/core-s")):
        values = {
            side: [rate.steps / getattr(rate, clock) for rate in found]
            for side, found in rates.items()
        }
        result[unit] = {side: median(found) for side, found in values.items()}
        result[f"{unit} ratio"] = {
            side: median(
                ours / theirs for ours, theirs in zip(values["collect"], found, strict=True)
            )
            for side, found in values.items()
            if side != "collect"
        }
    return result


def peak_memory(task: Task, experts: Path | None, per_slot: int) -> int:
    """Peak memory in bytes of a fresh process that collects one shard."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (task, experts, per_slot))


def _peak(task: Task, experts: Path | None, per_slot: int) -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        job = make_job(task, experts, Path(name), SLOTS[task.domain], per_slot)
        collect.collect_shard(collect.Shard(job, 0, SLOTS[job.task.domain]))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_rates(task: str, found: dict[str, Any]) -> None:
    """Two lines a task."""
    for unit in ("steps/s", "steps/core-s"):
        rates, ratios = found[unit], found[f"{unit} ratio"]
        shown = ", ".join(f"{side} {rate:.0f}" for side, rate in rates.items())
        line = f"{task}: {unit}: {shown}; {ratios['published']:.1f} times the published way"
        if "alone" in ratios:
            line += f", {ratios['alone']:.0%} of the environment alone"
            line += f", {ratios['bare loop with the policy']:.0%} of it with the policy"
        print(line)


def print_domain(domain: str, found: list[dict[str, Any]]) -> None:
    """The geometric means over a domain's tasks."""
    for unit in ("steps/s", "steps/core-s"):
        for side in found[0][f"{unit} ratio"]:
            mean = geometric_mean(task[f"{unit} ratio"][side] for task in found)
            print(f"{domain} ({len(found)} tasks): {unit}: {mean:.2f} times {side}")


def main() -> None:
    """Measure the domains that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--domain", choices=PUBLISHED_DOMAINS, help="by default all of them")
    parser.add_argument("--tasks", nargs="+", help="by default some of each domain")
    parser.add_argument("--experts", type=Path, help="folder of experts, as artifacts/experts")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1, help="of the steps of a round")
    parser.add_argument("--memory", action="store_true", help="peak memory at 10 times the data")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    domains = [arguments.domain] if arguments.domain else PUBLISHED_DOMAINS
    tasks = arguments.tasks or [task for domain in domains for task in TASKS[domain]]
    compare = compare_memory if arguments.memory else compare_rates
    results = compare(arguments, [get_task(task) for task in tasks])
    if arguments.json:
        print(json.dumps(results))


def compare_memory(arguments: argparse.Namespace, tasks: list[Task]) -> dict[str, Any]:
    """Peak memory of each task's collection, once and with ten times the episodes."""
    results: dict[str, Any] = {}
    for task in tasks:
        once, often = (peak_memory(task, arguments.experts, n) for n in (1, 10))
        results[task.id] = {"bytes": once, "bytes at 10 times": often, "ratio": often / once}
        print(f"{task.id}: peak {once / 1e6:.0f} MB, {often / 1e6:.0f} MB at 10 times the episodes")
    return results


def compare_rates(arguments: argparse.Namespace, tasks: list[Task]) -> dict[str, Any]:
    """Rates and ratios of each task's collection."""
    results: dict[str, dict[str, Any]] = {}
    count = arguments.workers
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, torch.set_num_threads, (1,)) as workers:
        for task in tasks:
            results[task.id] = measure(
                task, arguments.experts, workers, arguments.rounds, arguments.scale, count
            )
            print_rates(task.id, results[task.id])
    for domain in {task.domain: None for task in tasks}:
        found = [results[task.id] for task in tasks if task.domain == domain]
        print_domain(domain, found)
    return results


if __name__ == "__main__":
    main()
