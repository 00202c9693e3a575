"""Remove what a killed DVC has left locked: ``python -m pipeline.unlock``, before ``dvc repro``.

DVC writes down in ``.dvc/tmp/rwlock`` who reads and writes which output. A process that was killed
stays listed, and the file may be half written; DVC then refuses to run until somebody mends it.
"""

import argparse
import fcntl
import json
from pathlib import Path
from typing import Any

from pipeline.outputs import write_atomic
from pipeline.stage import exit_with_one_line, log

FOLDER = Path(".dvc") / "tmp"
RWLOCK, GUARD = "rwlock", "rwlock.lock"
"""DVC's file, and the file that DVC locks while it changes the other (dvc/rwlock.py)."""

PROCESSES = Path("/proc")
"""Where Linux tells of its processes; elsewhere nothing is unlocked, as nobody can be asked."""


def unlock(folder: Path = FOLDER) -> list[str]:
    """Remove from DVC's lock file the processes that have ended; a line of text for each.

    Running processes keep their locks: DVC itself names one that is in the way.
    """
    path = folder / RWLOCK
    if not path.exists() or not PROCESSES.is_dir():
        return []
    with (folder / GUARD).open("a") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return []  # DVC is changing the list at this moment: it runs
        try:
            listed = json.loads(path.read_text(encoding="utf8"))
            kept, gone = _sort(listed)
        except (ValueError, TypeError, KeyError, AttributeError):
            path.unlink()
            return [f"'{path}' was half written by a DVC that was killed: removed"]
        if gone:
            write_atomic(path, json.dumps(kept))
    return [f"'{info['cmd']}' (process {info['pid']}) was killed: unlocked" for info in gone]


def _sort(listed: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What stays of DVC's list, and who is taken out of it, each once."""
    gone: dict[int, dict[str, Any]] = {}

    def runs(info: dict[str, Any]) -> bool:
        if not is_dvc(int(info["pid"])):
            gone[int(info["pid"])] = info
            return False
        return True

    writers = {path: info for path, info in listed.get("write", {}).items() if runs(info)}
    readers = {
        path: [info for info in infos if runs(info)]
        for path, infos in listed.get("read", {}).items()
    }
    kept = {"write": writers, "read": {path: infos for path, infos in readers.items() if infos}}
    return kept, list(gone.values())


def is_dvc(pid: int) -> bool:
    """Whether a process of this number runs DVC: numbers are given again to other programs."""
    try:
        command = (PROCESSES / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False
    return b"dvc" in command


def main() -> None:
    """Unlock, and say what was done."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    for line in unlock():
        log.info(line)


if __name__ == "__main__":
    exit_with_one_line(main)
