"""A process that ends a Ray whose driver has died: Ray's own agents would run on.

    python ray_guard.py NAME FOLDER

Waits until its standard input ends, which the kernel does to whatever the driver was, then kills
the processes that have ``NAME=FOLDER`` in their environment, and removes the folder. It imports
nothing of this project, so that it starts in milliseconds.
"""

import os
import shutil
import signal
import sys
import time

SECONDS = 10
"""How long processes may take to end, and so leave the folder alone."""


def marked(mark: bytes) -> list[int]:
    """The processes that have ``mark`` in their environment, but for this one."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue  # it has ended, or is another user's
    return found


def main(name: str, folder: str) -> None:
    """Wait for the end of the driver, then clean up after it."""
    sys.stdin.buffer.read()
    end = time.monotonic() + SECONDS
    while (left := marked(f"{name}={folder}".encode())) and time.monotonic() < end:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
