"""How a program of this project ends: by Ctrl-C, or with the process that started it."""

import os
import signal
import sys
from contextlib import suppress

# Nothing else is imported before Ctrl-C is taken care of.

STOPPED = "stopped: run the same command again to go on from here"
INTERRUPTED = 130
"""The exit code of what Ctrl-C stopped: 128 and the number of SIGINT."""
PATIENCE = 5
"""Seconds that a stage whose DVC has ended gets to stop in order."""


def begin() -> None:
    """Called whenever ``pipeline`` is imported; does something only where a program begins.

    ``python -m package.module`` imports the package first, and says so in ``sys.argv[0]``: from
    here on Ctrl-C is one line, also while heavy modules are imported, and the end of DVC is the
    end of its stage. A process that multiprocessing has spawned ends with the one that did it.
    """
    if sys.argv[:1] == ["-m"]:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, stop_at_once)
        if "DVC_STAGE" in os.environ and (dvc := find_dvc()):
            end_with(dvc, PATIENCE)
    elif "--multiprocessing-fork" in sys.orig_argv:
        end_with(os.getppid())


def stop_at_once(number: int, frame: object) -> None:
    """What Ctrl-C does while nothing is written that would have to be cleaned up."""
    with suppress(OSError):  # nobody may be listening
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(INTERRUPTED)


def stop_in_order() -> None:
    """From here on Ctrl-C raises KeyboardInterrupt, so that what is half written is removed."""
    if signal.getsignal(signal.SIGINT) is stop_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def stop_at_once_from_here() -> None:
    """From here on Ctrl-C ends the process without another word: it is ending already."""
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))


def end_with(pid: int, patience: float = 0) -> None:
    """End this process when the process ``pid`` has ended: interrupted first, then killed.

    Whoever kills a process takes its children along, however deep they are in a call. Where the
    kernel cannot watch a process (other systems than Linux), nothing happens.
    """
    import select
    import threading

    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    except OSError:
        return

    def wait() -> None:
        watched = select.poll()
        watched.register(descriptor, select.POLLIN)
        watched.poll()
        if patience:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name=f"ends with {pid}", daemon=True).start()


def find_dvc() -> int | None:
    """The process of DVC above this one, whatever shells are between them.

    All that DVC starts has ``DVC_STAGE`` in its environment; it has not itself.
    """
    pid = os.getppid()
    while pid:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
            if not any(variable.startswith(b"DVC_STAGE=") for variable in variables):
                return pid
            with open(f"/proc/{pid}/status", encoding="utf8") as file:
                status = file.read()
        except OSError:
            return None
        pid = int(status.partition("PPid:")[2].split()[0])
    return None
