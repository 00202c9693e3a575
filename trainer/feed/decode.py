"""A split's shards become flat arrays in files of their own; what is missing or broken is named."""

import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import frames
from pipeline.errors import UserError
from pipeline.shards import open_shard, read_tables
from pipeline.stage import progress
from pipeline.types import Modality
from trainer.feed.frame_store import FrameWriter

OLDER_FRAMES = 3
"""Frames stored before each Atari episode: what its first stack shows before its newest frame."""


def decode_documents(modality: Modality, shards: list[Path], folder: Path) -> None:
    """Write the texts, and the pictures of a vision corpus, to ``folder``."""
    columns = ["text", *["images"] * (modality.observation == "vision")]
    lengths: dict[str, list[int]] = {name: [0] for name in columns}
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in columns}
        for shard in progress(shards, f"decode {folder.name.split('.')[1]}", unit="files"):
            for table in _tables(shard, columns):
                for name in columns:
                    for cell in table.column(name).to_pylist():
                        data = cell.encode() if name == "text" else cell["bytes"]
                        files[name].write(data)
                        lengths[name].append(len(data))
    for name, counts in lengths.items():
        np.save(folder / f"{name.removesuffix('s')}_offsets.npy", np.cumsum(counts))
        raw = np.memmap(folder / name, np.uint8, "r") if sum(counts) else np.empty(0, np.uint8)
        np.save(folder / f"{name}.npy", raw)
        (folder / name).unlink()


def _tables(shard: Path, columns: list[str]) -> Iterator[pa.Table]:
    """Row groups with these columns; UserError that names a missing one, or if there are none."""
    file = open_shard(shard)
    names = file.schema_arrow.names
    if not file.metadata.num_rows:
        raise UserError(f"'{shard}' has no rows: build the dataset again")
    for column in columns:
        if column not in names:
            raise UserError(f"'{shard}' has no column '{column}' (it has {', '.join(names)})")
    return read_tables(shard, columns)


def decode_episodes(modality: Modality, shards: list[Path], folder: Path) -> list[str]:
    """Write the arrays of all shards to ``folder``; returns the distinct missions.

    UserError if a shard is damaged, lacks a column, or holds numbers that are not finite.
    """
    lengths = np.concatenate(
        [
            _lengths(table.column("rewards"))
            for shard in shards
            for table in _tables(shard, ["rewards"])
        ]
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets)
    names = open_shard(shards[0]).schema_arrow.names
    image = modality.observation == "image"
    observation = "frames" if image and "frames" in names else modality.observation_column
    action = modality.action_column
    columns = [observation, action, "rewards", *["text_observations"] * modality.missions]

    screens = FrameWriter(folder) if image else None
    writers: dict[str, _Writer] = {}
    missions: dict[str, int] = {}

    def write(name: str, rows: np.ndarray, total: int) -> None:
        if name not in writers:
            writers[name] = _Writer(folder / f"{name}.npy", total, rows)
        writers[name].write(rows)

    steps = int(offsets[-1])
    for shard in progress(shards, f"decode {folder.name.split('.')[1]}", unit="files"):
        for table in _tables(shard, columns):
            check_lengths(shard, table)
            rewards = _flat(table.column("rewards")).astype(np.float32, copy=False)
            write("rewards", finite(shard, "rewards", rewards), steps)
            write("actions", finite(shard, action, _actions(table.column(action))), steps)
            if screens is not None:
                for cell in table.column(observation):
                    screens.write(_screens(shard, cell))
                continue
            observed = _observations(table.column(observation))
            write("observations", finite(shard, observation, observed), steps)
            if modality.missions:
                texts = _flat(table.column("text_observations"))
                ids = [missions.setdefault(text, len(missions)) for text in texts]
                write("missions", np.array(ids, np.int32), steps)
    for writer in writers.values():
        writer.close()
    if screens is not None:
        screens.close()
    return list(missions)


class _Writer:
    """Fills a .npy file of a known number of rows.

    It is not memory-mapped: on a full disk that would end the process without a word.
    """

    def __init__(self, path: Path, total: int, like: np.ndarray) -> None:
        self._file, self._type = path.open("wb"), like.dtype
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(like.dtype),
                "fortran_order": False,
                "shape": (total, *like.shape[1:]),
            },
        )

    def write(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, self._type).data)

    def close(self) -> None:
        self._file.close()


def check_lengths(shard: Path, table: pa.Table) -> None:
    """UserError unless every column has as many steps as the others in each episode."""
    expected = _lengths(table.column("rewards"))
    for name in table.column_names:
        if not np.array_equal(_lengths(table.column(name)), expected):
            raise UserError(
                f"'{shard}': episodes of '{name}' are not as long as their 'rewards': "
                "the shard is damaged, build it again"
            )


def finite(shard: Path, name: str, values: np.ndarray) -> np.ndarray:
    """The same values; UserError that names shard and column if one is NaN or infinite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise UserError(
            f"'{shard}': {count} of the numbers in '{name}' are NaN or infinite: "
            "collect the episodes of its task again"
        )
    return values


def _lengths(column: Any) -> np.ndarray:
    return np.concatenate([chunk.value_lengths().to_numpy() for chunk in column.chunks])


def _flat(column: Any) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False)


def _matrix(column: Any) -> np.ndarray:
    """Lists of lists of equal length as (steps, width)."""
    steps = column.combine_chunks().flatten()
    return steps.flatten().to_numpy(zero_copy_only=False).reshape(len(steps), -1)


def _observations(column: Any) -> np.ndarray:
    """Numbers as float32 (steps, width), integers as uint8 if they are stored so, else int32."""
    rows = _matrix(column)
    if rows.dtype.kind == "f":
        return rows.astype(np.float32, copy=False)
    return rows if rows.dtype == np.uint8 else rows.astype(np.int32)


def _actions(column: Any) -> np.ndarray:
    if pa.types.is_list(column.type.value_type):
        return _matrix(column).astype(np.float32, copy=False)
    return _flat(column).astype(np.int64, copy=False)


def _screens(shard: Path, cell: Any) -> np.ndarray:
    """One episode's frames after the three older ones of its first stack, uint8 (T + 3, 84, 84).

    The cell has single frames as bytes, or, as JAT published them, stacks of four as the channels
    of 84 × 84 pictures (the newest frame last).
    """
    rows = cell.values
    if pa.types.is_binary(rows.type):
        newest = frames.from_arrow(rows)
        return np.concatenate([np.repeat(newest[:1], OLDER_FRAMES, axis=0), newest])
    from PIL import Image

    try:
        stacks = [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in rows.to_pylist()]
        older = np.moveaxis(stacks[0], -1, 0)[:-1]
        return np.concatenate([older, np.stack([stack[..., -1] for stack in stacks])])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"'{shard}' has a picture that is none ({error})") from None
