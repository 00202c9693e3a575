"""Ends a training run that makes no progress, whether its event loop is idle or blocked."""

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from signal_slot.signal_slot import EventLoop, EventLoopObject, Timer

from pipeline.errors import UserError

STALL_SECONDS = 240
"""A run that learns nothing for this long is given up, which ends it in under five minutes. One
batch of the published scale takes over a minute of a free core on Atari."""
CHECK_SECONDS = 10


class Watchdog(EventLoopObject):
    """Gives up a run that has not been fed for ``STALL_SECONDS``; a context manager.

    A dead worker or a sampler without data leaves Sample Factory's event loop waiting for ever: a
    timer of that loop raises UserError. In serial mode an environment that never returns from
    ``step`` blocks the loop itself: then a thread says so and ends the process.
    """

    def __init__(self, loop: EventLoop, task: str, folder: Path) -> None:
        super().__init__(loop, "watchdog")
        self.task, self.folder = task, folder
        self.feed()

    def feed(self) -> None:
        """Progress was made."""
        self._last = time.monotonic()

    def check(self) -> None:
        """UserError when no progress was made for too long."""
        if self._idle() > STALL_SECONDS:
            raise UserError(self._message())

    def __enter__(self) -> "Watchdog":
        self._timer = Timer(self.event_loop, CHECK_SECONDS)
        self._timer.timeout.connect(self.check)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.stop()
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        # The loop's own check comes first where the loop still turns: it ends nothing but this run.
        while not self._over.wait(CHECK_SECONDS):
            if self._idle() > STALL_SECONDS + 2 * CHECK_SECONDS:
                end_process(self._message(), self.folder)

    def _idle(self) -> float:
        return time.monotonic() - self._last

    def _message(self) -> str:
        return (
            f"training {self.task} made no progress for {STALL_SECONDS} s and was given up: "
            "run the same command again to go on from its last checkpoint"
        )


def end_process(message: str, folder: Path) -> None:
    """End this process at once with one line and exit code 2; nothing softer stops a C++ call.

    What a Ray worker writes is not shown, but Ray runs its task again: there the line goes into
    ``folder``, where ``raise_last_words`` finds it.
    """
    for child in multiprocessing.active_children():
        child.kill()
    if _is_ray_worker():
        _last_words(folder).write_text(message, encoding="utf8")
    else:
        os.write(2, f"error: {message}\n".encode())
    os._exit(2)


def raise_last_words(folder: Path) -> None:
    """UserError with what a Ray worker that was ended in this ``folder`` had to say, once."""
    path = _last_words(folder)
    if path.exists():
        message = path.read_text(encoding="utf8")
        path.unlink()
        raise UserError(message)


def _last_words(folder: Path) -> Path:
    return folder / "given_up.txt"


def _is_ray_worker() -> bool:
    ray = sys.modules.get("ray")
    # The mode is the process's; Ray's task id is known to the task's own thread only.
    return bool(
        ray and ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    )
