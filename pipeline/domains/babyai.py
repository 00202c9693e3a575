"""BabyAI: 39 levels of instructions in a grid world."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline import published
from pipeline.engines import versions
from pipeline.engines.envpool import EnvPoolEnv
from pipeline.types import Domain, Engine, Modality, Observations, Task, VectorEnv

MODALITY = Modality("discrete", "discrete", missions=True)


def tasks() -> list[Task]:
    """The tasks of the published table, played by minigrid: the bot plans on its grid, and three of
    EnvPool's levels are others (docs/LOG.md).
    """
    return [Task(**row, modality=MODALITY, engine="minigrid") for row in published.table("babyai")]


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


def minigrid(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
) -> VectorEnv:
    """One minigrid level a seed."""
    from pipeline.engines.minigrid import MinigridEnv

    return MinigridEnv(task.gymnasium_id, seeds, max_episode_steps)


def envpool(
    task: Task,
    seeds: Sequence[int],
    threads: int = 1,
    max_episode_steps: int | None = None,
    **options: Any,
) -> EnvPoolEnv:
    """One EnvPool level a seed."""
    limit = {"max_episode_steps": max_episode_steps} if max_episode_steps else {}
    return EnvPoolEnv(task.envpool_id, seeds, observe, threads=threads, **limit, **options)


DOMAIN = Domain(
    name="babyai",
    title="BabyAI",
    modality=MODALITY,
    tasks=tasks,
    engines={
        "minigrid": Engine(
            minigrid,
            lambda task: versions.package("minigrid"),
            simulator="minigrid 3.2.0",
            independent=True,
        ),
        "envpool": Engine(envpool, lambda task: versions.envpool_and("minigrid")),
    },
    renderer="minigrid",
    policy="experts.bot.bot_policy:make_policy",
    scripts={"bot": "experts.bot.bot_policy:make_policy"},
    published_iqm=0.99,
)
