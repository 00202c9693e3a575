"""Every task by its id: the 157 of JAT, and those that a profile or a package brings.

One registry in each process; ``fan_out`` hands it on to the processes that it starts.
"""

from collections.abc import Iterable
from functools import lru_cache

from pipeline.domains import PUBLISHED_DOMAINS, get_domain
from pipeline.errors import UserError, did_you_mean
from pipeline.types import Task

_brought: dict[str, Task] = {}
"""The tasks that are not JAT's, by id."""


@lru_cache
def published_tasks() -> dict[str, Task]:
    """Task id -> task, of the 157 published ones."""
    return {task.id: task for name in PUBLISHED_DOMAINS for task in get_domain(name).tasks()}


def all_tasks() -> dict[str, Task]:
    """Task id -> task, of all that this process knows."""
    return published_tasks() | _brought


def get_task(id: str) -> Task:
    """The task of that id; UserError with the nearest valid id otherwise."""
    tasks = all_tasks()
    if id not in tasks:
        raise UserError(
            f"unknown task '{id}'{did_you_mean(id, tasks)}: "
            "`python -m pipeline.tasks` lists the published ones"
        )
    return tasks[id]


def tasks_of(name: str) -> list[Task]:
    """All tasks of the domain of that name, in the order of the table."""
    return [task for task in all_tasks().values() if name == task.domain]


def bring(tasks: Iterable[Task]) -> None:
    """Make tasks known by their ids, in the place of those that were brought before."""
    new = {task.id: task for task in tasks}
    if taken := sorted(new.keys() & published_tasks().keys()):
        raise UserError(f"'{taken[0]}' is the id of a published task: choose another")
    _brought.clear()
    _brought.update(new)


def brought() -> tuple[Task, ...]:
    """The tasks that were brought, for another process to bring them too."""
    return tuple(_brought.values())


if __name__ == "__main__":
    for task in all_tasks().values():
        print(f"{task.id:40} {task.engine:10} {task.gymnasium_id}")
