"""MuJoCo: the eleven Gymnasium v4 control tasks."""

from collections.abc import Sequence
from typing import Any

from pipeline.envpool_env import EnvPoolEnv, continuous
from pipeline.types import Domain, Task


def make_envs(task: Task, seeds: Sequence[int], threads: int = 1, **options: Any) -> EnvPoolEnv:
    """One v4 environment a seed (v4 is what the published data has: ant 27, humanoid 376)."""
    return EnvPoolEnv(task.envpool_id, seeds, continuous, threads=threads, **options)


def recipe(task: Task) -> dict[str, Any]:
    """Sample Factory settings for one task."""
    return {}


def loss_weight(task: str) -> float:
    """10; 20 for the pendulum and 50 for the double pendulum (paper, training details)."""
    return {"mujoco-pendulum": 20.0, "mujoco-doublependulum": 50.0}.get(task, 10.0)


DOMAIN = Domain(
    name="mujoco",
    modality="continuous",
    observation="continuous_observations",
    make_envs=make_envs,
    policy="experts.policy:load_policy",
    recipe=recipe,
    loss_weight=loss_weight,
)
