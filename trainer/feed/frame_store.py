"""Game screens on disk, compressed some frames at a time, read by slices as an array is."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.frames import FRAME_BYTES, SIDE

BLOCK = 32
"""Frames compressed together. A window of 35 frames lies in two or three blocks; smaller ones take
more space and, as each costs a call, are read no faster."""
CODEC = {"compression": "zstd", "compression_level": 3}


class FrameWriter:
    """Appends frames to ``<folder>/frames.zst`` and, at the end, writes where each block begins."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "frames.zst").open("wb")
        self._index = folder / "frames_index.npy"
        self._codec = pa.Codec(**CODEC)
        self._waiting = np.empty((0, SIDE, SIDE), np.uint8)
        self._offsets = [0]
        self._frames = 0

    def write(self, frames: np.ndarray) -> None:
        """Append uint8 (n, 84, 84)."""
        frames = np.concatenate([self._waiting, frames])
        whole = len(frames) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            self._compress(frames[start : start + BLOCK])
        self._waiting = frames[whole:].copy()

    def close(self) -> None:
        """Write the last block and the index: int64, the offsets of blocks, then all frames."""
        if len(self._waiting):
            self._compress(self._waiting)
        self._file.close()
        np.save(self._index, np.array([*self._offsets, self._frames]))

    def _compress(self, frames: np.ndarray) -> None:
        data = self._codec.compress(np.ascontiguousarray(frames), asbytes=True)
        self._file.write(data)
        self._offsets.append(self._offsets[-1] + len(data))
        self._frames += len(frames)


class FrameStore:
    """What a ``FrameWriter`` wrote, memory-mapped: uint8 (N, 84, 84), read by slices."""

    def __init__(self, folder: Path) -> None:
        *offsets, self._frames = np.load(folder / "frames_index.npy").tolist()
        self._offsets = np.array(offsets)
        self._path = folder / "frames.zst"
        self._data = np.memmap(self._path, np.uint8, "r")
        self._codec = pa.Codec(**CODEC)

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Frames ``rows.start`` to ``rows.stop``, both given; UserError if they are damaged."""
        first, last = rows.start // BLOCK, -(-rows.stop // BLOCK)
        blocks = [self._block(block) for block in range(first, last)]
        frames = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
        return frames[rows.start - first * BLOCK : rows.stop - first * BLOCK]

    def __reduce__(self) -> tuple:
        return type(self), (self._path.parent,)

    def _block(self, block: int) -> np.ndarray:
        data = self._data[self._offsets[block] : self._offsets[block + 1]]
        size = min(BLOCK, self._frames - block * BLOCK) * FRAME_BYTES
        try:
            frames = self._codec.decompress(data, size, asbytes=True)
        except (OSError, pa.ArrowInvalid):
            raise UserError(
                f"'{self._path}' is damaged: delete the folder, it is made again"
            ) from None
        return np.frombuffer(frames, np.uint8).reshape(-1, SIDE, SIDE)
