"""Sample Factory's checkpoints of one training run, read without running what they may hold."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import UserError
from pipeline.stage import log


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """A Sample Factory checkpoint, without running any code that it may hold.

    Its progress counters can be numpy scalars, which torch must be told are harmless.
    """
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    numpy_names = [scalar, np.dtype, *(type(np.dtype(t)) for t in ("f8", "f4", "i8"))]
    try:
        with torch.serialization.safe_globals(numpy_names):
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist") from None
    except Exception as error:  # torch raises many kinds for a broken or foreign file
        raise UserError(
            f"'{path}' is not a readable Sample Factory checkpoint "
            f"({type(error).__name__}): delete it"
        ) from None


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("run/checkpoint_p0/checkpoint_*.pth"))


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest readable checkpoint; unreadable ones are removed, and said to be."""
    for path in reversed(checkpoints_of(folder)):
        try:
            read_checkpoint(path)
            return path
        except UserError as error:
            log.warning("%s: removed, going on from the one before", error)
            path.unlink()
    return None


def steps_of(checkpoint: Path | None) -> int:
    """Agent steps that a checkpoint has seen (the last part of its name)."""
    return int(checkpoint.stem.rsplit("_", 1)[1]) if checkpoint else 0
