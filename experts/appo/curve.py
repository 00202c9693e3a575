"""The learning curve of one training run, without gaps or repeats when the run is resumed."""

import csv
import io
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.stage import write_atomic

COLUMNS = ("steps", "seconds", "return")
SCORED_ON = 20
"""Episodes behind the score of a moment, at least."""


@dataclass
class Curve:
    """Rows of (agent steps, training seconds, mean return of the episodes since the last row).

    Where none has ended since, the mean stays what it was: long episodes leave no gap.
    """

    path: Path
    every: int
    """Steps between rows."""
    rows: list[tuple[int, float, float]] = field(default_factory=list)
    _returns: list[float] = field(default_factory=list)
    _recent: list[float] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    @classmethod
    def resume(cls, path: Path, every: int, steps: int) -> "Curve":
        """Go on from a checkpoint of ``steps``: later rows are dropped, they come again."""
        rows = [row for row in read_curve(path) if row[0] <= steps] if path.exists() else []
        curve = cls(path, every, rows)
        curve._started -= rows[-1][1] if rows else 0.0
        return curve

    def add(self, returns: np.ndarray) -> None:
        """Episodes ended with these returns."""
        self._returns.extend(float(r) for r in returns)

    def advance(self, steps: int, last: bool = False) -> bool:
        """Write a row if one is due; the first one waits for a finished episode.

        Whether there is a new row.
        """
        done = self.rows[-1][0] if self.rows else 0
        due = steps // self.every > done // self.every or (last and steps > done)
        if due and (self._returns or self.rows):
            seconds = time.monotonic() - self._started
            mean = float(np.mean(self._returns)) if self._returns else self.rows[-1][2]
            self.rows.append((steps, round(seconds, 1), mean))
            self._recent = (self._recent + self._returns)[-max(SCORED_ON, len(self._returns)) :]
            self._returns.clear()
            self._write()
            return True
        if last and not self.path.exists():
            self._write()  # no episode ended: an empty curve
        return False

    def score(self) -> float | None:
        """Mean return at the last row: of its episodes, and of earlier ones if those are few.

        None while fewer than ``SCORED_ON`` episodes have ended: their mean would be luck.
        """
        return float(np.mean(self._recent)) if len(self._recent) >= SCORED_ON else None

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows)
        write_atomic(self.path, text.getvalue())


def read_curve(path: Path) -> list[tuple[int, float, float]]:
    """The rows of a curve file; UserError when it is none."""
    try:
        with path.open(newline="", encoding="utf8") as file:
            reader = csv.DictReader(file)
            return [(int(r["steps"]), float(r["seconds"]), float(r["return"])) for r in reader]
    except (KeyError, TypeError, ValueError, csv.Error):
        raise UserError(f"'{path}' is not a learning curve: delete it") from None
