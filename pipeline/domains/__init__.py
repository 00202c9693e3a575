"""One module a domain; ``get_domain`` imports it when it is first asked for."""

import importlib

from pipeline.errors import UserError, did_you_mean
from pipeline.types import Domain

RL_DOMAINS = ("mujoco", "metaworld", "babyai", "atari")
CORPUS_DOMAINS = ("text", "vision")
DOMAINS = RL_DOMAINS + CORPUS_DOMAINS


def get_domain(name: str) -> Domain:
    """The domain of that name; UserError with the nearest valid name otherwise."""
    if name not in DOMAINS:
        raise UserError(
            f"unknown domain '{name}'{did_you_mean(name, DOMAINS)}: one of {', '.join(DOMAINS)}"
        )
    return importlib.import_module(f"pipeline.domains.{name}").DOMAIN
