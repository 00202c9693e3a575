"""Stage: what decides every other stage beside its data, each as a file that DVC watches.

``artifacts/code/<stage>.json`` has digests of the code that the stage's ``main`` reaches, what the
profile's domains add to it, and the values of its parameters with their defaults. It is computed
from ``dvc.yaml``, which lists none of this. A comment changes none of these files, a formula those
of the stages that use it.
"""

import shlex
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import fields
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from pipeline import closure
from pipeline.domains import CORPUS_DOMAINS, get_domain
from pipeline.engines import engine_of
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.paths import CODE
from pipeline.stage import run_stage, write_json
from pipeline.tasks import get_task
from pipeline.types import Domain

PIPELINE = Path("dvc.yaml")
LOOKUPS = {"pipeline.domains", "pipeline.tasks"}
"""Code that reaches these asks for domains by their names, which source does not tell."""


def stages() -> dict[str, dict[str, Any]]:
    """The stages of ``dvc.yaml`` that depend on such a file: name -> what is said of it."""
    if not PIPELINE.is_file():
        raise UserError(f"no '{PIPELINE}' here: run from the project's folder")
    known = yaml.safe_load(PIPELINE.read_text(encoding="utf8"))["stages"]
    return {
        name: stage
        for name, stage in known.items()
        if str(CODE / f"{name}.json") in map(str, stage.get("deps", []))
    }


def decides(params: Params, stage: dict[str, Any]) -> dict[str, Any]:
    """What decides a stage beside its data: ``code``, ``domains`` and ``params``."""
    words = shlex.split(stage["cmd"])
    main = f"{words[words.index('-m') + 1]}:main"
    asked = closure.follow(main, without=closure.PLUMBING - LOOKUPS)
    roots: list[closure.Root] = [main]
    plain = {}
    if ("pipeline.domains", "get_domain") in asked.symbols:
        for name in domains_of(params, words):
            plain[name] = {}
            for field, value in domain_facts(params, name):
                if field not in asked.attributes:
                    continue
                if isinstance(value, str | int | float | None):
                    plain[name][field] = value
                if callable(value) or (isinstance(value, str) and ":" in value):
                    roots.append(value)
    values = params.model_dump(mode="json")
    return {
        "code": closure.digests(*roots),
        "domains": plain,
        "params": {key: _value(values, key) for key in stage.get("params", [])},
    }


def domains_of(params: Params, words: list[str]) -> list[str]:
    """The domains that a command is about: its ``--domain``'s, or all that have tasks."""
    if "--domain" in words:
        return params.domains_of(words[words.index("--domain") + 1])
    return [*(name for name in params.rl_domains if params.domain(name).tasks), *CORPUS_DOMAINS]


def domain_facts(params: Params, name: str) -> Iterator[tuple[str, Any]]:
    """(field, value or code) of a domain; of engines and scripts those that the profile uses."""
    domain = get_domain(name)
    own = params.domain(name) if name in params.rl_domains else None
    for field in fields(Domain):
        value = getattr(domain, field.name)
        if field.name == "engines":
            for task in own.tasks if own else ():
                yield field.name, engine_of(get_task(task), params.env_of(task)).make
        elif field.name == "scripts":
            sources = own.expert.all_sources if own else ()
            yield from ((field.name, value[source]) for source in sources if source in value)
        else:
            yield field.name, value


def _value(values: dict[str, Any], key: str) -> Any:
    return reduce(lambda group, part: (group or {}).get(part), key.split("."), values)


def main(params: Params, arguments: Namespace) -> None:
    """Write a file for each stage."""
    for name, stage in stages().items():
        write_json(CODE / f"{name}.json", decides(params, stage))


if __name__ == "__main__":
    run_stage(main, "Write down the code and the parameters that decide each stage, for DVC.")
