"""The simulators behind the one ``VectorEnv`` contract.

``make_envs`` is how every stage makes environments: training, collection, evaluation, replay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from pipeline import closure
from pipeline.domains import get_domain
from pipeline.errors import UserError, did_you_mean
from pipeline.types import Engine, Task, VectorEnv


def make_envs(task: Task, seeds: Sequence[int], threads: int = 1, **options: Any) -> VectorEnv:
    """One environment of the task for each seed, played by the engine that is the task.

    ``options`` are those of the task's domain (``Domain.options``); what the engine has to be told
    to play this task is added. UserError when the engine or its simulator is not the one asked for.
    """
    name, engine = _engine(task, options)
    expected = options.pop("simulator", None) or engine.simulator
    options.pop("engine", None)
    found = engine.loaded(task)
    if expected and found != expected:
        raise UserError(
            f"{task.id} is defined on {expected}, but engine '{name}' loads {found}: install that "
            f"version, or accept this one by 'env.simulator: {found}'"
        )
    return engine.make(task, seeds, threads=threads, **{**task.settings.get(name, {}), **options})


def render_options(task: Task) -> dict[str, Any]:
    """The options with which ``make_envs`` makes environments whose ``render`` draws them.

    They go before those of the profile, as the engine that plays may not be able to draw.
    """
    renderer = get_domain(task.domain).renderer
    drawn = {"engine": renderer, "simulator": None} if renderer else {}
    return {"render_mode": "rgb_array", **drawn}


def decided_options(task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a task's environments, beyond its id: the profile's options, what the engine is
    told to play this task, and the engine where it is not the domain's first.

    ``make_envs(task, seeds, **decided_options(...))`` makes the very same environments.
    """
    name, _ = _engine(task, options)
    first = next(iter(get_domain(task.domain).engines))
    named = {} if name == first == task.engine else {"engine": name}
    rest = {key: value for key, value in options.items() if key != "engine"}
    return {**named, **task.settings.get(name, {}), **rest}


def stored_options(task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that ``decided_options`` gave, read from a file; UserError if they are others:
    a file from elsewhere must not tell a simulator what a profile may not.
    """
    model = get_domain(task.domain).options
    try:
        named = model.model_validate({k: v for k, v in options.items() if k == "engine"})
        told = task.settings.get(named.engine or task.engine, {})
        model.model_validate({k: v for k, v in options.items() if k not in told or told[k] != v})
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{task.id}: the option '{key}' is none of its environments'") from None
    _engine(task, options)
    return dict(options)


def independent(task: Task, options: Mapping[str, Any]) -> bool:
    """Whether an episode can be played without those before it in its slot."""
    return _engine(task, options)[1].independent


def identity(task: Task, options: Mapping[str, Any]) -> dict[str, str]:
    """Who plays the task: ``engine`` and the ``simulator`` that is really loaded."""
    name, engine = _engine(task, options)
    return {"engine": name, "simulator": engine.loaded(task)}


def definition(task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
    """What else decides a task's environments: who plays it, as what, on which code of this
    project.
    """
    return {
        **identity(task, options),
        "gymnasium_id": task.gymnasium_id,
        "envpool_id": task.envpool_id,
        "time_limit": task.time_limit,
        "modality": asdict(task.modality),
        "code": closure.digests(make_envs, _engine(task, options)[1].make),
    }


def engine_of(task: Task, options: Mapping[str, Any]) -> Engine:
    """The engine that plays a task under a profile's options."""
    return _engine(task, options)[1]


def _engine(task: Task, options: Mapping[str, Any]) -> tuple[str, Engine]:
    engines = get_domain(task.domain).engines
    name = options.get("engine") or task.engine
    if name not in engines:
        raise UserError(
            f"{task.id} has no engine '{name}'{did_you_mean(name, engines)}: "
            f"'env.engine' is one of {', '.join(engines)}"
        )
    return name, engines[name]
