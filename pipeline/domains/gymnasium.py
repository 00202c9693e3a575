"""Any Gymnasium environment as a task: a profile names it under ``environments``."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.engines import versions
from pipeline.errors import UserError
from pipeline.options import Positive, Settings
from pipeline.types import Domain, Engine, Modality, Task, VectorEnv

TIME_LIMIT = 10_000
"""Steps after which an episode is cut off where nothing else says so: it may never end."""


class Environment(Settings):
    """One environment that is registered with Gymnasium."""

    id: str
    """Its id, such as ``CartPole-v1``; ``module:id`` imports the module that registers it."""
    kwargs: dict[str, Any] = {}
    """What ``gymnasium.make`` is told besides."""
    pixels: bool = False
    """Whether the agent sees the rendered picture instead of the environment's observations."""
    title: str | None = None
    """Its name in tables; by default the id."""
    max_episode_steps: Positive | None = None
    """The time limit in agent steps, instead of the registered one."""
    solved: float | None = None
    """The return from which on an expert is one; by default the registered ``reward_threshold``."""


def make_task(name: str, environment: Environment) -> Task:
    """The task ``name``; its spaces are asked of the environment itself, made once a process.

    UserError in one line when there is no such environment, or none that can be a task.
    """
    told = {
        "kwargs": environment.kwargs,
        "pixels": environment.pixels,
        "max_episode_steps": environment.max_episode_steps,
    }
    try:
        modality, limit, threshold = _probe(environment.id, json.dumps(told, sort_keys=True))
    except TypeError:
        raise UserError(f"'environments.{name}.kwargs' holds what is not plain YAML") from None
    except UserError as error:
        raise UserError(f"'environments.{name}': {error}") from None
    solved = threshold if environment.solved is None else environment.solved
    return Task(
        name,
        "gymnasium",
        environment.title or environment.id.rpartition(":")[2],
        modality,
        "gymnasium",
        gymnasium_id=environment.id,
        settings={"gymnasium": {"id": environment.id, **told}},
        time_limit=environment.max_episode_steps or limit or TIME_LIMIT,
        expert_mean=solved,
    )


def declaration(task: Task) -> dict[str, Any]:
    """What a profile says to bring this task: the inverse of ``make_task``, as plain values; empty
    for a task of another domain.
    """
    told = {key: value for key, value in task.settings.get("gymnasium", {}).items() if value}
    if "id" not in told:
        return {}
    known = {"title": task.title, "solved": task.expert_mean}
    return {**told, **{key: value for key, value in known.items() if value is not None}}


@lru_cache
def _probe(id: str, told: str) -> tuple[Modality, int | None, float | None]:
    """Modality, time limit and reward threshold of an environment."""
    from pipeline.engines.gymnasium import make_registered
    from pipeline.engines.slots import ask_outline

    outline = ask_outline(lambda: make_registered(id, **json.loads(told)))
    seen = outline.observations
    modality = Modality(
        seen.kind,
        outline.actions.kind,
        missions=bool(seen.texts),
        wide=seen.observation_space.dtype == np.int64,
    )
    return modality, outline.time_limit, outline.reward_threshold


def make_envs(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    id: str = "",
    kwargs: dict[str, Any] | None = None,
    pixels: bool = False,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
) -> VectorEnv:
    """One environment a seed, in a process each."""
    from pipeline.engines.gymnasium import GymnasiumEnv, make_registered

    return GymnasiumEnv(
        lambda: make_registered(
            id or task.gymnasium_id,
            kwargs or {},
            pixels=pixels,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        ),
        seeds,
        limit=max_episode_steps or task.time_limit,
    )


def recipe(task: Task) -> dict[str, Any]:
    """Sample Factory's settings by what the agent sees and does.

    Pictures: those of Atari. Everything else: a small network and PPO's usual settings, which learn
    from few steps (Schulman et al. 2017, table 3; Andrychowicz et al. 2021).
    """
    if task.modality.observation == "image":
        from pipeline.domains import atari

        return {**atari.recipe(task), "gamma": 0.99, "rollout": 32}
    discrete = task.modality.action == "discrete"
    return {
        "encoder_mlp_layers": [64, 64],
        "nonlinearity": "tanh",
        "policy_initialization": "torch_default",
        "adaptive_stddev": False,
        "initial_stddev": 1.0,
        "rollout": 64,
        "batch_size": 256,
        "num_batches_per_epoch": 4,
        "num_epochs": 5,
        "learning_rate": 0.001,
        "lr_schedule": "linear_decay",
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "ppo_clip_ratio": 0.2,
        "value_loss_coeff": 0.5,
        "exploration_loss_coeff": 0.01 if discrete else 0.001,
        "max_grad_norm": 0.5,
        "normalize_input": task.modality.observation == "continuous",
        "normalize_returns": True,
        "value_bootstrap": True,
    }


def package_of(task: Task) -> str:
    """The package that brings an environment, with its version."""
    import gymnasium

    module, _, name = task.gymnasium_id.rpartition(":")
    spec = gymnasium.registry.get(name)
    entry = spec.entry_point if spec else module
    return versions.package_of(entry if isinstance(entry, str) else module or "gymnasium")


DOMAIN = Domain(
    name="gymnasium",
    title="Gymnasium",
    engines={"gymnasium": Engine(make_envs, package_of)},
    recipe=recipe,
)
