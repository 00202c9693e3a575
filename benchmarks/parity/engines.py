"""The two sides of the comparison: the engine in use, and what defines the task."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from benchmarks.parity.reference import REFERENCES
from pipeline.engines import identity, make_envs
from pipeline.types import Task, VectorEnv

PACKAGES = {
    "atari": ("gymnasium", "ale-py"),
    "babyai": ("gymnasium", "minigrid"),
    "metaworld": ("metaworld", "mujoco"),
    "mujoco": ("gymnasium", "mujoco"),
}
"""Domain -> the packages that its reference consists of, the simulator last."""


def make_engine(task: Task, seeds: Sequence[int]) -> VectorEnv:
    """The project's environments of a task, one a seed."""
    return make_envs(task, seeds)


def make_envpool(task: Task, seeds: Sequence[int]) -> VectorEnv:
    """EnvPool's environments of a task, also where another engine plays it."""
    return make_envs(task, seeds, engine="envpool")


def make_reference(task: Task, seeds: Sequence[int]) -> VectorEnv:
    """The environments that define a task, one a seed."""
    return REFERENCES[task.domain](task, seeds)


def reference_versions(task: Task) -> str:
    """Names and versions of what defines the task."""
    return ", ".join(f"{package} {version(package)}" for package in PACKAGES[task.domain])


def engine_versions(task: Task, envs: Any) -> tuple[str, str]:
    """The engine that made the environments, and the simulator that it really loads."""
    name = "envpool" if hasattr(envs, "pool") else task.engine
    return name, identity(task, {"engine": name})["simulator"]


def same_physics(task: Task, envs: VectorEnv) -> bool:
    """Whether both sides run the same release of the simulator, so that states must agree."""
    simulator = engine_versions(task, envs)[1]
    return simulator in reference_versions(task).replace("ale-py", "ale")


def declared_limit(envs: Any) -> int | None:
    """The time limit that the environments say they have; ``None`` where they say nothing."""
    if hasattr(envs, "pool"):
        return int(envs.pool.spec.config.max_episode_steps)
    first = getattr(envs, "envs", [None])[0]
    limit = getattr(envs, "limit", None) or getattr(first, "max_steps", None)
    return limit or getattr(getattr(first, "spec", None), "max_episode_steps", None)
