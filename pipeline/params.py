"""Typed ``params.yaml``: a mistake is one line that names the line, the key and the remedy."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from pipeline.bring import bring_own
from pipeline.document import Mistake, Place, read_document
from pipeline.domains import PUBLISHED_DOMAINS, stage_of
from pipeline.domains.gymnasium import Environment
from pipeline.errors import UserError
from pipeline.mistakes import (
    corpus_mistakes,
    domain_mistakes,
    jat_mistakes,
    mistake_of,
    place_of,
)
from pipeline.options import Few, Listed, Positive, Settings
from pipeline.settings import (
    BroughtDomain,
    Evaluation,
    GymnasiumDomain,
    Jat,
    Publish,
    RLDomain,
    TextCorpus,
    VisionCorpus,
)
from pipeline.tasks import get_task

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
"""The id of a task or the name of a domain."""


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
    mistakes = bring_own(values, Path(origin).parent)
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
                found = [mistake_of(one, Params) for one in told]
            for one in reversed(errors):
                _remove(values, place_of(one), one["type"])
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
