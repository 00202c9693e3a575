"""BabyAI: 39 levels of instructions in a grid world."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.envpool_env import EnvPoolEnv
from pipeline.types import Domain, Observations, Task, VectorEnv


@lru_cache(maxsize=65536)
def decode_mission(mission: bytes) -> str:
    """The text of one fixed-size, zero-padded mission buffer."""
    return mission.partition(b"\0")[0].decode("utf8")


def observe(observations: dict[str, np.ndarray]) -> Observations:
    """uint8 ``discrete_observations`` (n, 148): direction, then 7·7·3 symbols; and the mission."""
    image = observations["image"].reshape(len(observations["image"]), -1)
    direction = observations["direction"].reshape(-1, 1)
    missions = [decode_mission(row.tobytes()) for row in observations["mission"]]
    return {
        "discrete_observations": np.concatenate([direction, image], axis=1).astype(np.uint8),
        "text_observations": np.array(missions, dtype=object),
    }


def make_envs(task: Task, seeds: Sequence[int], threads: int = 1, **options: Any) -> EnvPoolEnv:
    """One EnvPool level a seed: the engine of evaluation."""
    return EnvPoolEnv(task.envpool_id, seeds, observe, threads=threads, **options)


def expert_envs(task: Task, seeds: Sequence[int], threads: int = 1, **options: Any) -> VectorEnv:
    """One minigrid level a seed: the bot plans on minigrid's own grid."""
    from pipeline.domains import babyai_minigrid

    return babyai_minigrid.make_envs(task, seeds, threads=threads, **options)


DOMAIN = Domain(
    name="babyai",
    modality="discrete",
    observation="discrete_observations",
    make_envs=make_envs,
    expert_envs=expert_envs,
    policy="experts.bot:make_policy",
)
