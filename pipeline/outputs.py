"""Outputs appear whole, have one writer at a time, and leave nothing beside them.

Every file and every folder is written under its lock, in a temporary place beside it
(``.<name>.<pid>.tmp`` or ``.part``), and takes its place at once. Whoever holds the lock may
remove what a process that died has left. Where machines share a disk, which know nothing of each
other's locks, the process's number keeps writers apart.
"""

import ctypes
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.locks import free_lock, locked, tidy
from pipeline.system_errors import naming

LEFT = re.compile(r"\.(?P<name>.+)\.\w+\.(?P<kind>tmp|part|old)")
"""Temporary names; ``old`` is a folder whose place is being taken."""
EXCHANGE = 2
"""Linux' RENAME_EXCHANGE (renameat2(2)): two names swap what they stand for."""
HERE = -100
"""AT_FDCWD: paths are relative to the working folder."""

# ---------------------------------------------------------------- whole or not at all


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """A temporary path whose file takes the place of ``path`` when the block ends without an error.

    An error of the file system names ``path``.
    """
    path = _place(path, folder=False)
    temporary = _temporary(path, "tmp")
    with locked(path), naming(path, instead_of=temporary):
        _remove_left(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``path`` when the block ends without an error.

    There is no moment without a folder, if there was one. An error of the file system names what
    it is about as it would lie in ``path``.
    """
    path = _place(path, folder=True)
    temporary = _temporary(path, "part")
    with locked(path), naming(path, instead_of=temporary):
        _remove_left(path)
        temporary.mkdir()
        try:
            yield temporary
            put(temporary, path)
        finally:
            remove(temporary)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write a whole file under a temporary name, then rename it into place."""
    with replaced_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, indented and with sorted keys, atomically."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def put(folder: Path, path: Path) -> None:
    """Move a finished folder to the place of ``path``, whose old content goes; under its lock."""
    if not path.exists():
        os.rename(folder, path)
        return
    try:
        exchange(folder, path)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            raise
        # A file system that cannot exchange: `sweep` puts the old folder back after a kill.
        old = _temporary(path, "old")
        os.rename(path, old)
        os.rename(folder, path)
        folder = old
    remove(folder)


def exchange(one: Path, other: Path) -> None:
    """Two names swap what they stand for, at once; OSError where the system cannot do it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _place(path: str | Path, folder: bool) -> Path:
    """The real path of an output, whose link is followed; its parent folder is made.

    OSError, before anything is computed, if a folder is there for a file, or the other way round.
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.is_dir() != folder:
        number = errno.ENOTDIR if folder else errno.EISDIR
        raise OSError(number, os.strerror(number), str(path))
    return path


def _temporary(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


# ---------------------------------------------------------------- what dead runs have left


@contextmanager
def claimed(*paths: str | Path) -> Iterator[None]:
    """``locked`` for the outputs of a whole stage, less what dead runs have left of them."""
    tidy()
    with ExitStack() as stack:
        for path in sorted(map(str, paths)):  # in one order, or two runs would wait for each other
            stack.enter_context(locked(path))
            sweep(path)
        yield


def sweep(path: str | Path) -> None:
    """Remove what runs that died have left half written of ``path``, and of all below it.

    What a running process writes is left alone: it has the lock.
    """
    path = Path(path)
    with free_lock(path) as free:
        if free:
            _remove_left(path)
    for root, folders, files in os.walk(path):
        for name in [*folders, *files]:
            if not (match := LEFT.fullmatch(name)):
                continue
            if name in folders:
                folders.remove(name)
            output = Path(root) / match["name"]
            with free_lock(output) as free:
                if free:
                    _remove_left(output)


def _remove_left(path: Path) -> None:
    """Remove what is left of the temporary places of ``path``; under its lock."""
    for left in _hidden(path, LEFT.pattern):
        if left.suffix == ".old" and not path.exists():
            os.rename(left, path)
        else:
            remove(left)


def _hidden(path: Path, pattern: str) -> list[Path]:
    """The files and folders beside ``path`` that are named after it by this pattern."""
    if not path.parent.is_dir():
        return []
    found = [(other, re.fullmatch(pattern, other.name)) for other in path.parent.iterdir()]
    return [other for other, match in found if match and match["name"] == path.name]


# ---------------------------------------------------------------- what is made step by step


PARTS = r"\.(?P<name>.+)\.parts-[0-9a-f]+"
"""Names of the folders of ``parts_folder``."""


def parts_folder(path: Path, key: str) -> Path:
    """The folder ``.<name>.parts-<key>`` of steps towards ``path``, which a stopped run leaves.

    A run with the same ``key`` (hexadecimal) takes them up; those of other keys are removed. Use
    it under the lock of ``path``.
    """
    parts = path.with_name(f".{path.name}.parts-{key[:16]}")
    remove_parts(path, but=parts)
    return parts


def remove_parts(path: Path, but: Path | None = None) -> None:
    """Remove the steps towards ``path``; under its lock."""
    for parts in _hidden(path, PARTS):
        if parts != but:
            remove(parts)
