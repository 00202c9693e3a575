"""Typed ``params.yaml``: a bad key is one line that names it and the nearest valid one."""

import copy
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from pipeline import domains, tasks
from pipeline.domains import PUBLISHED_DOMAINS, get_domain, stage_of
from pipeline.domains.gymnasium import Environment, make_task
from pipeline.errors import UserError, did_you_mean
from pipeline.options import Settings
from pipeline.settings import (
    BroughtDomain,
    Evaluation,
    GymnasiumDomain,
    Jat,
    Positive,
    Publish,
    RLDomain,
    TextCorpus,
    VisionCorpus,
    known_domains,
)
from pipeline.tasks import all_tasks, get_task

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
"""The id of a task or the name of a domain."""
SOURCES = ("train", "shipped", "hub", "file")
"""What every domain's experts may come from."""


class Params(Settings):
    """The whole of ``params.yaml``."""

    profile: str
    seed: Annotated[int, Field(ge=0)] = 0
    workers: Positive = 2
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
    text: tuple[TextCorpus, ...] = ()
    vision: tuple[VisionCorpus, ...] = ()
    jat: Jat = Jat()
    evaluation: Evaluation = Evaluation()
    publish: Publish = Publish()

    @model_validator(mode="after")
    def _domains_know_what_is_said(self) -> "Params":
        for name in self.rl_domains:
            _check_domain(name, self.domain(name))
        return self

    @model_validator(mode="after")
    def _known_weights(self) -> "Params":
        corpora = [corpus.name for corpus in (*self.text, *self.vision)]
        known = [*known_domains(), *all_tasks(), *corpora]
        for key in ("weights", "loss_weights"):
            for name in getattr(self.jat, key):
                if name not in known:
                    raise ValueError(
                        f"jat.{key} names '{name}', which is no task, corpus or domain"
                        f"{did_you_mean(name, known)}"
                    )
        return self

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


def _check_domain(name: str, settings: RLDomain) -> None:
    """ValueError if a domain's parameters name what the domain does not have."""
    domain, known = get_domain(name), [task.id for task in tasks.tasks_of(name)]
    key = f"domains.{name}" if isinstance(settings, BroughtDomain) else name
    for task in settings.tasks:
        if name != get_task(task).domain:
            raise ValueError(f"{key}.tasks names '{task}', a task of another domain")
    for task in settings.task_env:
        if task not in known:
            raise ValueError(f"{key}.task_env names '{task}'{did_you_mean(task, known)}")
    of_tasks = {f"task_env.{task}": options for task, options in settings.task_env.items()}
    for group, options in {"env": settings.env, **of_tasks}.items():
        try:
            domain.options.model_validate(options)
        except ValidationError as error:
            raise ValueError(_first_error(error, domain.options, f"{key}.{group}.")) from None
        if (engine := options.get("engine")) and engine not in domain.engines:
            raise ValueError(
                f"{key}.{group}.engine is '{engine}', not one of {', '.join(domain.engines)}"
            )
    for source in settings.expert.all_sources:
        kind, _, rest = source.partition(":")
        valid = [*SOURCES[:2], *domain.scripts, "hub:<repo>@<revision>", "file:<path>"]
        if source not in valid and (kind not in SOURCES[2:] or not rest):
            raise ValueError(f"{key}.expert: source '{source}' is not one of {', '.join(valid)}")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file; UserError in one line that names the key."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf8"))
    except FileNotFoundError:
        raise UserError(
            f"no parameter file '{path}': run from the project's folder or pass --params"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read '{path}' ({error.strerror}): --params takes a file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"'{path}' must hold a mapping of parameters, like the one shipped")
    return validate_params(raw, str(path))


def validate_params(values: dict[str, Any], origin: str) -> Params:
    """Parameters from plain values; UserError that names ``origin`` and the key.

    The environments and domains that they bring are known to this process from then on.
    """
    try:
        return Params.model_validate(_bring_own(values, origin))
    except ValidationError as error:
        raise UserError(f"{origin}: {_first_error(error)}") from None


class _Brings(BaseModel):
    """The part of the parameters that says which tasks there are."""

    environments: dict[Name, Environment] = {}
    domains: dict[Name, dict[str, Any]] = {}


def _bring_own(values: dict[str, Any], origin: str) -> dict[str, Any]:
    """Make known what the parameters bring; the parameters with all tasks named."""
    values = copy.deepcopy(values)
    given = {key: values[key] for key in _Brings.model_fields if values.get(key) is not None}
    brings = _Brings.model_validate(given)
    modules = {
        name: _module(name, group.get("module"), Path(origin).parent)
        for name, group in brings.domains.items()
    }
    domains.bring(modules)
    new = [make_task(name, environment) for name, environment in brings.environments.items()]
    for name, module in modules.items():
        own = list(get_domain(name).tasks())
        values["domains"][name]["module"] = module
        values["domains"][name].setdefault("tasks", [task.id for task in own])
        new += own
    tasks.bring(new)
    if brings.environments and isinstance(group := values.setdefault("gymnasium", {}), dict):
        group.setdefault("tasks", list(brings.environments))
    return values


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


def _first_error(error: ValidationError, model: Any = Params, prefix: str = "") -> str:
    # An unknown key explains a missing one, so it is told first.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = prefix + ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        valid = _fields_at(model, first["loc"][:-1])
        return f"unknown key '{key}'{did_you_mean(str(first['loc'][-1]), valid)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    return f"'{key}': {message}{shown}" if key else message


def _fields_at(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the group that ``path`` leads to."""
    for part in path:
        if part not in model.model_fields:  # a place in a list, or a name of the user's
            continue
        annotation = model.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", ())
        nested = [a for a in (annotation, *arguments) if isinstance(a, type)]
        model = next((a for a in nested if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
