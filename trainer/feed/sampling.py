"""Which rows each micro-batch has: a function of the seed, its place and the tasks' weights."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from pipeline.errors import UserError
from pipeline.seeds import sequence
from trainer.feed.batches import Batch, WindowSource, make_batch

PUBLISHED_WEIGHTS = {"oscar": 10.0, "wikipedia": 10.0, "conceptual-captions": 10.0}
"""Every other task has 1 (arXiv 2402.09844, training details)."""
BLOCK = 512
"""Micro-batches that are drawn together, unless the plan is told otherwise: rows of similar length
among them share a micro-batch, so there is little padding and they are still well mixed."""


def task_weights(
    sources: Sequence[WindowSource],
    scheme: str,
    temperature: float,
    overrides: Mapping[str, float],
) -> dict[str, float]:
    """Task -> how often it is drawn, relative to the others.

    ``published``: 10 for the large corpora and 1 for all else. ``uniform`` and ``adaptive``, which
    starts with it: 1. ``temperature``: the number of tokens of the task to the power of
    1 / temperature (Raffel et al. 2020, section 3.5.2). ``overrides`` multiply the weight, by task
    or by domain; the task's counts if both are there.
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


Rows = tuple[np.ndarray, np.ndarray]
"""The tasks (indexes of the plan's sources) and windows of one micro-batch, int64 (R,) each."""


