"""From returns to scores that compare across tasks, and their aggregates over a domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.seeds import sequence

MARGIN = 1e-9
"""An expert has to be better than random play by more than this."""


@dataclass(frozen=True)
class Reference:
    """Mean returns of random play and of the expert; ``None`` where one is not known."""

    random: float | None
    expert: float | None

    @property
    def usable(self) -> bool:
        """Whether scores can be normalised: the expert is known and better than random play."""
        if self.random is None or self.expert is None:
            return False
        return self.expert - self.random > MARGIN

    def normalise(self, returns: ArrayLike) -> np.ndarray:
        """0 for random play, 1 for the expert (Agarwal et al. 2021, section 2), float64.

        Raises ValueError when the reference is not usable.
        """
        if not self.usable:
            raise ValueError(f"cannot normalise by {self}")
        assert self.random is not None
        assert self.expert is not None
        return (np.asarray(returns, np.float64) - self.random) / (self.expert - self.random)


@dataclass(frozen=True)
class Aggregate:
    """The interquartile mean over tasks and episodes, and its 95 % confidence interval."""

    iqm: float
    low: float
    high: float


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of all scores (Agarwal et al. 2021, section 4.3).

    A quarter of the scores, rounded down, is cut off at each end.
    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def aggregate(scores: Mapping[str, ArrayLike], resamples: int = 2000, seed: int = 0) -> Aggregate:
    """IQM of the normalised scores of each episode of each task.

    The interval is a percentile bootstrap, stratified: episodes are drawn anew within each task.
    """
    tasks = [np.asarray(scores[task], np.float64) for task in sorted(scores)]
    rng = np.random.default_rng(sequence(seed, "bootstrap"))
    draws = [rng.choice(task, size=(resamples, len(task))) for task in tasks]
    drawn = np.sort(np.concatenate(draws, axis=1), axis=1)
    cut = drawn.shape[1] // 4
    iqms = drawn[:, cut : drawn.shape[1] - cut].mean(axis=1)
    low, high = np.percentile(iqms, [2.5, 97.5])
    return Aggregate(interquartile_mean(np.concatenate(tasks)), float(low), float(high))


def mean_interval(
    values: Sequence[float], resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean."""
    rng = np.random.default_rng(sequence(seed, "bootstrap"))
    means = rng.choice(np.asarray(values, np.float64), size=(resamples, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
