"""Stage: experts play, and every episode is stored with what it takes to replay it.

A task's episodes are made in shards: ``slots`` environments, each with a seed of its own, play
``episodes_per_slot`` episodes. A shard depends on its seeds, the expert and the options alone, so
that its bytes are the same whoever makes it; its ``.json`` beside it says that it is finished.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataset_builder.task_manifest import Record, totals, write_manifest
from pipeline import manifest, paths, schema
from pipeline.domains import RL_DOMAINS, get_domain
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.params import Params
from pipeline.rollout import GROUPS, Dropped, rollout
from pipeline.seeds import env_seeds
from pipeline.settings import Collect
from pipeline.shards import write_shard
from pipeline.stage import log, read_json, run_stage, write_json
from pipeline.tasks import get_task
from pipeline.types import Episode, Policy, Task, resolve

WEAK = ("weak", "failed")
"""Verdicts of the gate on experts that are left out unless ``keep_weak`` is set."""
SKIPPED = "its expert is too weak"
TABLE_STEPS = 256
"""Steps that are turned into rows together (one episode at least)."""


@dataclass(frozen=True)
class Job:
    """One task's collection."""

    task: Task
    settings: Collect
    decides: dict[str, Any]
    """Everything that decides the episodes, but how many of them."""
    expert: dict[str, Any]
    """The gate's score of the expert."""
    policy: str
    """Dotted name of the function that loads the expert."""
    policy_folder: Path
    """The expert's folder; absolute, like ``folder``, since other machines do the work."""
    folder: Path

    @property
    def fingerprint(self) -> str:
        """Shards with another fingerprint are made anew."""
        return manifest.fingerprint(self.decides)

    def units(self, done: Sequence[Record]) -> list["Unit"]:
        """The shards that follow the finished ones, as far as the budget is known to need them."""
        slots = shard_slots(self.settings, [record["steps"] for record in done])
        return [Unit(self, shard, slots[shard]) for shard in range(len(done), len(slots))]


@dataclass(frozen=True)
class Unit:
    """One shard of one task."""

    job: Job
    shard: int
    slots: int

    @property
    def path(self) -> Path:
        """Where the shard goes."""
        return self.job.folder / f"shard-{self.shard:05d}.parquet"

    def __str__(self) -> str:
        return f"{self.job.task.id} shard {self.shard}"


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Collect one domain's episodes, none where the profile has no tasks of it."""
    (paths.EPISODES / arguments.domain).mkdir(parents=True, exist_ok=True)
    jobs, skipped = plan(params, arguments.domain)
    records = collect(jobs, params.workers)
    manifests = [finish(job, records[job.task.id]) for job in jobs]
    for job in jobs:  # a worker that died in this run has left some as well
        remove_temporaries(job.folder)
    metrics = paths.METRICS / f"collect_{arguments.domain}.json"
    remove_temporaries(metrics.parent, of=metrics.name)
    write_json(metrics, {"skipped": len(skipped), **totals(manifests)})


def plan(params: Params, name: str) -> tuple[list[Job], list[Task]]:
    """The collections of a domain, and the tasks left out because their experts are weak."""
    jobs, skipped = [], []
    for id in params.domain(name).tasks:
        task = get_task(id)
        expert = expert_score(task, params.domain(name).expert.source_of(id))
        if expert["verdict"] in WEAK and not params.domain(name).expert.keep_weak:
            log.info("%s: skipped, its expert is %s and keep_weak is false", id, expert["verdict"])
            write_manifest(task, {}, expert, [], skipped=SKIPPED)
            skipped.append(task)
        else:
            jobs.append(make_job(params, task, expert))
    return jobs, skipped


def expert_score(task: Task, source: str) -> dict[str, Any]:
    """What the gate found; the BabyAI bot needs none, since it solves every level it plays on."""
    path = paths.expert_folder(task) / "score.json"
    if source == "bot" and not path.exists():
        return {"verdict": "not scored"}
    score = read_json(path)
    if not isinstance(score, dict) or not isinstance(score.get("verdict"), str):
        raise UserError(f"'{path}' has no 'verdict': run `python -m experts.train` again")
    return score


def make_job(params: Params, task: Task, expert: dict[str, Any]) -> Job:
    """One task's collection, with everything that decides its episodes."""
    settings = params.domain(task.domain)
    dotted = get_domain(task.domain).policy
    policy_folder = paths.expert_folder(task).resolve()
    policy = load_policy(dotted, task, policy_folder, seed=0)
    decides = {
        "task": task.id,
        "seed": params.seed,
        "env": settings.env,
        "slots": settings.collect.slots,
        "episodes_per_slot": settings.collect.episodes_per_slot,
        "groups": GROUPS,
        "policy": policy.name,
        "policy_checksum": policy.checksum,
        "schema": schema.VERSION,
        "packages": manifest.package_versions(),
    }
    folder = paths.episodes_folder(task).resolve()
    return Job(task, settings.collect, decides, expert, dotted, policy_folder, folder)


def load_policy(dotted: str, task: Task, folder: Path, seed: int) -> Policy:
    """The expert of a task on one thread; what it draws at random depends on ``seed`` alone."""
    return resolve(dotted)(task, folder=folder, seed=seed, threads=1)


