"""How far each engine was measured to be the task: ``data/parity.csv``, one row a task.

``python -m benchmarks.parity --ship`` writes it.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from pipeline.tasks import published_tasks


@dataclass(frozen=True)
class Parity:
    """What a comparison of an engine with the reference implementation of a task found."""

    engine: str
    simulator: str
    """The simulator that the engine loaded, and its version."""
    reference: str
    """The packages that define the task, with their versions."""
    differs: str
    """What differs beyond noise, in words; empty where nothing does."""

    def __str__(self) -> str:
        return f"differs: {self.differs}" if self.differs else "equal"


def table_file() -> Traversable:
    """The shipped table."""
    return files("pipeline") / "data" / "parity.csv"


@lru_cache
def table() -> dict[str, Parity]:
    """Task id -> what was found."""
    text = table_file().read_text(encoding="utf8")
    return {
        row["task"]: Parity(row["engine"], row["simulator"], row["reference"], row["differs_in"])
        for row in csv.DictReader(text.splitlines())
    }


def parity_of(task: str, engine: Mapping[str, str]) -> str:
    """The verdict on a task played as ``pipeline.engines.identity`` says.

    ``equal``, ``differs: …``, ``not measured``, or that the environment is not one of JAT's.
    """
    found = table().get(task)
    if task not in published_tasks():
        return "its own reference"
    if found is None or (found.engine, found.simulator) != (engine["engine"], engine["simulator"]):
        return "not measured"
    return str(found)
