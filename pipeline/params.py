"""Typed ``params.yaml``: a mistake is one line that names the line, the key and the remedy."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from pipeline import domains, tasks
from pipeline.described import described, model_problems
from pipeline.document import Mistake, Place, read_document
from pipeline.domains import PUBLISHED_DOMAINS, get_domain, stage_of
from pipeline.domains.gymnasium import Environment, make_task
from pipeline.errors import UserError, did_you_mean, shown, told
from pipeline.options import Few, Listed, Positive, Settings
from pipeline.settings import (
    HUB_EXPERT,
    BroughtDomain,
    Evaluation,
    GymnasiumDomain,
    Jat,
    Publish,
    RLDomain,
    TextCorpus,
    VisionCorpus,
    known_domains,
)
from pipeline.tasks import all_tasks, get_task

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
"""The id of a task or the name of a domain."""
SOURCES = ("train", "shipped", "hub", "file")
"""What every domain's experts may come from."""
OF_TASKS = ("sources", "task_steps", "task_envs", "task_recipe", "task_mode")
"""The keys of ``expert`` that say something of single tasks."""


class Params(Settings):
    """The whole of ``params.yaml``."""

    profile: Annotated[str, Field(max_length=100)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    workers: Few = 2
    """CPU cores that the fan-out may use; it never changes what is computed."""
    mujoco: RLDomain
    metaworld: RLDomain
    babyai: RLDomain
    atari: RLDomain
    environments: dict[Name, Environment] = {}
    """Task id -> any Gymnasium environment, which becomes a task of the domain ``gymnasium``."""
    gymnasium: GymnasiumDomain = GymnasiumDomain()
    domains: dict[Name, BroughtDomain] = {}
    """Name -> a domain that is no part of this project."""
    random_episodes: Positive = 100
    """Episodes of uniform random play that give each task's random score."""
    text: Listed[TextCorpus] = ()
    vision: Listed[VisionCorpus] = ()
    jat: Jat = Jat()
    evaluation: Evaluation = Evaluation()
    publish: Publish = Publish()

    def domain(self, name: str) -> RLDomain:
        """The parameters of one RL domain."""
        return self.domains[name] if name in self.domains else getattr(self, name)

    @property
    def rl_domains(self) -> list[str]:
        """The names of all domains of environments that the profile may have tasks of."""
        return [*PUBLISHED_DOMAINS, *(["gymnasium"] if self.environments else []), *self.domains]

    def domains_of(self, stage: str) -> list[str]:
        """The domains that a stage is for: one of JAT's, or all ``environments`` beside them."""
        return [name for name in self.rl_domains if stage_of(name) == stage]

    @property
    def tasks(self) -> list[str]:
        """Every RL task of the profile, domain by domain."""
        return [task for name in self.rl_domains for task in self.domain(name).tasks]

    def env_of(self, task: str) -> dict[str, Any]:
        """The options of one task's environments."""
        name = get_task(task).domain
        return self.domain(name).env_of(task) if name in self.rl_domains else {}

    def place_of(self, name: str) -> Place:
        """The key that one RL domain's parameters stand under."""
        return ("domains", name) if name in self.domains else (name,)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file; UserError in one line that names line and key."""
    document = read_document(path)
    reading = read_params(document.values, document.path)
    if mistakes := [*document.mistakes, *reading.mistakes]:
        raise UserError(document.tell(mistakes[0]))
    return reading.params


def validate_params(values: dict[str, Any], origin: str) -> Params:
    """Parameters from plain values; UserError that names ``origin`` and the key.

    The environments and domains that they bring are known to this process from then on.
    """
    reading = read_params(values, origin)
    if reading.mistakes:
        raise UserError(f"{origin}: {reading.mistakes[0].message}")
    return reading.params


@dataclass(frozen=True)
class Reading:
    """What could be read, and what not."""

    params: Params
    """The parameters less what is wrong in them, in whose place are defaults."""
    mistakes: list[Mistake]
    """Everything that is wrong, what explains the most first."""


def read_params(values: dict[str, Any], origin: str) -> Reading:
    """All mistakes in plain values, and the parameters without them.

    The environments and domains that they bring are known to this process from then on.
    """
    values = copy.deepcopy(values)
    mistakes = _bring_own(values, Path(origin).parent)
    params, wrong = _without_errors(values)
    mistakes += wrong
    mistakes += _further_mistakes(params, [mistake.place for mistake in mistakes])
    return Reading(params, mistakes)


def _further_mistakes(params: Params, known: list[Place]) -> Iterator[Mistake]:
    """The mistakes of values that are well formed, less those that follow from ``known`` ones."""
    for name in params.rl_domains:
        yield from _less(domain_mistakes(name, params), known)
    yield from _less(jat_mistakes(params), known)
    yield from _less(corpus_mistakes(params), known)


def _less(mistakes: Iterable[Mistake], known: list[Place]) -> Iterator[Mistake]:
    for mistake in mistakes:
        if not any(place == mistake.place[: len(place)] for place in known):
            yield mistake


# ---------------------------------------------------------------- what a profile brings


def _bring_own(values: dict[str, Any], folder: Path) -> list[Mistake]:
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
    for name, module in modules.items():
        own = list(get_domain(name).tasks())
        values["domains"][name]["module"] = module
        values["domains"][name].setdefault("tasks", [task.id for task in own])
        new += own
    for task in list(new):
        if task.id in tasks.published_tasks():
            key = "environments" if task.domain == "gymnasium" else "domains"
            message = f"'{task.id}' is the id of a published task: choose another"
            mistakes.append(Mistake((key, task.id), message))
            new.remove(task)
    tasks.bring(new)
    gymnasium = values.setdefault("gymnasium", {}) if values.get("environments") else None
    if isinstance(gymnasium, dict):
        gymnasium.setdefault("tasks", [task.id for task in new if task.domain == "gymnasium"])
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


# ---------------------------------------------------------------- values of another shape


COLLECT = {"episodes": 1}
REQUIRED: dict[str, Any] = {
    "profile": "?",
    **{name: {"collect": COLLECT} for name in PUBLISHED_DOMAINS},
}
"""What stands in for the keys that must be there, where they are missing or wrong."""
ROUNDS = 20
"""How often what is wrong is removed: a key, its group, the group of that, …"""


def _without_errors(values: dict[str, Any]) -> tuple[Params, list[Mistake]]:
    """The parameters less what does not have their shape, and what that is."""
    found: list[Mistake] | None = None
    for _ in range(ROUNDS):
        try:
            return Params.model_validate(values), found or []
        except ValidationError as error:
            errors = error.errors(include_url=False)
            if found is None:
                # An unknown key explains a missing one, so it is told first.
                told = sorted(errors, key=lambda e: e["type"] != "extra_forbidden")
                found = [_mistake(one) for one in told]
            for one in reversed(errors):
                _remove(values, _place(one), one["type"])
    return Params.model_validate(REQUIRED), found or []


def _remove(values: Any, place: Place, error: str) -> None:
    """Remove the value that an error is about; what must be there gets a stand-in."""
    stand_in: Any = None
    if error != "extra_forbidden" and place:
        stand_in = REQUIRED.get(str(place[0])) if len(place) == 1 else None
        stand_in = COLLECT if len(place) > 1 and place[-1] == "collect" else stand_in
    if error == "missing" and stand_in is None:  # without it, the group is none
        place = place[:-1]
    group = values
    for part in place[:-1]:
        if not _has(group, part):
            return
        group = group[part]
    if place and _has(group, place[-1]):
        del group[place[-1]]
    if place and stand_in is not None:
        group[place[-1]] = copy.deepcopy(stand_in)


def _has(group: Any, part: Any) -> bool:
    if isinstance(group, list):
        return isinstance(part, int) and part < len(group)
    return isinstance(group, dict) and part in group


def _place(error: Any) -> Place:
    return tuple(part for part in error["loc"] if part != "[key]")


def _mistake(error: Any, model: Any = Params, prefix: Place = ()) -> Mistake:
    """One of pydantic's errors as a line; ``prefix`` leads to the values that ``model`` is of."""
    place = (*prefix, *_place(error))
    key = _dotted(place)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(place[-1]), _fields_at(model, _place(error)[:-1]))
        return Mistake(place, f"unknown key '{key}'{hint}")
    if error["type"] == "missing":
        return Mistake(place, f"key '{key}' is missing")
    return Mistake(place, f"'{key}': {told(error)}" if key else told(error))


