"""One writer at a time: a lock for each file and folder that is written.

The kernel frees the lock of a process that dies, so that there is never a stale one. Locks are
known to one machine.
"""

import fcntl
import hashlib
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from pipeline.errors import UserError
from pipeline.system_errors import naming

log = logging.getLogger("jat")

LOCKS = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp") / f"jat-locks-{os.getuid()}"
"""The locks' files, in memory where there is such a place: a full disk takes none. Not below
TMPDIR, so that any two runs on a machine meet here."""

_locks = threading.local()
"""``held``: the files of the locks that this thread holds."""


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Be the only one that writes ``path``, a file or a folder, in the block.

    Waits for another process, or thread, and logs for whom. The same thread may lock it again.
    Errors of the file system that name no file name ``path``.
    """
    with naming(path), _lock(Path(path), wait=True):
        yield


def free_lock(path: str | Path) -> AbstractContextManager[bool]:
    """Hold the lock of ``path`` in the block, if nobody else does; whether it is held now."""
    return _lock(Path(path), wait=False)


@contextmanager
def _lock(path: Path, wait: bool) -> Iterator[bool]:
    file = _lock_file(path)
    held = _locks.__dict__.setdefault("held", set())
    if file in held:
        yield True
        return
    descriptor = _acquire(file, path, wait)
    if descriptor is None:
        yield False
        return
    held.add(file)
    try:
        yield True
    finally:
        held.remove(file)
        _release(file, descriptor)


def tidy() -> None:
    """Remove the files of locks that nobody holds: those of processes that were killed."""
    for file in LOCKS.glob("*"):
        descriptor = _acquire(file, file, wait=False)
        if descriptor is not None:
            _release(file, descriptor)


def _release(file: Path, descriptor: int) -> None:
    file.unlink(missing_ok=True)
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # for forked children too, which have it as well
    os.close(descriptor)


def _acquire(file: Path, path: Path, wait: bool) -> int | None:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    os.close(descriptor)
                    return None
                log.info("waiting for '%s', which is written by %s", path, _holder(descriptor))
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(file, descriptor):
                with suppress(OSError):  # only what is told to those who wait
                    os.truncate(descriptor, 0)
                    os.pwrite(descriptor, _self().encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed the file meanwhile


def _lock_file(path: Path) -> Path:
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    if LOCKS.stat().st_uid != os.getuid():
        raise UserError(f"'{LOCKS}' belongs to another user: remove it")
    return LOCKS / hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]


def _is_still(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _self() -> str:
    return f"process {os.getpid()} ({shlex.join(sys.orig_argv)}) since {time.strftime('%X')}"


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 4096, 0).decode(errors="replace") or "another process"
