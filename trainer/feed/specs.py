"""What the model must know of each task to play it, stored as ``tasks.json`` beside its weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import TaskSpecShape, read_model
from pipeline.stage import write_json
from trainer.feed.data import TaskData

FILE = "tasks.json"
LIMIT = 10.0
"""Normalised observations are clipped to ±LIMIT, as what a weak policy meets may be far off."""
ROWS = 100_000
"""Timesteps that a scale is taken from at most, spread over the whole split."""


@dataclass(frozen=True)
class Scale:
    """Shift and unit of each number of a vector."""

    mean: tuple[float, ...]
    unit: tuple[float, ...]

    @classmethod
    def of(cls, rows: np.ndarray) -> "Scale":
        """The scale of vectors (N, D).

        The unit is the standard deviation, or a quarter of the 99.9th percentile of what is
        beyond the mean where that is more: an expert that balances is at rest but for the first
        steps of an episode, and these are what has to be told apart.
        """
        rows = np.asarray(rows[:: -(-len(rows) // ROWS)], np.float64)
        mean = rows.mean(axis=0)
        tail = np.quantile(np.abs(rows - mean), 0.999, axis=0) / 4
        unit = np.maximum(rows.std(axis=0), tail)
        return cls(tuple(mean.tolist()), tuple(np.where(unit < 1e-6, 1.0, unit).tolist()))

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Vectors (..., D) as the model takes them, float32."""
        return ((rows - np.array(self.mean)) / np.array(self.unit)).astype(np.float32)

    def invert(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of ``apply``."""
        return (rows * np.array(self.unit) + np.array(self.mean)).astype(np.float32)


@dataclass(frozen=True)
class TaskSpec:
    """One task as the model was trained on it."""

    domain: str
    context: int
    """Timesteps (tokens, for corpora) of a window."""
    observation: str = ""
    """The kind of its observations: continuous, discrete or image; ``""`` for corpora."""
    missions: bool = False
    """Whether a text comes with each observation."""
    num_actions: int | None = None
    """Discrete actions: one more than the highest that the training data has."""
    action_size: int | None = None
    """Numbers in a continuous action."""
    observations: Scale | None = None
    """The scale of continuous observations; ``None``: the model takes them as they are."""
    actions: Scale | None = None
    """The scale of continuous actions."""

    @property
    def episodic(self) -> bool:
        """Whether the task is to be played, not read."""
        return bool(self.observation)

    def observe(self, observations: np.ndarray) -> np.ndarray:
        """Observations (..., D) as the model takes them: continuous ones scaled."""
        if self.observations is None:
            return observations
        return np.clip(self.observations.apply(observations), -LIMIT, LIMIT)

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Actions as the model takes and gives them."""
        return actions if self.actions is None else self.actions.apply(actions)

    def decode(self, actions: np.ndarray) -> np.ndarray:
        """Actions as the environment takes them."""
        return actions if self.actions is None else self.actions.invert(actions)


def make_spec(data: TaskData, context: int, normalise: bool) -> TaskSpec:
    """The spec of a task from its training split."""
    modality = data.modality
    if not modality.episodic:
        return TaskSpec(data.domain, context)
    actions = data.arrays["actions"]
    facts: dict[str, Any] = {"observation": modality.observation, "missions": modality.missions}
    if normalise and modality.observation == "continuous":
        facts["observations"] = Scale.of(data.arrays["observations"])
    if modality.action == "discrete":
        return TaskSpec(data.domain, context, num_actions=int(actions.max()) + 1, **facts)
    if normalise:
        facts["actions"] = Scale.of(actions)
    return TaskSpec(data.domain, context, action_size=actions.shape[1], **facts)


def symbols_of(data: TaskData) -> int:
    """How many ids a task's integers need in the table that they share with the tokens."""
    if not data.modality.episodic:
        return 0
    names = ["actions"] * (data.modality.action == "discrete")
    names += ["observations"] * (data.modality.observation == "discrete")
    return max((int(data.arrays[name].max()) + 1 for name in names), default=0)


def save_specs(folder: Path, specs: Mapping[str, TaskSpec]) -> None:
    """Write ``tasks.json``."""
    write_json(folder / FILE, {task: dataclasses.asdict(spec) for task, spec in specs.items()})


def load_specs(folder: Path) -> dict[str, TaskSpec]:
    """Read ``tasks.json``; UserError when it is missing or broken."""
    specs = read_model(folder / FILE, dict[str, TaskSpecShape])
    return {task: _read(spec) for task, spec in specs.items()}


def _read(spec: dict[str, Any]) -> TaskSpec:
    scales = {
        name: Scale(tuple(told["mean"]), tuple(told["unit"])) if (told := spec.get(name)) else None
        for name in ("observations", "actions")
    }
    return TaskSpec(**{**spec, **scales})
