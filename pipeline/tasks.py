"""The 157 tasks of JAT, from ``data/tasks.csv``: one row a task, one spelling of each id."""

import csv
import dataclasses
from functools import lru_cache
from importlib.resources import files

from pipeline.errors import UserError, did_you_mean
from pipeline.types import Task

CORRECTIONS = {
    "atari-battlezone": {"random_mean": 2360.0},
    "atari-videopinball": {"random_mean": 16256.9},
    "atari-doubledunk": {"human_mean": -16.4},
    "atari-fishingderby": {"human_mean": -38.7},
    "atari-tennis": {"human_mean": -8.3},
}
"""Reference scores published with JAT that differ from their source (Mnih et al. 2015, Table 2;
Wang et al. 2016): a digit and four signs were lost. ``data/tasks.csv`` keeps the published ones."""


@lru_cache
def published_tasks() -> dict[str, Task]:
    """Task id -> task with the reference scores exactly as JAT published them."""
    text = (files("pipeline") / "data" / "tasks.csv").read_text(encoding="utf8")
    tasks = {}
    for row in csv.DictReader(text.splitlines()):
        scores = {
            key: float(row[key]) if row[key] else None
            for key in ("random_mean", "expert_mean", "expert_std", "human_mean")
        }
        tasks[row["task"]] = Task(
            row["task"],
            row["domain"],
            row["title"],
            row["gymnasium_id"],
            row["envpool_id"],
            **scores,
        )
    return tasks


@lru_cache
def all_tasks() -> dict[str, Task]:
    """Task id -> task, with the corrected reference scores."""
    return {
        id: dataclasses.replace(task, **CORRECTIONS.get(id, {}))
        for id, task in published_tasks().items()
    }


def get_task(id: str) -> Task:
    """The task of that id; UserError with the nearest valid id otherwise."""
    tasks = all_tasks()
    if id not in tasks:
        raise UserError(
            f"unknown task '{id}'{did_you_mean(id, tasks)}: "
            "`python -m pipeline.tasks` lists all 157"
        )
    return tasks[id]


def tasks_of(domain: str) -> list[Task]:
    """All tasks of one domain, in the order of the table."""
    return [task for task in all_tasks().values() if task.domain == domain]


if __name__ == "__main__":
    for task in all_tasks().values():
        print(f"{task.id:40} {task.envpool_id}")
