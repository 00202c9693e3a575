"""What a command may replace at a place of the user's choice: nothing but what it made there.

A folder is known by the record inside it, a table by its fields, a picture by a mark in its file.
"""

import json
import os
import struct
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

MARK = b"made by jack-of-all-trades"
MARK_REACH = 128
"""The mark is within so many bytes of the end of a picture."""
REMEDY = "move it away, or name another place"


def read_record(path: Path) -> Any:
    """The JSON in a file; ``None`` without one, or if it is something else."""
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError):
        return None


def check_folder(
    folder: Path, record: str, key: str, names: Callable[[dict[str, Any]], Collection[str]]
) -> None:
    """UserError unless a folder may be replaced as a whole: it is new, or empty, or ours.

    Args:
        record: the JSON file in it that tells that it is ours, by having ``key``.
        names: what else is ours in it, from the content of ``record``.
    """
    if _is_new(folder):
        return
    if not folder.is_dir():
        raise UserError(f"'{folder}' is not a folder: {REMEDY}")
    there = {path.name for path in folder.iterdir()}
    there -= {path.name for path in folder.glob(f".{record}.*.tmp")}  # of a process that was killed
    content = read_record(folder / record)
    ours = isinstance(content, dict) and key in content
    if there and not ours:
        raise UserError(f"'{folder}' was not made by this command (no {record} says so): {REMEDY}")
    if foreign := there - {record} - set(names(content) if ours else ()):
        raise UserError(
            f"'{folder / min(foreign)}' was not made by this command and would be lost: {REMEDY}"
        )


def check_json(path: Path, keys: Collection[str]) -> None:
    """UserError unless a file may be replaced: it is new, or a JSON object with these keys."""
    if not _is_new(path) and not _has(read_record(path), keys):
        raise _foreign(path)


def check_rows(path: Path, keys: Collection[str], *beside: Path) -> None:
    """UserError unless files may be replaced: they are new, or of one command.

    That is told by ``path``, a JSON object of objects, its rows, which all have ``keys``.
    """
    rows = read_record(path)
    if isinstance(rows, dict) and all(_has(row, keys) for row in rows.values()):
        return
    for file in (path, *beside):
        if not _is_new(file):
            raise _foreign(file)


def check_picture(path: Path) -> None:
    """UserError unless a file may be replaced: it is new, or a picture with our mark."""
    if _is_new(path):
        return
    if path.is_file():
        with path.open("rb") as file:
            file.seek(-min(MARK_REACH, path.stat().st_size), os.SEEK_END)
            if MARK in file.read():
                return
    raise _foreign(path)


def mark(picture: bytes) -> bytes:
    """The bytes of a PNG, GIF or MP4 with a comment in them by which ``check_picture`` knows them.

    A tEXt chunk (PNG, section 11.3.4.3), a comment extension (GIF89a, section 24) or a free box
    (ISO/IEC 14496-12, section 8.1.2): readers pass over them.
    """
    if picture.startswith(b"\x89PNG"):
        chunk = b"tEXtSoftware\0" + MARK
        checked = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return picture[:-12] + checked + picture[-12:]
    if picture.startswith(b"GIF"):
        return picture[:-1] + b"\x21\xfe" + bytes([len(MARK)]) + MARK + b"\0" + picture[-1:]
    return picture + struct.pack(">I4s", 8 + len(MARK), b"free") + MARK


def _has(content: Any, keys: Collection[str]) -> bool:
    return isinstance(content, dict) and set(keys) <= content.keys()


def _is_new(path: Path) -> bool:
    """Whether nothing is there; UserError if a file is where its folder should be."""
    for parent in path.parents:
        if os.path.lexists(parent):
            if not parent.is_dir():
                raise UserError(f"'{parent}' is not a folder: {REMEDY}")
            break
    return not os.path.lexists(path)


def _foreign(path: Path) -> UserError:
    return UserError(f"'{path}' was not made by this command: {REMEDY}")
