import re
import subprocess
import sys
import time

import pytest
from signal_slot.signal_slot import EventLoop

from experts.appo import checkpoints, recipe, watchdog
from experts.appo import sample_factory as sf
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.fanout import fan_out
from pipeline.tasks import get_task

TASK = "mujoco-pendulum"


def training(folder, steps=10**8):
    small = {"rollout": 16, "batch_size": 128, "num_batches_per_epoch": 1, "save_every_sec": 1}
    published = get_domain("mujoco").recipe(get_task(TASK))
    return recipe.Training(TASK, steps, 8, {**published, **small}, {}, 3, folder)


HANGING = """
import sys, time
from pathlib import Path
from experts.appo import sample_factory, watchdog
from experts.appo.checkpoints import steps_of
from experts.appo.recipe import Training
from pipeline.domains import get_domain
from pipeline.tasks import get_task
from pipeline.stage import exit_with_one_line

folder = Path(sys.argv[1])
watchdog.CHECK_SECONDS = 0.2
step = sample_factory.TrainingEnv.step

def hang(self, action):
    if any(steps_of(path) for path in folder.rglob("checkpoint_*.pth")):
        watchdog.STALL_SECONDS = 1
        time.sleep(600)
    return step(self, action)

sample_factory.TrainingEnv.step = hang
recipe = {"save_every_sec": 1, "rollout": 16, "batch_size": 128, "num_batches_per_epoch": 1}
recipe = {**get_domain("mujoco").recipe(get_task("mujoco-pendulum")), **recipe}
run = Training("mujoco-pendulum", 10**8, 8, recipe, {}, 3, folder)
exit_with_one_line(lambda: sample_factory.train(run))
"""


def test_an_environment_that_hangs_ends_the_process_and_keeps_the_state(tmp_path):
    """In serial mode ``step`` blocks the event loop, whose timers never fire again."""
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    (line,) = lines
    assert re.match(
        r"error: training mujoco-pendulum made no progress for 1 s .*run the same", line
    )
    resumed_at = checkpoints.steps_of(checkpoints.newest_checkpoint(tmp_path))
    assert resumed_at > 0
    final = sf.train(training(tmp_path, steps=resumed_at + 500))
    assert checkpoints.steps_of(final) >= resumed_at + 500


WORKER = """
import sys
from pathlib import Path
from types import SimpleNamespace

mode = int(sys.argv[2])
context = SimpleNamespace(worker=SimpleNamespace(mode=mode))
sys.modules["ray"] = SimpleNamespace(
    WORKER_MODE=1, is_initialized=lambda: True, get_runtime_context=lambda: context
)
from experts.appo.watchdog import end_process
end_process("it stalled", Path(sys.argv[1]))
"""


@pytest.mark.parametrize("worker", [True, False])
def test_last_words_go_where_they_are_read(worker, tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path), "1" if worker else "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    if worker:
        assert "it stalled" not in done.stderr
        with pytest.raises(UserError, match="it stalled"):
            watchdog.raise_last_words(tmp_path)
    else:
        assert done.stderr.endswith("error: it stalled\n")
    watchdog.raise_last_words(tmp_path)  # nothing is left to say


def hanging(folder):
    """Local, so that Ray sends it by value: its workers cannot import a test."""

    def play(number):
        from experts.appo import watchdog

        where = folder / str(number)
        where.mkdir(exist_ok=True)
        watchdog.raise_last_words(where)
        if number == 1:
            watchdog.STALL_SECONDS, watchdog.CHECK_SECONDS = 0.5, 0.1
            with watchdog.Watchdog(EventLoop("test", serial_mode=True), "mujoco-ant", where):
                time.sleep(600)
        return number

    return play


def test_a_hanging_ray_worker_says_why_and_the_others_go_on(tmp_path):
    with pytest.raises(UserError, match=r"1 of 2 failed.*mujoco-ant made no progress") as error:
        fan_out(hanging(tmp_path), [1, 2], workers=2, desc="experts")
    assert "WorkerCrashed" not in str(error.value)
    assert not list(tmp_path.rglob("given_up.txt"))
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


def test_a_loop_without_progress_ends_the_run_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "end_process", lambda *_: None)
    beginning = watchdog.Watchdog.feed

    def feed_once(self):
        if not hasattr(self, "_last"):
            beginning(self)

    monkeypatch.setattr(watchdog.Watchdog, "feed", feed_once)
    with pytest.raises(UserError, match="no progress"):
        sf.train(training(tmp_path))


def test_progress_feeds_the_watchdog(monkeypatch, tmp_path):
    dog = watchdog.Watchdog(EventLoop("test", serial_mode=True), TASK, tmp_path)
    dog.check()
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.2)
    time.sleep(0.3)
    with pytest.raises(UserError, match="no progress"):
        dog.check()
    dog.feed()
    dog.check()


def test_a_run_that_ends_leaves_no_watchdog(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(watchdog, "STALL_SECONDS", 0.0)
    ended = []
    monkeypatch.setattr(watchdog, "end_process", lambda *_: ended.append(1))
    with watchdog.Watchdog(EventLoop("test", serial_mode=True), TASK, tmp_path) as dog:
        time.sleep(0.5)
    assert ended
    ended.clear()
    time.sleep(0.3)
    assert not ended
    assert not dog._thread.is_alive()
