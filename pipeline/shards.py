"""Parquet shards: written a few episodes at a time, read back as arrays without copying numbers."""

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import cells, frames
from pipeline.errors import UserError
from pipeline.outputs import replaced_file

UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, MemoryError)
"""What pyarrow raises for files that are cut, changed or no Parquet at all."""
ROW_GROUP_BYTES = 8 * 2**20
"""Uncompressed bytes a row group holds at most (one episode at least): what a reader loads at
once, and what the Hub's viewer can still show."""
FILE_BYTES = 384 * 2**20
"""Bytes at which a published file ends: few files, each small enough to load in pieces."""
LEVEL, FRAMES_LEVEL = 3, 9
"""Levels of zstd. From level 5 on it finds what a frame shares with the frames before it."""


def write_shard(path: str | Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> dict[str, int]:
    """Stream tables into one Parquet file that appears whole; returns its rows and bytes.

    The bytes depend on the rows alone: tables are regrouped into row groups by size. One row group
    is compressed, on a thread of its own, while the next one is gathered.
    """
    rows = 0
    with (
        replaced_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, **_options(schema)) as writer,
        ThreadPoolExecutor(1, "write") as thread,
    ):
        written: Future[None] | None = None
        for group in _row_groups(tables):
            if written is not None:
                written.result()
            written = thread.submit(_write_group, writer, group)
            rows += len(group)
        if written is not None:
            written.result()
    return {"rows": rows, "bytes": Path(path).stat().st_size}


def write_files(
    folder: Path,
    stem: str,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    file_bytes: int = FILE_BYTES,
) -> list[Path]:
    """Stream tables into ``<stem>-00000-of-0000N.parquet``, the Hub's names.

    There is no file where there are no rows, since `datasets` cannot load an empty split. A file
    ends with the row group that makes it ``file_bytes`` long. The names are final only when all
    files are written: use it within ``pipeline.outputs.replaced_folder``.
    """
    parts: list[Path] = []
    options = _options(schema)
    groups = _row_groups(tables)
    group = next(groups, None)
    while group is not None:
        parts.append(folder / f"{stem}-{len(parts):05d}.parquet")
        with parts[-1].open("wb") as file, pq.ParquetWriter(file, schema, **options) as writer:
            _write_group(writer, group)
            while (group := next(groups, None)) is not None and file.tell() < file_bytes:
                _write_group(writer, group)
    names = [folder / f"{stem}-{k:05d}-of-{len(parts):05d}.parquet" for k in range(len(parts))]
    return [part.rename(name) for part, name in zip(parts, names, strict=True)]


def _options(schema: pa.Schema) -> dict[str, Any]:
    """How each column is encoded: dictionaries only make floats and frames larger, and slower."""
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    return {
        "compression": "zstd",
        "compression_level": {
            path: FRAMES_LEVEL if _holds_frames(path, type) else LEVEL for path, type in leaves
        },
        "use_dictionary": [
            path
            for path, type in leaves
            if not (pa.types.is_floating(type) or _holds_frames(path, type))
        ],
    }


def _leaves(path: str, type: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Parquet's names of the columns that an Arrow column is stored as, with their types."""
    if pa.types.is_list(type):
        yield from _leaves(f"{path}.list.element", type.value_type)
    elif pa.types.is_struct(type):
        for field in type:
            yield from _leaves(f"{path}.{field.name}", field.type)
    else:
        yield path, type


def _holds_frames(path: str, type: pa.DataType) -> bool:
    return pa.types.is_binary(type) and path.endswith(".element")


def _write_group(writer: pq.ParquetWriter, rows: pa.Table) -> None:
    writer.write_table(rows, row_group_size=max(1, len(rows)))


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        for k in range(len(table)):
            row = table.slice(k, 1)
            if waiting and size + row.nbytes > ROW_GROUP_BYTES:
                yield pa.concat_tables(waiting)
                waiting, size = [], 0
            waiting.append(row)
            size += row.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


def open_shard(path: str | Path) -> pq.ParquetFile:
    """A Parquet file, memory-mapped; UserError that names it when it is missing or broken."""
    try:
        file = pq.ParquetFile(path, memory_map=True)
        names = file.schema_arrow.names
    except FileNotFoundError:
        raise UserError(f"'{path}' does not exist: run the stage that makes it") from None
    except UNREADABLE as error:
        raise UserError(
            f"'{path}' is truncated or not Parquet ({first_line(error)}): "
            "delete it and run its stage again"
        ) from None
    if len(set(names)) < len(names):
        raise UserError(f"'{path}' has two columns of one name: delete it and run its stage again")
    return file


def read_tables(path: str | Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a shard, one table each; UserError that names a broken file."""
    file = open_shard(path)
    for group in range(file.num_row_groups):
        yield read_group(file, path, group, columns)


def read_group(
    file: pq.ParquetFile, path: str | Path, group: int, columns: list[str] | None = None
) -> pa.Table:
    """One row group of an open shard, whose cells are what the columns' names promise.

    UserError that names the file when it is damaged, or holds something else.
    """
    try:
        table = file.read_row_group(group, columns=columns)
        table.validate(full=True)
        problem = next(cells.problems(table), "")
    except UNREADABLE as error:
        problem = f"is damaged ({first_line(error)})"
    else:
        missing = sorted(set(columns or ()) - set(table.column_names))
        if missing:
            there = ", ".join(table.column_names)
            problem = f"has no column '{missing[0]}' (it has {there})"
    if problem:
        raise UserError(f"'{path}' {problem}: delete it and run its stage again")
    return table


def first_line(error: Exception) -> str:
    """What an error says, cut after its first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def read_rows(path: str | Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a shard, lists of numbers as numpy arrays and frames as (T, 84, 84) uint8."""
    for table in read_tables(path, columns):
        for k in range(len(table)):
            yield {name: to_numpy(name, table.column(name)[k]) for name in table.column_names}


def to_numpy(name: str, scalar: Any) -> Any:
    """One cell: numbers as arrays ((T,) or (T, D)), other values as Python objects."""
    if name == "final_observation" and pa.types.is_binary(scalar.type):
        return frames.from_bytes([scalar.as_py()])[0]
    if not pa.types.is_list(scalar.type):
        return scalar.as_py()
    values = scalar.values
    if values is None:
        return None
    if pa.types.is_binary(values.type):
        return frames.from_arrow(values)
    if pa.types.is_list(values.type):
        flat = values.flatten()
        return flat.to_numpy(zero_copy_only=False).reshape(len(values), -1)
    if pa.types.is_string(values.type):
        return np.array(values.to_pylist(), dtype=object)
    return values.to_numpy(zero_copy_only=False)


def sha256(path: str | Path) -> str:
    """The checksum of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
