"""Atari frames are stored once; stacks of four are rebuilt on reading."""

import numpy as np
import pyarrow as pa

SIDE = 84
FRAME_BYTES = SIDE * SIDE


def newest(stacks: np.ndarray) -> np.ndarray:
    """The newest frame of each stack: (n, 4, 84, 84) -> (n, 84, 84)."""
    return stacks[:, -1]


def stack(frames: np.ndarray, count: int = 4) -> np.ndarray:
    """The stacks of one episode: uint8 (T, 84, 84) -> (T, count, 84, 84), oldest frame first.

    Before the first frame of an episode the stack is filled with that frame, as the
    environment does at a reset. The result is a copy-free view of a padded array.
    """
    padded = np.concatenate([np.repeat(frames[:1], count - 1, axis=0), frames])
    windows = np.lib.stride_tricks.sliding_window_view(padded, count, axis=0)
    return np.moveaxis(windows, -1, 1)


def from_bytes(rows: list[bytes]) -> np.ndarray:
    """Rows of 7,056 grey values as uint8 (T, 84, 84)."""
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, SIDE, SIDE)


def to_arrow(frames: np.ndarray) -> pa.BinaryArray:
    """Frames (T, 84, 84) uint8 as rows of bytes, without copying them if they are contiguous."""
    offsets = np.arange(len(frames) + 1, dtype=np.int32) * FRAME_BYTES
    data = np.ascontiguousarray(frames)
    return pa.Array.from_buffers(
        pa.binary(), len(frames), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def from_arrow(rows: pa.BinaryArray) -> np.ndarray:
    """What ``from_bytes`` gives, without copying; ValueError if a row is no frame."""
    if not len(rows):
        return from_bytes([])
    _, offsets, data = rows.buffers()
    ends = np.frombuffer(offsets, np.int32)[rows.offset : rows.offset + len(rows) + 1]
    if (np.diff(ends) != FRAME_BYTES).any():
        raise ValueError(f"a frame does not have {FRAME_BYTES} bytes")
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].reshape(-1, SIDE, SIDE)
