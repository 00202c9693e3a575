"""Tasks that learn slowly are drawn more often: weights that follow the losses of the run."""

from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from trainer.feed.sampling import BatchPlan
from trainer.training.task_losses import TaskLosses

SMOOTHING = 0.5
"""Share of a block's own loss in the recent loss of a task."""
LIMIT = 4.0
"""A weight changes by this factor at most, either way."""


class AdaptiveSampler(TrainerCallback, ExportableState):
    """Sets the weights of the plan's next block but one at the end of each block.

    A task's weight is its first one times r to the power of ``power``, with r its relative inverse
    training rate (Chen et al. 2018, GradNorm, arXiv 1711.02257, section 3.2): its recent loss over
    that of its first block, divided by the mean of this ratio over all tasks. GradNorm scales
    gradients by it; drawing tasks by it is ours.

    The loader reads ahead into the next block, so that block's weights are fixed already: what is
    drawn does not depend on how far ahead it reads, nor on when a run was stopped. The state is
    written with each checkpoint by Transformers, and found again in its ``trainer_state.json``.
    """

    def __init__(self, plan: BatchPlan, accumulation: int, power: float) -> None:
        """``accumulation``: micro-batches of an optimizer step, those of all processes."""
        self._plan, self._power = plan, power
        self._steps = plan.block // accumulation
        self.losses = TaskLosses(len(plan.sources))
        self._first = np.full(len(plan.sources), np.nan)
        self._recent = np.full(len(plan.sources), np.nan)
        plan.weights[2:] = np.nan
        self._base = plan.weights[0].numpy().copy()
        self._known = 2

    def state(self) -> dict[str, Any]:
        """All that the weights to come depend on, for JSON."""
        return {
            "weights": self._plan.weights[2 : self._known].tolist(),
            "first": [None if np.isnan(loss) else loss for loss in self._first.tolist()],
            "recent": [None if np.isnan(loss) else loss for loss in self._recent.tolist()],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from where ``state`` was taken."""
        self._first = np.array(state["first"], np.float64)
        self._recent = np.array(state["recent"], np.float64)
        for row in state["weights"]:
            self._write(np.array(row))

    def on_train_begin(
        self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any
    ) -> None:
        """Take up the state of the checkpoint that the run goes on from."""
        if state.global_step:
            self.load(state.stateful_callbacks[type(self).__name__])

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """At the end of a block, set the weights of the next but one."""
        if state.global_step % self._steps == 0:
            self.update(self.losses.take()[0])

    def update(self, losses: np.ndarray) -> None:
        """One block's mean losses, float64 (N,), NaN where a task was not drawn."""
        seen = np.isfinite(losses)
        self._first = np.where(np.isnan(self._first), losses, self._first)
        mixed = SMOOTHING * losses + (1 - SMOOTHING) * self._recent
        self._recent = np.where(seen, np.where(np.isnan(self._recent), losses, mixed), self._recent)
        self._write(self._base * self.factors())

    def factors(self) -> np.ndarray:
        """What multiplies each task's first weight, float64 (N,); 1 for tasks never drawn."""
        rates = self._recent / np.maximum(self._first, 1e-12)
        known = np.isfinite(rates)
        if not known.any():
            return np.ones(len(rates))
        relative = rates / max(rates[known].mean(), 1e-12)
        factors = np.clip(np.maximum(relative, 1e-12) ** self._power, 1 / LIMIT, LIMIT)
        return np.where(known, factors, 1.0)

    def _write(self, weights: np.ndarray) -> None:
        if self._known < len(self._plan.weights):
            self._plan.weights[self._known].numpy()[:] = weights
            self._known += 1
