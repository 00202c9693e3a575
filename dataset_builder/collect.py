"""Stage: experts play, and every episode is stored with what it takes to replay it.

A task's episodes are made in shards: ``slots`` environments, each with a seed of its own, play
``episodes_per_slot`` episodes. A shard depends on its seeds, the expert and the options alone, so
that its bytes are the same whoever makes it; its ``.json`` beside it says that it is finished.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataset_builder import splits
from dataset_builder.task_manifest import Record, totals, write_manifest
from pipeline import closure, content, engines, manifest, paths, schema
from pipeline.domains import ENVIRONMENTS, PUBLISHED_DOMAINS, get_domain
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.files import ShardRecord, Verdict, read_model
from pipeline.outputs import sweep
from pipeline.params import Params
from pipeline.rollout import GROUPS, Dropped, rollout
from pipeline.seeds import env_seeds
from pipeline.settings import Collect
from pipeline.shards import write_shard
from pipeline.stage import add_accept_code, log, run_stage, write_json
from pipeline.tasks import get_task
from pipeline.types import Episode, Modality, Policy, Task, resolve

WEAK = ("weak", "failed")
"""Verdicts of the gate on experts that are left out unless ``keep_weak`` is set."""
SKIPPED = "its expert is too weak"
TABLE_STEPS = 256
"""Steps that are turned into rows together (one episode at least)."""


@dataclass(frozen=True)
class TaskCollection:
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
    accept_code: bool = False
    """Whether shards that other code made are taken as they are."""

    @property
    def fingerprint(self) -> str:
        """Shards with another fingerprint are made anew."""
        return manifest.fingerprint(self.decides)

    @property
    def accepted(self) -> set[str]:
        """Fingerprints of shards that are taken as they are: those that were made before code was
        part of them, and those of other code if that is accepted.
        """
        told = {key: self.decides[key] for key in self.decides.keys() - {"code", "definition"}}
        packages = told.get("packages", {})
        fingerprints = {
            manifest.fingerprint({**told, "packages": {**packages, **more}})
            for more in ({}, {"pyarrow": "26.0.1"})
        }
        if self.accept_code and (self.folder / manifest.NAME).exists():
            old = manifest.read_manifest(self.folder).get("decides")
            if old and manifest.same_but_code(old, self.decides):
                fingerprints.add(manifest.fingerprint(old))
        return fingerprints

    def shards(self, done: Sequence[Record]) -> list["Shard"]:
        """The shards that follow the finished ones, as far as the budget is known to need them."""
        slots = shard_slots(self.settings, [record["steps"] for record in done])
        return [Shard(self, number, slots[number]) for number in range(len(done), len(slots))]


@dataclass(frozen=True)
class Shard:
    """One shard of one task."""

    job: TaskCollection
    number: int
    slots: int

    @property
    def path(self) -> Path:
        """The file of the shard."""
        return self.job.folder / f"shard-{self.number:05d}.parquet"

    def __str__(self) -> str:
        return f"{self.job.task.id} shard {self.number}"


def main(params: Params, arguments: argparse.Namespace) -> None:
    """Collect one stage's episodes, none where the profile has no tasks of it."""
    (paths.EPISODES / arguments.domain).mkdir(parents=True, exist_ok=True)
    jobs, skipped = [], []
    for name in params.domains_of(arguments.domain):
        planned, weak = plan_collection(params, name)
        jobs += planned
        skipped += weak
    jobs = [replace(job, accept_code=arguments.accept_code) for job in jobs]
    records = collect(jobs, params.workers)
    manifests = [finish(job, records[job.task.id]) for job in jobs]
    for job in jobs:  # a worker that died in this run has left some as well
        sweep(job.folder)
    metrics = {"skipped": len(skipped), **totals(manifests)}
    write_json(paths.METRICS / f"collect_{arguments.domain}.json", metrics)


def plan_collection(params: Params, name: str) -> tuple[list[TaskCollection], list[Task]]:
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
    return read_model(path, Verdict)


def make_job(params: Params, task: Task, expert: dict[str, Any]) -> TaskCollection:
    """One task's collection, with everything that decides its episodes."""
    settings = params.domain(task.domain)
    dotted = get_domain(task.domain).policy
    policy_folder = paths.expert_folder(task).resolve()
    policy = load_policy(dotted, task, policy_folder, seed=0)
    decides = {
        "task": task.id,
        "seed": params.seed,
        "env": engines.decided_options(task, settings.env_of(task.id)),
        "definition": engines.definition(task, settings.env_of(task.id)),
        "slots": settings.collect.slots,
        "episodes_per_slot": settings.collect.episodes_per_slot,
        "groups": GROUPS,
        "policy": policy.name,
        "policy_checksum": policy.checksum,
        "schema": schema.VERSION,
        "packages": manifest.package_versions(),
        "code": closure.digests(
            "dataset_builder.collect:collect_shard", resolve(dotted), type(policy)
        ),
    }
    folder = paths.episodes_folder(task).resolve()
    return TaskCollection(task, settings.collect, decides, expert, dotted, policy_folder, folder)


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


