"""How fast episodes are collected: against the published way, and against what is possible.

In each round, one after the other: the collection as its stage does it (one worker: one thread
steps EnvPool, another acts and cuts episodes, a third compresses); the same without writing; the
environment alone, EnvPool with as many slots and threads, in a bare loop that repeats the actions
just collected; and the published way (``benchmarks.published``) with the same policy. Ratios are
medians over the rounds. "per core-second" counts processor time in place of time that passes: it
does not reward the use of a second core, and a busy machine hardly changes it.

The policy is the expert in ``--experts``, where it has one of the task, else an untrained network
of the domain's recipe. BabyAI is played by our bot, and by minigrid's the published way.

    python -m benchmarks.collect --domain mujoco --json
    python -m benchmarks.collect --domain metaworld --memory
"""

import argparse
import hashlib
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import published
from dataset_builder import collect
from experts.network import CONVOLUTIONS, Architecture, Network, save
from pipeline import schema
from pipeline.domains import RL_DOMAINS, get_domain
from pipeline.rollout import rollout
from pipeline.seeds import env_seeds, sequence
from pipeline.settings import Collect
from pipeline.shards import read_rows
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task
from pipeline.types import Task

TASKS = {
    "mujoco": ["mujoco-reacher", "mujoco-halfcheetah", "mujoco-ant"],
    "metaworld": ["metaworld-reach"],
    "babyai": ["babyai-go-to-obj", "babyai-go-to-local", "babyai-pickup-dist"],
    "atari": ["atari-pong"],
}
SLOTS = {"mujoco": 256, "metaworld": 64, "babyai": 50, "atari": 32}
STEPS = {"mujoco": 100_000, "metaworld": 12_800, "babyai": 6_000, "atari": 10_000}
"""About as many are collected in a round; a tenth of them the published way."""
SEED = 0


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


def make_job(task: Task, experts: Path | None, folder: Path, per_slot: int) -> collect.Job:
    """The collection of one task into ``folder``."""
    domain = get_domain(task.domain)
    expert = folder / "expert"
    if experts is not None and (experts / task.domain / task.id / "config.json").exists():
        expert = experts / task.domain / task.id
    elif domain.recipe is not None:
        write_untrained(task, expert)
    budget = Collect(episodes=1, slots=SLOTS[task.domain], episodes_per_slot=per_slot)
    decides = {"seed": SEED, "env": {}}
    return collect.Job(task, budget, decides, {}, domain.policy, expert, folder)


