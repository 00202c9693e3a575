"""Typed ``params.yaml``: a bad key is one line that names it and the nearest valid one."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from pipeline.domains import DOMAINS, RL_DOMAINS
from pipeline.errors import UserError, did_you_mean
from pipeline.settings import (
    Evaluation,
    Jat,
    Positive,
    Publish,
    RLDomain,
    Settings,
    TextCorpus,
    VisionCorpus,
)
from pipeline.tasks import all_tasks, get_task


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
    random_episodes: Positive = 100
    """Episodes of uniform random play that give each task's random score."""
    text: tuple[TextCorpus, ...] = ()
    vision: tuple[VisionCorpus, ...] = ()
    jat: Jat = Jat()
    evaluation: Evaluation = Evaluation()
    publish: Publish = Publish()

    @model_validator(mode="after")
    def _tasks_in_their_domain(self) -> "Params":
        for name in RL_DOMAINS:
            for task in self.domain(name).tasks:
                if get_task(task).domain != name:
                    raise ValueError(f"{name}.tasks names '{task}', a task of another domain")
        return self

    @model_validator(mode="after")
    def _known_weights(self) -> "Params":
        corpora = [corpus.name for corpus in (*self.text, *self.vision)]
        known = [*DOMAINS, *all_tasks(), *corpora]
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
        return getattr(self, name)

    @property
    def tasks(self) -> list[str]:
        """Every RL task of the profile, domain by domain."""
        return [task for name in RL_DOMAINS for task in self.domain(name).tasks]


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
    """Parameters from plain values; UserError that names ``origin`` and the key."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {_first_error(error)}") from None


def _first_error(error: ValidationError) -> str:
    # An unknown key explains a missing one, so it is told first.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _fields_at(first["loc"][:-1])
        return f"unknown key '{key}'{did_you_mean(str(first['loc'][-1]), valid)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    return f"'{key}': {message}{shown}" if key else message


def _fields_at(path: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the group that ``path`` leads to."""
    model: Any = Params
    for part in path:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        arguments = getattr(annotation, "__args__", ())
        nested = [a for a in (annotation, *arguments) if isinstance(a, type)]
        model = next((a for a in nested if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
