"""Made-up episodes as tables of a dataset."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.tasks import get_task
from pipeline.types import Episode

WIDTHS = {"mujoco-pendulum": (4, 1), "metaworld-reach": (39, 4)}
"""Task -> numbers of an observation and of an action."""


def make_episode(
    task: str = "mujoco-pendulum", steps: int = 4, seed: int = 0, reset_index: int = 0, **more: Any
) -> Episode:
    """An episode of numbers drawn at random within the task's bounds; ``more`` replaces parts."""
    rng = np.random.default_rng((seed, reset_index, steps))
    width, size = WIDTHS[task]
    parts: dict[str, Any] = {
        "observations": {
            "continuous_observations": rng.normal(size=(steps + 1, width)).astype(np.float32)
        },
        "actions": rng.uniform(-1, 1, (steps, size)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminated": True,
        "truncated": False,
        **more,
    }
    if task.startswith("metaworld"):
        parts.setdefault("info", {"success": rng.random(steps) < 0.5})
    return Episode(task, seed=seed, reset_index=reset_index, **parts)


def make_table(*episodes: Episode) -> pa.Table:
    """Episodes of one task, a row each."""
    modality = get_task(episodes[0].task).modality
    return schema.to_table(modality, episodes, "test", "0" * 64)