def collect(jobs: Sequence[TaskCollection], workers: int) -> dict[str, list[Record]]:
    """Make the missing shards of all tasks; task id -> its shards' records, in order."""
    records: dict[str, list[Record]] = {job.task.id: [] for job in jobs}
    for job in jobs:
        sweep(job.folder)
    while shards := [shard for job in jobs for shard in job.shards(records[job.task.id])]:
        missing = [shard for shard in shards if finished(shard) is None]
        for job in {shard.job.task.id: shard.job for shard in missing}.values():
            explain(job)
        for shard in missing:
            (shard.job.folder / manifest.NAME).unlink(missing_ok=True)
        fan_out(collect_shard, missing, workers=workers, desc="collect (shards)")
        for shard in shards:
            records[shard.job.task.id].append(
                read_model(shard.path.with_suffix(".json"), ShardRecord)
            )
    return records


def finished(shard: Shard) -> Record | None:
    """The record of a shard that is there and was made as it would be made now."""
    mark = shard.path.with_suffix(".json")
    if not mark.exists():
        return None
    record = read_model(mark, ShardRecord)
    as_wanted = (
        record.get("fingerprint") in {shard.job.fingerprint, *shard.job.accepted}
        and len(record["seeds"]) == shard.slots
        and content.same_content(shard.path, record["bytes"], record["sha256"])
    )
    if not as_wanted:
        return None
    if record["fingerprint"] != shard.job.fingerprint:
        record["fingerprint"] = shard.job.fingerprint
        write_json(mark, record)
    return record


def explain(job: TaskCollection) -> None:
    """Say why a finished collection is begun anew, or goes on."""
    if not (job.folder / manifest.NAME).exists():
        return
    old = manifest.read_manifest(job.folder).get("decides")
    if old and (reason := manifest.difference(old, job.decides)):
        log.info("%s: collected again, as this changed: %s", job.task.id, reason)


def collect_shard(shard: Shard) -> None:
    """Play one shard; the episodes go to the file as they end."""
    job, task = shard.job, shard.job.task
    seeds = env_seeds(job.decides["seed"], task.id, "collect", shard.number, count=shard.slots)
    (policy_seed,) = env_seeds(job.decides["seed"], task.id, "policy", shard.number, count=1)
    policy = load_policy(job.policy, task, job.policy_folder, policy_seed)
    envs = engines.make_envs(task, seeds, threads=1, **job.decides["env"])
    dropped, tally = Dropped(), Tally()
    try:
        episodes = tally.watch(
            rollout(
                task.id,
                envs,
                policy,
                seeds,
                job.settings.episodes_per_slot,
                keep=schema.keep_observations,
                dropped=dropped,
            )
        )
        tables = episode_tables(task.modality, episodes, policy)
        write_shard(
            shard.path,
            schema.arrow_schema(task.modality),
            tally.identify(task.modality, tables),
        )
    finally:
        envs.close()
    record = manifest.file_record(
        shard.path,
        fingerprint=job.fingerprint,
        seeds=seeds,
        rows=len(tally.returns),
        steps=tally.steps,
        returns=tally.returns,
        digests=tally.digests,
        dropped=dropped.reasons,
    )
    write_json(shard.path.with_suffix(".json"), record)


def episode_tables(
    modality: Modality, episodes: Iterable[Episode], policy: Policy
) -> Iterator[pa.Table]:
    """Episodes as rows, a few at a time: a table costs as much as hundreds of steps."""
    waiting: list[Episode] = []
    steps = 0
    for episode in episodes:
        waiting.append(episode)
        steps += len(episode)
        if steps >= TABLE_STEPS:
            yield schema.to_table(modality, waiting, policy.name, policy.checksum)
            waiting, steps = [], 0
    if waiting:
        yield schema.to_table(modality, waiting, policy.name, policy.checksum)


class Tally:
    """Steps, returns and digests of the episodes that pass by."""

    def __init__(self) -> None:
        self.steps = 0
        self.returns: list[float] = []
        self.digests: list[str] = []

    def watch(self, episodes: Iterator[Episode]) -> Iterator[Episode]:
        """Pass the episodes on and count them."""
        for episode in episodes:
            self.steps += len(episode)
            self.returns.append(episode.score)
            yield episode

    def identify(self, modality: Modality, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Pass their rows on and keep what their contents are known by."""
        for table in tables:
            self.digests += [digest.hex() for digest in splits.digests(table, modality)]
            yield table


def finish(job: TaskCollection, records: list[Record]) -> dict[str, Any]:
    """Keep the shards that the budget needs, and write the task's manifest, which is returned."""
    records = records[: len(shard_slots(job.settings, [record["steps"] for record in records]))]
    engine = engines.identity(job.task, job.decides["env"])
    written = write_manifest(job.task, job.decides, job.expert, records, engine=engine)
    distinct, episodes = written["distinct"], written["totals"]["rows"]
    if distinct is not None and distinct < episodes:
        log.warning(
            "%s: only %d of %d episodes are distinct: its expert repeats itself, as a policy that "
            "takes its likeliest action does where little is random ('expert.mode: sample' varies)",
            job.task.id, distinct, episodes,
        )  # fmt: skip
    return written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The stage's own options."""
    parser.add_argument(
        "--domain",
        required=True,
        choices=(*PUBLISHED_DOMAINS, ENVIRONMENTS),
        help=f"whose tasks to play; '{ENVIRONMENTS}': those that the profile brings",
    )
    add_accept_code(parser)


if __name__ == "__main__":
    run_stage(
        main,
        "Collect the experts' episodes of one domain.",
        add_arguments,
        output=lambda arguments: paths.EPISODES / arguments.domain,
    )
