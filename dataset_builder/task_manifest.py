"""What a task's folder of episodes says about itself: its shards, their origin and their totals."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from dataset_builder.statistics import Moments
from pipeline import manifest, paths
from pipeline.rollout import Dropped
from pipeline.stage import write_json
from pipeline.types import Task

Record = dict[str, Any]
"""A shard's ``.json``: its file, bytes and sha256, seeds, episodes, steps, drops; the return and
the digest of each episode."""


def write_manifest(
    task: Task, decides: dict[str, Any], expert: dict[str, Any], records: list[Record], **more: Any
) -> dict[str, Any]:
    """Write a task's manifest and remove every other shard; returns the manifest."""
    folder = paths.episodes_folder(task)
    returns, dropped = Moments(), Dropped()
    for record in records:
        returns.add(np.array(record["returns"]))
        for reason, count in record["dropped"].items():
            dropped.reasons[reason] = dropped.reasons.get(reason, 0) + count
    content = {
        "task": task.id,
        "fingerprint": manifest.fingerprint(decides),
        "decides": decides,
        "expert": expert,
        "files": [
            {key: value for key, value in record.items() if key not in ("returns", "digests")}
            for record in records
        ],
        "distinct": count_distinct(records),
        "totals": {
            key: sum(record[key] for record in records) for key in ("rows", "steps", "bytes")
        },
        "dropped": dropped.reasons,
        "returns": returns.summary(),
        **more,
    }
    kept = {record["file"] for record in records}
    for path in folder.glob("shard-*.*"):
        if path.with_suffix(".parquet").name not in kept:
            path.unlink()
    write_json(folder / manifest.NAME, content)
    return content


def count_distinct(records: list[Record]) -> int | None:
    """How many episodes differ from all others; None where shards do not tell."""
    if any("digests" not in record for record in records):
        return None
    return len({digest for record in records for digest in record["digests"]})


def totals(contents: Iterable[dict[str, Any]]) -> dict[str, int]:
    """What ``dvc metrics`` shows of a domain; the manifests tell it task by task."""
    sums = {"tasks": 0, "episodes": 0, "steps": 0, "bytes": 0, "dropped": 0}
    for content in contents:
        sums["tasks"] += 1
        sums["episodes"] += content["totals"]["rows"]
        sums["steps"] += content["totals"]["steps"]
        sums["bytes"] += content["totals"]["bytes"]
        sums["dropped"] += sum(content["dropped"].values())
    return sums
