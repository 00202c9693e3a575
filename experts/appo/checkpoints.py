"""Sample Factory's checkpoints, read without running what they may hold."""

import zipfile
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import UserError
from pipeline.stage import log

MAX_BYTES = 2**30
"""The largest file of an expert, unpacked; the published ones have 20 MB."""
MAX_PICKLE = 2**20
"""Bytes of a checkpoint's structure, which is read in plain Python."""
BEST = "best.pth"
"""The checkpoint of the best moment, beside those of the run."""


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """A Sample Factory checkpoint, without running any code that it may hold.

    ``model`` holds plain float tensors by name, ``train_step`` and ``env_steps`` are counters.
    UserError for a file that is missing, too large, broken or of another kind.
    """
    try:
        _check_archive(path)
        # Progress counters can be numpy scalars, which torch must be told are harmless.
        scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
        numpy_names = [scalar, np.dtype, *(type(np.dtype(t)) for t in ("f8", "f4", "i8"))]
        with torch.serialization.safe_globals(numpy_names):
            checkpoint = torch.load(path, map_location=device, weights_only=True)
        _check_contents(checkpoint)
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist") from None
    except Exception as error:  # torch raises many kinds for a broken or foreign file
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise UserError(
            f"'{path}' is not a readable Sample Factory checkpoint ({reason}): delete it"
        ) from None
    return checkpoint


def _check_archive(path: Path) -> None:
    """ValueError when the file is no zip archive, unpacks to more than it may, or is damaged:
    torch reads entries whatever their checksums say.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("not written by torch.save")
        entries = zipfile.ZipFile(file).infolist()
    if sum(entry.file_size for entry in entries) > MAX_BYTES or any(
        entry.file_size > MAX_PICKLE for entry in entries if entry.filename.endswith(".pkl")
    ):
        raise ValueError("too large")
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"'{damaged}' has another checksum")


def _check_contents(checkpoint: Any) -> None:
    """ValueError when what was read is no checkpoint of Sample Factory."""
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise ValueError("it holds no 'model'")
    for key in ("train_step", "env_steps"):
        if not isinstance(checkpoint.get(key), Integral) or checkpoint[key] < 0:
            raise ValueError(f"'{key}' is no count")
    for name, tensor in checkpoint["model"].items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise ValueError("'model' holds more than tensors")
    # A tensor can be larger than the file when its elements share memory.
    if sum(tensor.nbytes for tensor in checkpoint["model"].values()) > MAX_BYTES:
        raise ValueError("too large")


def _is_plain(tensor: Any) -> bool:
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout is torch.strided
        and tensor.is_floating_point()
        and not tensor.is_quantized
        and not tensor.is_meta
    )


def checkpoints_of(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(folder.glob("run/checkpoint_p0/checkpoint_*.pth"))


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest readable checkpoint; unreadable ones are removed, and said to be."""
    paths = checkpoints_of(folder)
    while paths:
        path = paths.pop()
        try:
            read_checkpoint(path)
            return path
        except UserError as error:
            then = "going on from the one before" if paths else "starting anew"
            log.warning("%s: removed, %s", error, then)
            path.unlink()
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of a run's best moment, if there is one; an unreadable one is removed."""
    path = folder / "run" / "checkpoint_p0" / BEST
    if not path.exists():
        return None
    try:
        read_checkpoint(path)
        return path
    except UserError as error:
        log.warning("%s: removed", error)
        path.unlink()
        return None


def summaries_of(folder: Path) -> Path:
    """The folder of a run's TensorBoard event files."""
    return folder / "run" / ".summary" / "0"


def steps_of(checkpoint: Path | None) -> int:
    """Agent steps that a checkpoint has seen (the last part of its name)."""
    return int(checkpoint.stem.rsplit("_", 1)[1]) if checkpoint else 0