def shard_slots(budget: Collect, steps: Sequence[int]) -> list[int]:
    """How many slots each shard has, as far as the budget is known to need shards.

    ``steps`` are those of the shards made so far. A budget of steps is met by whole shards, so
    the shards in need are estimated until the first ones reach it. Raises UserError if no
    shard has any step.
    """
    if budget.episodes is not None:
        full, rest = divmod(math.ceil(budget.episodes / budget.episodes_per_slot), budget.slots)
        return [budget.slots] * full + [rest] * (rest > 0)
    assert budget.steps is not None
    if not steps:
        return [budget.slots]
    for shards, total in enumerate(accumulate(steps), start=1):
        if total >= budget.steps:
            return [budget.slots] * shards
    if sum(steps) == 0:
        raise UserError("'collect.steps' is never reached: the expert gave up every episode")
    share = sum(steps) / len(steps)
    return [budget.slots] * math.ceil(budget.steps / share)


def collect(jobs: Sequence[Job], workers: int) -> dict[str, list[Record]]:
    """Make the missing shards of all tasks; task id -> its shards' records, in order."""
    records: dict[str, list[Record]] = {job.task.id: [] for job in jobs}
    for job in jobs:
        remove_temporaries(job.folder)
    while units := [unit for job in jobs for unit in job.units(records[job.task.id])]:
        missing = [unit for unit in units if finished(unit) is None]
        for unit in missing:
            (unit.job.folder / manifest.NAME).unlink(missing_ok=True)
        fan_out(collect_shard, missing, workers=workers, desc="collect (shards)")
        for unit in units:
            records[unit.job.task.id].append(read_json(unit.path.with_suffix(".json")))
    return records


def finished(unit: Unit) -> Record | None:
    """The record of a shard that is there and was made as it would be made now."""
    mark = unit.path.with_suffix(".json")
    if not mark.exists():
        return None
    record = read_json(mark)
    as_wanted = (
        isinstance(record, dict)
        and record.get("fingerprint") == unit.job.fingerprint
        and len(record["seeds"]) == unit.slots
        and unit.path.exists()
        and unit.path.stat().st_size == record["bytes"]
    )
    return record if as_wanted else None


def collect_shard(unit: Unit) -> None:
    """Play one shard; the episodes go to the file as they end."""
    job, task = unit.job, unit.job.task
    domain = get_domain(task.domain)
    seeds = env_seeds(job.decides["seed"], task.id, "collect", unit.shard, count=unit.slots)
    (policy_seed,) = env_seeds(job.decides["seed"], task.id, "policy", unit.shard, count=1)
    policy = load_policy(job.policy, task, job.policy_folder, policy_seed)
    make_envs = domain.expert_envs or domain.make_envs
    assert make_envs is not None
    envs = make_envs(task, seeds, threads=1, **job.decides["env"])
    dropped, tally = Dropped(), Tally()
    try:
        episodes = tally.watch(
            rollout(
                task.id,
                envs,
                policy,
                seeds,
                job.settings.episodes_per_slot,
                keep=partial(schema.keep_observations, domain.name),
                dropped=dropped,
            )
        )
        tables = episode_tables(domain.name, episodes, policy)
        write_shard(unit.path, schema.arrow_schema(domain.name), tables)
    finally:
        envs.close()
    record = manifest.file_record(
        unit.path,
        fingerprint=job.fingerprint,
        seeds=seeds,
        rows=len(tally.returns),
        steps=tally.steps,
        returns=tally.returns,
        dropped=dropped.reasons,
    )
    write_json(unit.path.with_suffix(".json"), record)


def episode_tables(domain: str, episodes: Iterable[Episode], policy: Policy) -> Iterator[pa.Table]:
    """Episodes as rows, a few at a time: a table costs as much as hundreds of steps."""
    waiting: list[Episode] = []
    steps = 0
    for episode in episodes:
        waiting.append(episode)
        steps += len(episode)
        if steps >= TABLE_STEPS:
            yield schema.to_table(domain, waiting, policy.name, policy.checksum)
            waiting, steps = [], 0
    if waiting:
        yield schema.to_table(domain, waiting, policy.name, policy.checksum)


class Tally:
    """Steps and returns of the episodes that pass by."""

    def __init__(self) -> None:
        self.steps = 0
        self.returns: list[float] = []

    def watch(self, episodes: Iterator[Episode]) -> Iterator[Episode]:
        """Pass the episodes on and count them."""
        for episode in episodes:
            self.steps += len(episode)
            self.returns.append(episode.score)
            yield episode


def finish(job: Job, records: list[Record]) -> dict[str, Any]:
    """Keep the shards that the budget needs, and write the task's manifest, which is returned."""
    records = records[: len(shard_slots(job.settings, [record["steps"] for record in records]))]
    return write_manifest(job.task, job.decides, job.expert, records)


def remove_temporaries(folder: Path, of: str = "*") -> None:
    """Remove what a killed run left half written ``of`` a file (of any by default)."""
    for path in folder.glob(f".{of}.*.tmp"):
        path.unlink(missing_ok=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's own options."""
    parser.add_argument("--domain", required=True, choices=RL_DOMAINS, help="whose tasks to play")


if __name__ == "__main__":
    run_stage(main, "Collect the experts' episodes of one domain.", add_arguments)
