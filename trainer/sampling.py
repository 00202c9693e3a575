"""Which task and which windows each micro-batch has: a function of the seed and its place."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import Dataset

from pipeline.errors import UserError
from pipeline.seeds import sequence
from trainer.batches import Batch, Source

PUBLISHED_WEIGHTS = {"oscar": 10.0, "wikipedia": 10.0, "conceptual-captions": 10.0}
"""Every other task has 1 (arXiv 2402.09844, training details)."""
POOL = 32
"""Batches whose windows are sorted by length together: less padding, still well mixed."""


def task_weights(
    sources: Sequence[Source],
    scheme: str,
    temperature: float,
    overrides: Mapping[str, float],
) -> dict[str, float]:
    """Task -> how often it is drawn, relative to the others.

    ``published``: 10 for the large corpora and 1 for all else. ``uniform``: 1. ``temperature``: the
    number of tokens of the task to the power of 1 / temperature (Raffel et al. 2020, section
    3.5.2). ``overrides`` multiply the weight, by task or by domain; the task's counts if both are
    there.
    """
    weights = {}
    for source in sources:
        weight = 1.0
        if scheme == "published":
            weight = PUBLISHED_WEIGHTS.get(source.task, 1.0)
        elif scheme == "temperature":
            weight = float(source.lengths.sum()) ** (1 / temperature)
        factor = overrides.get(source.task, overrides.get(source.domain, 1.0))
        weights[source.task] = weight * factor
    if not any(weights.values()):
        raise UserError("'jat.weights' leaves no task to train on: give one a weight above 0")
    return weights


class Plan(Dataset):
    """All micro-batches of a training run, in order; place n can be made without those before.

    A task's windows are permuted anew in each of its epochs. Windows of similar length share a
    batch, of which the tokens, padding included, stay within the budget of their domain.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        weights: Mapping[str, float],
        budgets: Mapping[str, int],
        count: int,
        seed: int,
    ) -> None:
        self.sources = list(sources)
        self._seed = seed
        self._budgets = [budgets[source.domain] for source in self.sources]
        chances = np.array([weights[source.task] for source in self.sources], np.float64)
        rng = np.random.default_rng(sequence(seed, "tasks"))
        self.tasks = rng.choice(len(self.sources), size=count, p=chances / chances.sum())
        """int64 ``(count,)``: index into ``sources``."""
        self._places = np.zeros(count, np.int64)
        for task in range(len(self.sources)):
            drawn = self.tasks == task
            self._places[drawn] = np.arange(drawn.sum())
        self._epochs: list[list[list[np.ndarray]]] = [[] for _ in self.sources]

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Batch:
        source = self.sources[self.tasks[index]]
        return {"task": source.task, **source.batch(self.windows(index))}

    def windows(self, index: int) -> np.ndarray:
        """The windows of one micro-batch, as indexes of its source."""
        task, place = int(self.tasks[index]), int(self._places[index])
        epochs = self._epochs[task]
        epoch = 0
        while True:
            if epoch == len(epochs):
                epochs.append(self._epoch(task, epoch))
            if place < len(epochs[epoch]):
                return epochs[epoch][place]
            place -= len(epochs[epoch])
            epoch += 1

    def _epoch(self, task: int, epoch: int) -> list[np.ndarray]:
        source = self.sources[task]
        rng = np.random.default_rng(sequence(self._seed, source.task, epoch))
        return pack(source.lengths, self._budgets[task], rng)

    def count_tokens(self) -> tuple[int, int]:
        """Valid tokens of all micro-batches, and their places with padding."""
        valid = padded = 0
        for index in range(len(self)):
            lengths = self.sources[self.tasks[index]].lengths[self.windows(index)]
            valid += int(lengths.sum())
            padded += len(lengths) * int(lengths.max())
        return valid, padded


def pack(lengths: np.ndarray, budget: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All windows once, in batches that take at most ``budget`` tokens (one window at least)."""
    order = rng.permutation(len(lengths))
    pool = max(1, POOL * budget // max(1, int(lengths.mean())))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(-lengths[part], kind="stable")]
        while len(part):
            rows = max(1, budget // int(lengths[part[0]]))
            batches.append(part[:rows])
            part = part[rows:]
    return [batches[k] for k in rng.permutation(len(batches))]
