"""A network's input: numbers and frames as they are observed, integers as one-hot vectors."""

from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_INPUTS = 4096
"""Integers whose one-hot vectors would be longer together are given as numbers."""


@dataclass(frozen=True)
class Inputs:
    """How a row of observations becomes a network's input."""

    shape: tuple[int, ...]
    """Shape of one input."""
    symbols: tuple[int, ...] = ()
    """How many values each integer of an observation has, if it is given as one-hot."""

    @classmethod
    def of(cls, space: Any) -> "Inputs":
        """The inputs for a ``VectorEnv``'s observation space."""
        if space.dtype.kind in "ui" and len(space.shape) == 1:
            counts = space.high.astype(np.int64) + 1
            if counts.sum() <= MOST_INPUTS:
                return cls((int(counts.sum()),), tuple(counts.tolist()))
        return cls(tuple(space.shape))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Observations (n, ...) as inputs: uint8 frames (n, C, H, W), else float32 (n, D)."""
        if self.symbols:
            return one_hot(rows, self.symbols)
        if rows.ndim == 2:
            return rows.astype(np.float32, copy=False)
        return np.ascontiguousarray(rows)


def one_hot(rows: np.ndarray, symbols: tuple[int, ...]) -> np.ndarray:
    """Integers (n, D) with ``symbols`` values each -> float32 (n, sum of ``symbols``).

    A value that an integer cannot have becomes zeros.
    """
    starts = np.cumsum((0, *symbols[:-1]))
    inputs = np.zeros((len(rows), sum(symbols)), np.float32)
    known = (rows >= 0) & (rows < np.array(symbols))
    row, digit = np.nonzero(known)
    inputs[row, starts[digit] + rows[row, digit]] = 1
    return inputs