class BatchPlan(Dataset):
    """All micro-batches of a training run, in order; place n can be made without those before.

    A micro-batch has one group of tasks (``WindowSource.group``), drawn by the sum of their
    weights; its rows are of any of these tasks, drawn so that each one's share of the group's
    tokens is as its weight. A task's
    windows come in an order that is permuted anew in each of its epochs, or with ``shuffle=False``
    as they are. Rows of similar length
    share a micro-batch, of which the tokens, padding included, stay within its domain's budget.

    The plan is drawn in blocks of micro-batches, and each block may have weights of its own
    (``weights``), in memory that the loader's processes share.
    """

    def __init__(
        self,
        sources: Sequence[WindowSource],
        weights: Mapping[str, float],
        budgets: Mapping[str, int],
        count: int,
        seed: int,
        block: int = BLOCK,
        shuffle: bool = True,
    ) -> None:
        self.sources = list(sources)
        self.block = block
        self._count, self._seed, self._shuffle = count, seed, shuffle
        self._budgets = {source.group: budgets[source.domain] for source in self.sources}
        self._groups = {
            group: np.array([k for k, s in enumerate(self.sources) if s.group == group])
            for group in sorted(self._budgets)
        }
        self._sizes = [len(source.lengths) for source in self.sources]
        self._mean = np.array([source.lengths.mean() for source in self.sources])
        row = torch.tensor([weights[source.task] for source in self.sources], dtype=torch.float64)
        self.weights = row.repeat(-(-count // block), 1).share_memory_()
        """float64 (blocks, tasks)."""
        self._starts = [np.zeros(len(self.sources), np.int64)]
        """How many windows of each task the blocks before each block have taken."""
        self._tokens: list[tuple[int, int]] = []
        self._recent: dict[int, list[Rows]] = {}
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Batch:
        """A batch, with ``tasks`` int64 (B,): which of ``sources`` each row is of."""
        tasks, windows = self.rows(index)
        parts = [(self.sources[k], windows[tasks == k]) for k in np.unique(tasks)]
        return {"tasks": torch.from_numpy(np.sort(tasks)), **make_batch(parts)}

    def rows(self, index: int) -> Rows:
        """The tasks and windows of one micro-batch."""
        block, place = divmod(index, self.block)
        return self._drawn(block)[place]

    def count_tokens(self, blocks: int | None = None) -> tuple[int, int]:
        """Valid tokens of the first blocks (all of them by default), and places with padding."""
        blocks = len(self.weights) if blocks is None else blocks
        self._drawn(blocks - 1)
        valid, padded = zip(*self._tokens[:blocks], strict=True)
        return sum(valid), sum(padded)

    def _drawn(self, block: int) -> list[Rows]:
        """The micro-batches of a block, whose predecessors are drawn first to know where it starts.

        Neighbours alone are kept, as a loader asks for them in order.
        """
        for k in range(min(block, len(self._tokens)), block + 1):
            if k not in self._recent:
                near = {n: rows for n, rows in self._recent.items() if abs(n - k) == 1}
                self._recent = {**near, k: self._draw(k)}
        return self._recent[block]

    def _draw(self, block: int) -> list[Rows]:
        weights = self.weights[block].numpy()
        if not np.isfinite(weights).all():
            raise RuntimeError(f"block {block} of the plan was asked for before it has weights")
        rng = np.random.default_rng(sequence(self._seed, "block", block))
        size = min(self.block, self._count - block * self.block)
        shares = np.array([weights[tasks].sum() for tasks in self._groups.values()])
        groups = rng.choice(len(shares), size=size, p=shares / shares.sum())
        starts = self._starts[block].copy()
        drawn: list[Rows] = [(np.empty(0, np.int64), np.empty(0, np.int64))] * size
        valid = padded = 0
        for index, group in enumerate(self._groups):
            places = np.flatnonzero(groups == index)
            if not len(places):
                continue
            tasks, windows, lengths = self._take(group, weights, len(places), starts, rng)
            batches = pack(lengths, self._budgets[group])
            for place, batch in zip(places, rng.permutation(len(batches)), strict=True):
                rows = batches[batch]
                drawn[place] = tasks[rows], windows[rows]
                valid += int(lengths[rows].sum())
                padded += len(rows) * int(lengths[rows].max())
        if block == len(self._tokens):
            self._starts.append(starts)
            self._tokens.append((valid, padded))
        return drawn

    def _take(
        self,
        group: str,
        weights: np.ndarray,
        count: int,
        starts: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tasks, windows and lengths of the rows that fill ``count`` batches; moves ``starts``."""
        members, budget = self._groups[group], self._budgets[group]
        # A row of long windows is drawn less often, so that weights are shares of tokens.
        chances = weights[members] / self._mean[members]
        chances /= chances.sum()
        tasks, lengths = np.empty(0, np.int64), np.empty(0, np.int64)
        expected = 1 + int(1.1 * count * budget / (chances @ self._mean[members]))
        while count_batches(lengths, budget) <= count:
            tasks = np.concatenate([tasks, members[rng.choice(len(members), expected, p=chances)]])
            windows = self._windows(tasks, starts)
            lengths = self._lengths(tasks, windows)
        most = range(len(tasks) + 1)
        rows = bisect_right(most, count, key=lambda n: count_batches(lengths[:n], budget)) - 1
        np.add.at(starts, tasks[:rows], 1)
        return tasks[:rows], windows[:rows], lengths[:rows]

    def _windows(self, tasks: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The next window of each row's task, when ``starts`` of them are taken already."""
        windows = np.empty(len(tasks), np.int64)
        for task in np.unique(tasks):
            rows = np.flatnonzero(tasks == task)
            places = starts[task] + np.arange(len(rows))
            epochs = places // self._sizes[task]
            for epoch in np.unique(epochs):
                now = epochs == epoch
                order = self._order(int(task), int(epoch))
                windows[rows[now]] = order[places[now] % self._sizes[task]]
        return windows

    def _lengths(self, tasks: np.ndarray, windows: np.ndarray) -> np.ndarray:
        lengths = np.empty(len(tasks), np.int64)
        for task in np.unique(tasks):
            rows = tasks == task
            lengths[rows] = self.sources[task].lengths[windows[rows]]
        return lengths

    def _order(self, task: int, epoch: int) -> np.ndarray:
        """The order of a task's windows in one of its epochs; the last one asked for is kept."""
        if not self._shuffle:
            return np.arange(self._sizes[task])
        kept = self._orders.get(task)
        if kept is None or kept[0] != epoch:
            rng = np.random.default_rng(sequence(self._seed, self.sources[task].task, epoch))
            kept = self._orders[task] = (epoch, rng.permutation(self._sizes[task]))
        return kept[1]


def count_batches(lengths: np.ndarray, budget: int) -> int:
    """How many batches ``pack`` makes; one more row never makes it fewer."""
    ordered = -np.sort(-lengths)
    batches = row = 0
    while row < len(ordered):
        row += max(1, budget // int(ordered[row]))
        batches += 1
    return batches


def pack(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """All rows once, the longest first, in batches of at most ``budget`` tokens with padding.

    A row that is longer than the budget is a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[np.ndarray] = []
    while len(order):
        rows = max(1, budget // int(lengths[order[0]]))
        batches.append(order[:rows])
        order = order[rows:]
    return batches