def _dotted(place: Place) -> str:
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


# ---------------------------------------------------------------- values that name something


def domain_mistakes(name: str, params: Params) -> Iterator[Mistake]:
    """What one domain's parameters name that the domain does not have."""
    domain, settings, key = get_domain(name), params.domain(name), params.place_of(name)
    expert, known = settings.expert, [task.id for task in tasks.tasks_of(name)]
    for k, task in enumerate(settings.tasks):
        if task not in known:
            where = (*key, "tasks", k)
            yield Mistake(
                where, f"'{_dotted(where[:-1])}' names '{task}', a task of another domain"
            )
    by_task = {(*key, "expert", field): getattr(expert, field) for field in OF_TASKS}
    for group, values in {(*key, "task_env"): settings.task_env, **by_task}.items():
        for task in values:
            if task not in known:
                hint = did_you_mean(task, known)
                text = f"'{_dotted(group)}' names {shown(task)}, which is no task of '{name}'{hint}"
                yield Mistake((*group, task), text)
    of_tasks = {(*key, "task_env", task): options for task, options in settings.task_env.items()}
    for group, options in {(*key, "env"): settings.env, **of_tasks}.items():
        try:
            checked = domain.options.model_validate(options)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                yield _mistake(one, domain.options, group)
            continue
        if checked.engine and checked.engine not in domain.engines:
            where = (*group, "engine")
            engines = ", ".join(domain.engines)
            text = f"{_dotted(where)} is {shown(checked.engine)}, not one of {engines}"
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
            yield Mistake(where, f"{_dotted((*key, 'expert'))}: {text}")
    recipes = {(*key, "expert", "task_recipe", task): r for task, r in expert.task_recipe.items()}
    for group, recipe in {(*key, "expert", "recipe"): expert.recipe, **recipes}.items():
        for setting, problem in described("recipe").problems(recipe):
            where = (*group, setting)
            yield Mistake(where, f"'{_dotted(where)}' {problem}")


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
                yield Mistake(where, f"'{_dotted(where)}': {taken} has this name: choose another")
            seen.setdefault(corpus.name, f"'{kind}.{k}'")
