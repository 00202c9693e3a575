"""The environments and domains that a profile brings, made known before it is checked."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import domains, tasks
from pipeline.document import Mistake
from pipeline.domains import get_domain
from pipeline.domains.gymnasium import Environment, make_task
from pipeline.errors import UserError


def bring_own(values: dict[str, Any], folder: Path) -> list[Mistake]:
    """Make known what the parameters bring, and name all tasks in ``values``; what cannot be
    brought is a mistake and goes from ``values``.
    """
    mistakes: list[Mistake] = []
    modules: dict[str, str] = {}
    for name, group in list(_groups(values, "domains")):
        try:
            modules[name] = _module(name, group.get("module"), folder)
            domains.bring(modules)
            get_domain(name).tasks()
        except Exception as error:  # a user's module may raise anything
            what = str(error) if isinstance(error, UserError) else f"'domains.{name}': {error!r}"
            mistakes.append(Mistake(("domains", name, "module"), what))
            modules.pop(name, None)
            del values["domains"][name]
    domains.bring(modules)
    new = []
    for name, group in list(_groups(values, "environments")):
        try:
            new.append(make_task(name, Environment.model_validate(group)))
        except ValidationError:
            continue  # it is told with all the others
        except UserError as error:
            mistakes.append(Mistake(("environments", name), str(error)))
            del values["environments"][name]
    environments = {task.id for task in new}
    for name, module in modules.items():
        own = list(get_domain(name).tasks())
        values["domains"][name]["module"] = module
        values["domains"][name].setdefault("tasks", [task.id for task in own])
        new += own
    for task in list(new):
        if task.id in tasks.published_tasks():
            key = "environments" if task.id in environments else "domains"
            message = f"'{task.id}' is the id of a published task: choose another"
            mistakes.append(Mistake((key, task.id), message))
            new.remove(task)
    tasks.bring(new)
    gymnasium = values.setdefault("gymnasium", {}) if values.get("environments") else None
    if isinstance(gymnasium, dict):
        gymnasium.setdefault("tasks", [task.id for task in new if task.id in environments])
    return mistakes


def _groups(values: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The named groups under a key, as far as they are well formed."""
    groups = values.get(key)
    if isinstance(groups, dict):
        for name, group in groups.items():
            if isinstance(name, str) and isinstance(group, dict):
                yield name, group


def _module(name: str, where: Any, folder: Path) -> str:
    """The absolute path or the dotted name of a domain's module."""
    if where is None:
        where = domains.installed(name)
        if where is None:
            raise UserError(
                f"'domains.{name}': no installed package offers this domain (entry point group "
                f"'{domains.GROUP}'): name its file or module under 'domains.{name}.module'"
            )
    if not isinstance(where, str):
        raise UserError(f"'domains.{name}.module' is neither a file nor a module's name")
    return str((folder / where).resolve()) if where.endswith(".py") else where
