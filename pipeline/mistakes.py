"""What may be wrong with a profile's values beyond their shape: they name what is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from pipeline import tasks
from pipeline.described import described, model_problems
from pipeline.document import Mistake, Place
from pipeline.domains import get_domain
from pipeline.errors import did_you_mean, shown, told
from pipeline.settings import HUB_EXPERT, known_domains
from pipeline.tasks import all_tasks

if TYPE_CHECKING:
    from pipeline.params import Params

SOURCES = ("train", "shipped", "hub", "file")
"""What every domain's experts may come from."""
OF_TASKS = ("sources", "task_steps", "task_envs", "task_recipe", "task_mode")
"""The keys of ``expert`` that say something of single tasks."""


def domain_mistakes(name: str, params: Params) -> Iterator[Mistake]:
    """What one domain's parameters name that the domain does not have."""
    domain, settings, key = get_domain(name), params.domain(name), params.place_of(name)
    expert, known = settings.expert, [task.id for task in tasks.tasks_of(name)]
    for k, task in enumerate(settings.tasks):
        if task not in known:
            where = (*key, "tasks", k)
            yield Mistake(where, f"'{dotted(where[:-1])}' names '{task}', a task of another domain")
    by_task = {(*key, "expert", field): getattr(expert, field) for field in OF_TASKS}
    for group, values in {(*key, "task_env"): settings.task_env, **by_task}.items():
        for task in values:
            if task not in known:
                hint = did_you_mean(task, known)
                text = f"'{dotted(group)}' names {shown(task)}, which is no task of '{name}'{hint}"
                yield Mistake((*group, task), text)
    of_tasks = {(*key, "task_env", task): options for task, options in settings.task_env.items()}
    for group, options in {(*key, "env"): settings.env, **of_tasks}.items():
        try:
            checked = domain.options.model_validate(options)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                yield mistake_of(one, domain.options, group)
            continue
        if checked.engine and checked.engine not in domain.engines:
            where = (*group, "engine")
            engines = ", ".join(domain.engines)
            text = f"{dotted(where)} is {shown(checked.engine)}, not one of {engines}"
            yield Mistake(where, text)
    named = {(*key, "expert", "sources", task): source for task, source in expert.sources.items()}
    valid = [*SOURCES[:2], *domain.scripts, "hub:<owner>/<repo>@<revision>", "file:<path>"]
    for where, source in {(*key, "expert", "source"): expert.source, **named}.items():
        kind, _, rest = source.partition(":")
        wrong = (
            kind not in SOURCES[2:]
            or not rest
            or (kind == "hub" and not HUB_EXPERT.fullmatch(source))
        )
        if source not in valid and wrong:
            text = f"source {shown(source)} is not one of {', '.join(valid)}"
            yield Mistake(where, f"{dotted((*key, 'expert'))}: {text}")
    recipes = {(*key, "expert", "task_recipe", task): r for task, r in expert.task_recipe.items()}
    for group, recipe in {(*key, "expert", "recipe"): expert.recipe, **recipes}.items():
        for setting, problem in described("recipe").problems(recipe):
            where = (*group, setting)
            yield Mistake(where, f"'{dotted(where)}' {problem}")


def jat_mistakes(params: Params) -> Iterator[Mistake]:
    """Weights of what is not there, and a network that cannot be."""
    corpora = [corpus.name for corpus in (*params.text, *params.vision)]
    known = [*known_domains(), *all_tasks(), *corpora]
    for key in ("weights", "loss_weights"):
        for name in getattr(params.jat, key):
            if name not in known:
                text = f"jat.{key} names {shown(name)}, which is no task, corpus or domain"
                yield Mistake(("jat", key, name), f"{text}{did_you_mean(name, known)}")
    fields, own = described("jat_config"), params.jat.model
    problems = list(fields.problems(own)) or model_problems(fields.filled(own, params.jat.preset))
    for name, problem in problems:
        yield Mistake(("jat", "model", name), f"'jat.model.{name}' {problem}")


def corpus_mistakes(params: Params) -> Iterator[Mistake]:
    """Two corpora, or a corpus and a task, of one name: each is a folder of the dataset."""
    seen: dict[str, str] = {task: f"the task '{task}'" for task in all_tasks()}
    for kind in ("text", "vision"):
        for k, corpus in enumerate(getattr(params, kind)):
            if corpus.name in seen:
                where = (kind, k, "name")
                taken = seen[corpus.name]
                yield Mistake(where, f"'{dotted(where)}': {taken} has this name: choose another")
            seen.setdefault(corpus.name, f"'{kind}.{k}'")


def place_of(error: Any) -> Place:
    """The keys that lead to the value that a pydantic error (of ``errors()``) is about."""
    return tuple(part for part in error["loc"] if part != "[key]")


def mistake_of(error: Any, model: Any, prefix: Place = ()) -> Mistake:
    """One of pydantic's errors as a line; ``prefix`` leads to the values that ``model`` is of."""
    place = (*prefix, *place_of(error))
    key = dotted(place)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(place[-1]), _fields_at(model, place_of(error)[:-1]))
        return Mistake(place, f"unknown key '{key}'{hint}")
    if error["type"] == "missing":
        return Mistake(place, f"key '{key}' is missing")
    return Mistake(place, f"'{key}': {told(error)}" if key else told(error))


def dotted(place: Place) -> str:
    """A place as an error names it."""
    return ".".join(map(str, place))


def _fields_at(model: Any, path: Place) -> list[str]:
    """The valid keys of the group that ``path`` leads to."""
    for part in path:
        if part not in model.model_fields:  # a place in a list, or a name of the user's
            continue
        annotation = model.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", ())
        nested = [a for a in (annotation, *arguments) if isinstance(a, type)]
        model = next((a for a in nested if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
