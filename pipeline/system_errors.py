"""What the file system refuses, as one line: which file, why, and what to do about it."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = "free some space, then run the same command again"
LOCKED_OUT = "change its owner or permissions (`ls -ld` shows them)"
IN_THE_WAY = "a file is where a folder should be: move it away"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "raise the limit (`ulimit -f`), or use a file system that takes larger files",
    errno.EROFS: "make the file system writable, or work in another folder",
    errno.EACCES: LOCKED_OUT,
    errno.EPERM: LOCKED_OUT,
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOTDIR: IN_THE_WAY,
    errno.EEXIST: IN_THE_WAY,
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.ENOENT: "run the stage that makes it",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit (`ulimit -n`), or lower 'workers'",
    errno.ENFILE: "close other programs, or lower 'workers'",
    errno.ENOMEM: "close other programs, or lower 'workers'",
}
"""errno -> what the user can do."""
RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers end the message of an error of the operating system."""
NOT_WHOLE = re.compile(r"inline_container\.cc|PytorchStreamWriter|requested and \d+ written")
"""What torch and numpy say when a file could not be written to its end; not why."""


def file_error(error: BaseException) -> OSError | None:
    """The error of the file system that ``error`` is, or that it reports in its own way.

    pyarrow and numpy raise OSError themselves. What was raised ``from`` such an error counts.
    """
    if isinstance(error, OSError) and (error.errno in REMEDIES or error.filename is not None):
        return error
    if match := RUST.search(str(error)):
        return OSError(int(match[1]), os.strerror(int(match[1])))
    if isinstance(error, RuntimeError | OSError) and NOT_WHOLE.search(str(error)):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return file_error(error.__cause__) if error.__cause__ else None


def one_line(error: BaseException) -> str | None:
    """``'path': reason: remedy`` of a file system's error; what any other OSError says of itself.

    ``None`` for what is no error of the operating system.
    """
    found = file_error(error)
    if found is None:
        return str(error).strip().partition("\n")[0] if isinstance(error, OSError) else None
    number = found.errno or 0
    reason = os.strerror(number) if number else str(found).partition("\n")[0]
    parts = [reason, REMEDIES.get(number, "mend that, then run the same command again")]
    if found.filename is not None:
        parts.insert(0, f"'{_name(found)}'")
    return ": ".join(parts)


@contextmanager
def naming(path: str | Path, instead_of: str | Path = "") -> Iterator[None]:
    """Errors of the file system in the block name a file: ``path``, if they name none themselves.

    What lies in ``instead_of``, a temporary place, is named as it would be in ``path``.
    """
    try:
        yield
    except Exception as error:
        found = file_error(error)
        if found is None:
            raise
        named = str(path) if found.filename is None else _name(found)
        if instead_of:
            named = named.replace(str(instead_of), str(path))
        if found is error and found.filename is not None and named == _name(found):
            raise
        reason = os.strerror(found.errno) if found.errno else str(found)
        raise OSError(found.errno, reason, named) from error


def _name(error: OSError) -> str:
    """The file that an error names: a text or bytes, a descriptor where it was opened by one."""
    name = error.filename
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)
