"""What the model must know of each task to play it, stored as ``tasks.json`` beside its weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.stage import read_json, write_json
from trainer.data import TaskData

FILE = "tasks.json"
LIMIT = 10.0
"""Normalised observations are clipped to ±LIMIT, as what a weak policy meets may be far off."""


@dataclass(frozen=True)
class TaskSpec:
    """One task as the model was trained on it."""

    domain: str
    context: int
    """Timesteps (tokens, for corpora) of a window."""
    num_actions: int | None = None
    """Discrete actions: one more than the highest that the training data has."""
    action_size: int | None = None
    """Numbers in a continuous action."""
    mean: tuple[float, ...] | None = None
    """Of each number of a continuous observation; ``None``: the model takes them as they are."""
    std: tuple[float, ...] | None = None

    def normalise(self, observations: np.ndarray) -> np.ndarray:
        """Continuous observations (..., D) as the model takes them, float32."""
        if self.mean is None or self.std is None:
            return observations
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (observations - mean) / std
        return np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)


def make_spec(data: TaskData, context: int, normalise: bool) -> TaskSpec:
    """The spec of a task from its training split."""
    if data.domain in ("text", "vision"):
        return TaskSpec(data.domain, context)
    actions = data.arrays["actions"]
    if actions.ndim == 1:
        return TaskSpec(data.domain, context, num_actions=int(actions.max()) + 1)
    mean = std = None
    if normalise:
        observations = data.arrays["observations"]
        mean = tuple(observations.mean(axis=0, dtype=np.float64).tolist())
        spread = observations.std(axis=0, dtype=np.float64)
        std = tuple(np.where(spread < 1e-6, 1.0, spread).tolist())
    return TaskSpec(data.domain, context, action_size=actions.shape[1], mean=mean, std=std)


def save_specs(folder: Path, specs: Mapping[str, TaskSpec]) -> None:
    """Write ``tasks.json``."""
    write_json(folder / FILE, {task: dataclasses.asdict(spec) for task, spec in specs.items()})


def load_specs(folder: Path) -> dict[str, TaskSpec]:
    """Read ``tasks.json``; UserError when it is missing or broken."""
    try:
        return {task: TaskSpec(**spec) for task, spec in read_json(folder / FILE).items()}
    except (TypeError, AttributeError):
        raise UserError(
            f"'{folder / FILE}' does not describe tasks: train the model again"
        ) from None
