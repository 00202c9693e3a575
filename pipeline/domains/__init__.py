"""One module a domain; ``get_domain`` imports it when it is first asked for.

A domain of one's own is one file anywhere that defines ``DOMAIN``. A profile names it under
``domains``, by path or as ``package.module``; an installed package offers it as an entry point of
the group ``jat.domains``.
"""

import importlib
import importlib.util
import sys
from importlib.metadata import entry_points
from pathlib import Path

from pipeline.errors import UserError, did_you_mean
from pipeline.types import Domain

PUBLISHED_DOMAINS = ("mujoco", "metaworld", "babyai", "atari")
"""The domains of JAT's environments."""
CORPUS_DOMAINS = ("text", "vision")
SHIPPED_DOMAINS = (*PUBLISHED_DOMAINS, "gymnasium", *CORPUS_DOMAINS)
"""The domains that have a module in this package."""
ENVIRONMENTS = "environments"
"""What stages call all domains together that are not JAT's: their outputs share a folder."""
GROUP = "jat.domains"

_brought: dict[str, str] = {}
"""Name -> path or dotted name of the module, of domains that a profile names."""


def stage_of(domain: str) -> str:
    """The stages that a domain belongs to: its own, or those of the brought environments."""
    return domain if domain in PUBLISHED_DOMAINS else ENVIRONMENTS


def bring(modules: dict[str, str]) -> None:
    """Make domains known by name, in the place of those that were brought before."""
    for name in modules:
        if name in SHIPPED_DOMAINS:
            raise UserError(f"'{name}' is the name of a domain of this project: choose another")
    _brought.clear()
    _brought.update(modules)


def brought() -> dict[str, str]:
    """The domains that were brought, for another process to bring them too."""
    return dict(_brought)


def module_name(name: str) -> str:
    """The name under which the module of a domain is imported."""
    if name in SHIPPED_DOMAINS:
        return f"pipeline.domains.{name}"
    where = _brought[name]
    return f"jat_domain_{name.replace('-', '_')}" if where.endswith(".py") else where


def get_domain(name: str) -> Domain:
    """The domain of that name; UserError with the nearest valid name otherwise."""
    if name in SHIPPED_DOMAINS:
        return importlib.import_module(module_name(name)).DOMAIN
    if name in _brought:
        return _import(name, _brought[name])
    known = (*SHIPPED_DOMAINS, *_brought, *(entry.name for entry in entry_points(group=GROUP)))
    raise UserError(
        f"unknown domain '{name}'{did_you_mean(name, known)}: one of {', '.join(known)}"
    )


def installed(name: str) -> str | None:
    """The module in which an installed package offers the domain, if one does."""
    found = entry_points(group=GROUP, name=name)
    return next((entry.module for entry in found), None)


def _import(name: str, where: str) -> Domain:
    try:
        module = _load_file(name, Path(where)) if where.endswith(".py") else _load_module(where)
    except UserError:
        raise
    except Exception as error:  # a user's module may raise anything while it is imported
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"domain '{name}' cannot be imported from '{where}' ({reason})") from error
    domain = getattr(module, "DOMAIN", None)
    if not isinstance(domain, Domain) or domain.name != name:
        raise UserError(
            f"'{where}' has no DOMAIN = pipeline.types.Domain(name='{name}', …): define it there"
        )
    return domain


def _load_module(dotted: str):
    return importlib.import_module(dotted)


def _load_file(name: str, path: Path):
    """The module of a file, imported once a process and found again by pickled objects."""
    unique = module_name(name)
    known = sys.modules.get(unique)
    if known is not None and known.__file__ == str(path):
        return known
    if not path.is_file():
        raise UserError(f"domain '{name}': no file '{path}'")
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module
