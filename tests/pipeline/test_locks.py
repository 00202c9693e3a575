import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline import locks
from pipeline.locks import free_lock, locked
from pipeline.stage import log

HOLD = """
import sys, time
from pipeline.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> subprocess.Popen:
    """A process that holds the lock of ``path`` until its input is closed."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_waits_and_says_for_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, "jat")
    process = hold(tmp_path / "out")
    assert process.stdin is not None
    threading.Timer(0.5, process.stdin.close).start()
    with locked(tmp_path / "out"):
        process.wait(60)
    (line,) = caplog.messages
    assert str(process.pid) in line
    assert str(tmp_path / "out") in line
    assert "since" in line


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    process = hold(tmp_path / "out")
    with free_lock(tmp_path / "out") as free:
        assert not free
    process.send_signal(signal.SIGKILL)
    process.wait()
    file = locks._lock_file(tmp_path / "out")
    assert file.exists()
    living = hold(tmp_path / "other")
    locks.tidy()
    assert not file.exists()
    with free_lock(tmp_path / "out") as free, free_lock(tmp_path / "other") as other:
        assert free
        assert not other
    living.communicate()


def test_the_same_thread_may_lock_again_and_nothing_is_left(tmp_path: Path) -> None:
    before = set(locks.LOCKS.glob("*"))
    with locked(tmp_path / "out"), locked(tmp_path / "out"), free_lock(tmp_path / "out") as free:
        assert free
        assert set(locks.LOCKS.glob("*")) != before
    assert not locks._lock_file(tmp_path / "out").exists()


def test_two_names_of_one_place_are_one_lock(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    process = hold(tmp_path / "real" / "out")
    with free_lock(tmp_path / "link" / "out") as free:
        assert not free
    process.communicate()


def test_threads_take_turns(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(20):
            with locked(tmp_path / "out"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1
