"""Statistics of episodes, gathered while they stream by."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.shards import to_numpy

Summary = dict[str, Any]


class Moments:
    """Count, mean, variance, minimum and maximum of rows that are seen once.

    Merged as in Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for
    computing sample variances", in float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray = np.zeros(())
        self.squares: np.ndarray = np.zeros(())
        """Sum of squared deviations from the mean."""
        self.least: np.ndarray = np.full((), np.inf)
        self.most: np.ndarray = np.full((), -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Take in ``(n, ...)`` numbers; statistics are over the first axis."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        squares = ((rows - mean) ** 2).sum(axis=0)
        total = self.count + len(rows)
        shift = mean - self.mean
        self.squares = self.squares + squares + shift**2 * (self.count * len(rows) / total)
        self.mean = self.mean + shift * (len(rows) / total)
        self.least = np.minimum(self.least, rows.min(axis=0))
        self.most = np.maximum(self.most, rows.max(axis=0))
        self.count = total

    def summary(self) -> Summary:
        """``mean``, ``std`` (of the population), ``min`` and ``max``; empty if nothing was seen."""
        if not self.count:
            return {}
        return {
            "mean": self.mean.tolist(),
            "std": np.sqrt(self.squares / self.count).tolist(),
            "min": self.least.tolist(),
            "max": self.most.tolist(),
        }


class EpisodeStatistics:
    """What the card and the trainer want to know about the episodes of one split."""

    def __init__(self) -> None:
        self.returns, self.lengths = Moments(), Moments()
        self.observations, self.actions = Moments(), Moments()
        self.action_counts = np.zeros(0, np.int64)
        self.successes: int | None = None
        self.steps = 0

    def watch(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass the tables on, and take in their episodes on the way."""
        for table in tables:
            self.add(table)
            yield table

    def add(self, table: pa.Table) -> None:
        """Take in the episodes of one table, a row each."""
        rewards = [to_numpy("rewards", scalar) for scalar in table.column("rewards")]
        self.steps += sum(len(row) for row in rewards)
        self.returns.add(np.array([row.sum(dtype=np.float64) for row in rewards]))
        self.lengths.add(np.array([len(row) for row in rewards]))
        names = table.column_names
        for name, moments in (
            ("continuous_observations", self.observations),
            ("continuous_actions", self.actions),
        ):
            if name in names:
                for scalar in table.column(name):
                    moments.add(to_numpy(name, scalar))
        if "discrete_actions" in names:
            for scalar in table.column("discrete_actions"):
                self._count(np.bincount(to_numpy("discrete_actions", scalar)))
        if "success" in names:
            self.successes = self.successes or 0
            for scalar in table.column("success"):
                self.successes += bool(to_numpy("success", scalar).any())

    def _count(self, counts: np.ndarray) -> None:
        width = max(len(counts), len(self.action_counts))
        self.action_counts = np.pad(self.action_counts, (0, width - len(self.action_counts)))
        self.action_counts[: len(counts)] += counts

    def summary(self) -> Summary:
        """JSON-ready; observations and actions have one number a dimension."""
        summary: Summary = {
            "episodes": self.returns.count,
            "steps": self.steps,
            "returns": self.returns.summary(),
            "lengths": self.lengths.summary(),
        }
        if self.observations.count:
            summary["observations"] = self.observations.summary()
        if self.actions.count:
            summary["actions"] = self.actions.summary()
        if len(self.action_counts):
            summary["action_counts"] = self.action_counts.tolist()
        if self.successes is not None:
            summary["success_rate"] = self.successes / max(self.returns.count, 1)
        return summary


class DocumentStatistics:
    """What the card wants to know about the rows of a corpus."""

    def __init__(self) -> None:
        self.characters = Moments()

    def watch(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Pass the tables on, and take in their rows on the way."""
        for table in tables:
            self.add(table)
            yield table

    def add(self, table: pa.Table) -> None:
        """Take in the rows of one table."""
        self.characters.add(np.array([len(text) for text in table.column("text").to_pylist()]))

    def summary(self) -> Summary:
        """JSON-ready."""
        return {"rows": self.characters.count, "characters": self.characters.summary()}
