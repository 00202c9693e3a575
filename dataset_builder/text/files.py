"""Documents of text files, on this machine or behind any fsspec URL (hf://, s3://, https://)."""

import hashlib
import io
import json
import posixpath
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from httpx2 import HTTPError

from dataset_builder.text.document import Document
from pipeline.content import checksum
from pipeline.errors import UserError
from pipeline.shards import UNREADABLE as PARQUET_ERRORS

FORMATS = (".txt", ".jsonl", ".jsonl.gz", ".parquet")
# Of the Hub's HTTP errors some are no OSError.
UNREADABLE = (OSError, EOFError, zlib.error, HTTPError)


def find_files(where: str) -> tuple[fsspec.AbstractFileSystem, list[str]]:
    """The files of a folder (with its subfolders), one file, or the matches of a glob, sorted.

    Raises:
        UserError: none is found, one has another format than `FORMATS`, or the host fails.
    """
    try:
        filesystem, path = url_to_fs(where)
        if filesystem.isdir(path):
            files = [name for name in filesystem.find(path) if name.endswith(FORMATS)]
        elif filesystem.isfile(path):
            files = [path]
        else:
            files = [name for name in filesystem.glob(path) if filesystem.isfile(name)]
    except (*UNREADABLE, ImportError, ValueError) as error:
        raise UserError(f"files:{where} cannot be listed: {_reason(error)}") from error
    if not files:
        raise UserError(f"source: no {', '.join(FORMATS)} file at files:{where}")
    for name in files:
        if not name.endswith(FORMATS):
            raise UserError(f"{name}: expected a {', '.join(FORMATS)} file")
    return filesystem, sorted(files)


def files_fingerprint(where: str) -> str:
    """A hash that changes with the files' names and contents.

    For files elsewhere, the host's description (size, date, checksum) stands for the content.
    """
    filesystem, files = find_files(where)
    digest = hashlib.blake2b(digest_size=16)
    for name in files:
        digest.update(f"{name}\0".encode())
        if "file" not in filesystem.protocol:
            digest.update(filesystem.ukey(name).encode())
            continue
        digest.update(checksum(name).encode())
    return digest.hexdigest()


def read_files(where: str, text_column: str = "text") -> Iterator[Document]:
    """Documents of text files (one each), JSON lines and Parquet tables (one a row).

    Args:
        where: a folder (with its subfolders), a file or a glob, as a path or an fsspec URL.
        text_column: the JSON key or Parquet column with the text.

    Raises:
        UserError: no such file, or one that is malformed; the line names the file.
    """
    filesystem, files = find_files(where)
    root = posixpath.commonpath([posixpath.dirname(name) for name in files])
    for name in files:
        read = _reader(name)
        short = posixpath.relpath(name, root)
        meta = {"source": posixpath.basename(posixpath.dirname(name))}
        try:
            with filesystem.open(name, "rb", compression="infer") as file:
                for row, text in enumerate(read(file, name, text_column)):
                    yield Document(f"{short}#{row}", text, meta)
        except UNREADABLE as error:
            raise UserError(f"{name}: cannot be read: {_reason(error)}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: not UTF-8 text; convert it first") from error


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _reader(name: str) -> Callable[[Any, str, str], Iterator[str]]:
    if name.endswith(".txt"):
        return _read_txt
    return _read_parquet if name.endswith(".parquet") else _read_jsonl


def _read_txt(file: Any, name: str, text_column: str) -> Iterator[str]:
    yield file.read().decode("utf-8")


def _read_jsonl(file: Any, name: str, text_column: str) -> Iterator[str]:
    for number, line in enumerate(io.TextIOWrapper(file, encoding="utf-8"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}:{number}: not a JSON object on one line") from error
        text = row.get(text_column) if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise UserError(f"{name}:{number}: no text under the key {text_column!r}")
        # JSON may name halves of surrogate pairs, which no UTF-8 file can hold.
        yield text.encode("utf-8", "replace").decode()


def _read_parquet(file: Any, name: str, text_column: str) -> Iterator[str]:
    try:
        table = pq.ParquetFile(file)
        if text_column not in table.schema_arrow.names:
            raise UserError(f"{name}: no column {text_column!r} in {table.schema_arrow.names}")
        kind = table.schema_arrow.field(text_column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"{name}: column {text_column!r} holds {kind}, not text")
        for batch in table.iter_batches(columns=[text_column]):
            yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except PARQUET_ERRORS as error:
        raise UserError(f"{name}: not a Parquet file, or damaged") from error
