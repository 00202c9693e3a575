"""Small samples compared: Welch's statistic, shares, ranges and drifts."""

from collections.abc import Sequence

import numpy as np

SIGMAS = 3.0
"""Apart by more than this, in two independent samples, is a difference."""

RARE = 0.05
"""Share of rows that may be accidents."""


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Difference of the means in units of its standard error; infinite for unequal constants."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if len(a) < 2 or len(b) < 2:
        return 0.0
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    gap = a.mean() - b.mean()
    if error < 1e-12:
        return 0.0 if abs(gap) <= 1e-6 * (1 + abs(b.mean())) else float(np.sign(gap) * np.inf)
    return float(gap / error)


def shares(hits: int, of: int, other_hits: int, other_of: int) -> float:
    """Difference of two shares in units of its standard error, with a pooled estimate."""
    if not of or not other_of:
        return 0.0
    pooled = (hits + other_hits + 1) / (of + other_of + 2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / of + 1 / other_of))
    return float((hits / of - other_hits / other_of) / error)


def outside(rows: np.ndarray, reference: np.ndarray, slack: float = 0.5) -> list[int]:
    """Columns whose rows leave the reference's range, widened by ``slack`` of its width.

    One row in twenty may, since rare accidents of a reset may be missing in the reference.
    """
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = slack * (high - low) + 1e-2 + 1e-3 * np.abs(reference).max(axis=0)
    out = (rows < low - margin) | (rows > high + margin)
    return np.flatnonzero(out.mean(axis=0) > RARE).tolist()


def one_varies(rows: np.ndarray, other: np.ndarray) -> list[int]:
    """Columns that vary on one side, not only in rare rows, and never on the other."""
    wide = [np.ptp(np.quantile(side, [RARE, 1 - RARE], axis=0), axis=0) for side in (rows, other)]
    full = [np.ptp(side, axis=0) for side in (rows, other)]
    lone = (wide[0] > 1e-2) & (full[1] < 1e-5) | (wide[1] > 1e-2) & (full[0] < 1e-5)
    return np.flatnonzero(lone).tolist()


def drifting(episodes: np.ndarray) -> list[int]:
    """Columns of ``(slot, episode, column)`` whose first episodes differ from their last ones.

    Slots are the repetitions: a constant drift is seen however small the spread.
    """
    half = episodes.shape[1] // 2
    if not half or episodes.shape[0] < 3:
        return []
    gap = episodes[:, -half:].mean(axis=1) - episodes[:, :half].mean(axis=1)
    error = gap.std(axis=0, ddof=1) / np.sqrt(len(gap))
    spread = episodes[:, 0].std(axis=0)
    moved = np.abs(gap.mean(axis=0))
    return np.flatnonzero(moved > np.maximum(6 * error, 2 * spread) + 1e-2).tolist()


def brief(indices: Sequence[int]) -> str:
    """At most a dozen indices, runs shortened: ``3, 18-35``."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    words = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in parts]
    return ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
