"""Meta-World: fifty manipulation tasks of a Sawyer arm, 100 steps an episode."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.envpool_env import EnvPoolEnv, continuous
from pipeline.types import Domain, Task

EPISODE_STEPS = 100
"""Every published episode has 100 steps (jat_facts: tasks and data); the benchmark's own is 500."""

SUCCESS = "An episode succeeds if any of its steps does."
"""The one definition; per-step success is stored beside it."""


class MetaWorldEnv(EnvPoolEnv):
    """EnvPool's Meta-World with a boolean ``success`` per step."""

    def step(self, actions: np.ndarray, ids: np.ndarray | None = None):
        """As ``EnvPoolEnv.step``; ``info["success"]`` is bool ``(n,)``."""
        step = super().step(actions, ids)
        step.info["success"] = step.info["success"] > 0.5
        return step


def make_envs(
    task: Task, seeds: Sequence[int], threads: int = 1, goal_visible: bool = True, **options: Any
) -> MetaWorldEnv:
    """One v3 environment a seed; ``goal_visible=False`` zeroes the goal, as published."""
    return MetaWorldEnv(
        task.envpool_id,
        seeds,
        continuous,
        threads=threads,
        info=("success",),
        max_episode_steps=EPISODE_STEPS,
        partially_observable=not goal_visible,
        **options,
    )


def recipe(task: Task) -> dict[str, Any]:
    """Sample Factory settings for one task."""
    return {}


DOMAIN = Domain(
    name="metaworld",
    modality="continuous",
    observation="continuous_observations",
    make_envs=make_envs,
    policy="experts.policy:load_policy",
    recipe=recipe,
    loss_weight=lambda task: 50.0,
)