def write_untrained(task: Task, folder: Path) -> None:
    """An expert's folder with a network of the domain's recipe, whose weights are random."""
    domain = get_domain(task.domain)
    assert domain.make_envs is not None
    assert domain.recipe is not None
    envs, recipe = domain.make_envs(task, [SEED]), domain.recipe(task)
    image, discrete = domain.modality == "image", hasattr(envs.action_space, "n")
    architecture = Architecture(
        observation=tuple(envs.observation_space.shape),
        actions=int(envs.action_space.n if discrete else envs.action_space.shape[0]),
        discrete=discrete,
        convolutions=CONVOLUTIONS[recipe["encoder_conv_architecture"]] if image else (),
        layers=tuple(recipe.get("encoder_conv_mlp_layers", (512,)))
        if image
        else tuple(recipe["encoder_mlp_layers"]),
        activation=recipe["nonlinearity"],
        subtract=0.0,
        divide=float(recipe.get("obs_scale", 1.0)),
        normalised=recipe["normalize_input"],
    )
    envs.close()
    with torch.random.fork_rng():
        torch.manual_seed(int(sequence(SEED, task.id).generate_state(1)[0]))
        weights = save(Network(architecture))
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    config = {
        "task": task.id,
        "kind": "network",
        "network": architecture.to_dict(),
        "mode": domain.expert_mode,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(folder / "config.json", config)


def collected(unit: collect.Unit) -> int:
    """The collection itself; returns its steps."""
    collect.collect_shard(unit)
    return read_json(unit.path.with_suffix(".json"))["steps"]


def unwritten(unit: collect.Unit) -> int:
    """The environments and the policy, without cutting rows and writing."""
    job, domain = unit.job, get_domain(unit.job.task.domain)
    envs, seeds = make_envs(unit), shard_seeds(unit)
    policy = collect.load_policy(job.policy, job.task, job.policy_folder, SEED)
    keep = partial(schema.keep_observations, domain.name)
    quota = job.settings.episodes_per_slot
    episodes = rollout(job.task.id, envs, policy, seeds, quota, keep=keep)
    steps = sum(len(episode) for episode in episodes)
    envs.close()
    return steps


def shard_seeds(unit: collect.Unit) -> list[int]:
    """The seeds of a shard's slots."""
    return env_seeds(SEED, unit.job.task.id, "collect", unit.shard, count=unit.slots)


def make_envs(unit: collect.Unit) -> Any:
    """The environments of a shard."""
    domain = get_domain(unit.job.task.domain)
    make = domain.expert_envs or domain.make_envs
    assert make is not None
    return make(unit.job.task, shard_seeds(unit), threads=1)


def alone(unit: collect.Unit, actions: np.ndarray) -> int:
    """A bare loop over EnvPool with ready actions (T, slots, ...); returns its real steps."""
    envs = make_envs(unit)
    pool, resets, ended = envs.pool, 0, 0
    pool.reset()
    for row in actions:
        resets += ended
        _, _, terminated, truncated, _ = pool.step(row, pool.all_env_ids)
        ended = int((terminated | truncated).sum())
    envs.close()
    return actions.shape[0] * actions.shape[1] - resets


def recorded_actions(unit: collect.Unit) -> np.ndarray:
    """(T, slots, ...): what each slot did in a shard, and one action more for each reset."""
    continuous = get_domain(unit.job.task.domain).modality == "continuous"
    name = "continuous_actions" if continuous else "discrete_actions"
    slots: dict[int, list[np.ndarray]] = {seed: [] for seed in shard_seeds(unit)}
    for row in read_rows(unit.path, ["seed", "reset_index", name]):
        slots[row["seed"]] += [row[name], row[name][:1]]
    whole = [np.concatenate(parts) for parts in slots.values()]
    length = min(len(actions) for actions in whole)
    return np.stack([actions[:length] for actions in whole], axis=1)


def measure(task: Task, experts: Path | None, rounds: int, scale: float) -> dict[str, Any]:
    """Rates of all sides, and the ratios."""
    budget = int(STEPS[task.domain] * scale)
    rates: dict[str, list[Rate]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = make_job(task, experts, folder, 1)
        unit = collect.Unit(job, 0, SLOTS[task.domain])
        # The first shard warms everything up, and tells how long episodes are.
        per_slot = max(1, round(budget / collected(unit)))
        unit = replace(
            unit,
            job=replace(
                job, settings=Collect(episodes=1, slots=unit.slots, episodes_per_slot=per_slot)
            ),
        )
        collected(unit)
        policy, env, theirs = None, published.make_env(task), folder / "theirs.parquet"
        if task.domain != "babyai":
            policy = collect.load_policy(job.policy, task, job.policy_folder, SEED)
        sides = {
            "collect": lambda: collected(unit),
            "unwritten": lambda: unwritten(unit),
            "published": lambda: published.collect(task, env, policy, budget // 10, theirs),
        }
        if task.domain != "babyai":
            actions = recorded_actions(unit)
            sides["alone"] = lambda: alone(unit, actions)
        sides["published"]()
        for _ in range(rounds):
            for side, work in sides.items():
                rates.setdefault(side, []).append(timed(work))
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


def peak_memory(task: str, experts: Path | None, per_slot: int) -> int:
    """Peak memory in bytes of a fresh process that collects one shard."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (task, experts, per_slot))


def _peak(task: str, experts: Path | None, per_slot: int) -> int:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        job = make_job(get_task(task), experts, Path(name), per_slot)
        collected(collect.Unit(job, 0, SLOTS[job.task.domain]))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_rates(task: str, found: dict[str, Any]) -> None:
    """Two lines a task."""
    for unit in ("steps/s", "steps/core-s"):
        rates, ratios = found[unit], found[f"{unit} ratio"]
        shown = ", ".join(f"{side} {rate:.0f}" for side, rate in rates.items())
        line = f"{task}: {unit}: {shown}; {ratios['published']:.1f} times the published way"
        if "alone" in ratios:
            line += f", {ratios['alone']:.0%} of the environment alone"
        print(line)


def main() -> None:
    """Measure the domains that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--domain", choices=RL_DOMAINS, help="by default all of them")
    parser.add_argument("--tasks", nargs="+", help="by default one or two of each domain")
    parser.add_argument("--experts", type=Path, help="folder of experts, as artifacts/experts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1, help="of the steps of a round")
    parser.add_argument("--memory", action="store_true", help="peak memory at 10 times the data")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    domains = [arguments.domain] if arguments.domain else RL_DOMAINS
    tasks = arguments.tasks or [task for domain in domains for task in TASKS[domain]]
    results: dict[str, Any] = {}
    for task in tasks:
        if arguments.memory:
            once, often = (peak_memory(task, arguments.experts, n) for n in (1, 10))
            results[task] = {"bytes": once, "bytes at 10 times": often, "ratio": often / once}
            print(
                f"{task}: peak {once / 1e6:.0f} MB, {often / 1e6:.0f} MB at 10 times the episodes"
            )
        else:
            results[task] = measure(
                get_task(task), arguments.experts, arguments.rounds, arguments.scale
            )
            print_rates(task, results[task])
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
