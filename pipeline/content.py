"""Checksums of files, each hashed once: what identifies data is its content, never its size."""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from pipeline.manifest import fingerprint
from pipeline.paths import ARTIFACTS
from pipeline.shards import sha256

MEMORY = ARTIFACTS / "cache" / "checksums.sqlite"
"""Remembers path, size, time of the last change (ns) and inode of each file, with its checksum."""
SETTLED_NS = 2 * 10**9
"""A file that changed less than this before it was hashed could change again without another time,
as a file system's clock ticks slowly: it is hashed again next time."""


def checksum(path: str | Path) -> str:
    """sha256 of a file's bytes, hexadecimal; not read again while the file stays the same one.

    Nothing is remembered where nothing can be written. OSError without such a file.
    """
    path = Path(path).resolve()
    state = path.stat()
    facts = (str(path), state.st_size, state.st_mtime_ns, state.st_ino)
    known = _query("SELECT sha256 FROM files WHERE path=? AND size=? AND time=? AND inode=?", facts)
    if known:
        return known[0][0]
    found, settled = sha256(path), time.time_ns() - SETTLED_NS
    if state.st_mtime_ns < settled:
        _query("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (*facts, found))
    return found


def same_content(path: Path, size: int, expected: str) -> bool:
    """Whether a file is there and has the bytes that a record tells of."""
    return path.is_file() and path.stat().st_size == size and checksum(path) == expected


def contents(files: Iterable[Path]) -> str:
    """One digest of the names and the bytes of files, in their order."""
    return fingerprint({"files": [(path.name, checksum(path)) for path in files]})


def _query(statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The rows found, none where the memory cannot be used."""
    try:
        MEMORY.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(MEMORY, timeout=30, isolation_level=None)) as memory:
            memory.execute(
                "CREATE TABLE IF NOT EXISTS files "
                "(path TEXT PRIMARY KEY, size INTEGER, time INTEGER, inode INTEGER, sha256 TEXT)"
            )
            return memory.execute(statement, values).fetchall()
    except (OSError, sqlite3.Error):
        return []
