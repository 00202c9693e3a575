"""The smoke run of collection passes what is right and names what is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import smoke_collect
from pipeline.tasks import get_task

PROJECT = Path(__file__).resolve().parents[2]
TASKS = ["mujoco-reacher", "metaworld-reach", "babyai-go-to-obj", "atari-roadrunner"]


def run(*tasks: str) -> dict:
    return smoke_collect.run([get_task(id) for id in tasks], workers=1, episodes_per_slot=1)


def test_a_task_of_each_domain_passes() -> None:
    command = [sys.executable, "-m", "benchmarks.smoke_collect", "--workers", "1", "--json"]
    done = subprocess.run(
        [*command, "--episodes-per-slot", "1", "--task", *TASKS],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, summary, last = done.stdout.strip().splitlines()
    assert summary.startswith("4 of 4 in ")
    steps = {task: result["steps"] for task, result in json.loads(last)["results"].items()}
    assert list(steps) == TASKS
    assert steps["mujoco-reacher"] == 4 * 50
    assert steps["metaworld-reach"] == 4 * 100


def test_a_task_that_fails_is_named_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write = smoke_collect.write_untrained
    monkeypatch.setattr(
        smoke_collect,
        "write_untrained",
        lambda task, folder: write(task, folder) if "reacher" in task.id else 1 / 0,
    )
    result = run("mujoco-pendulum", "mujoco-reacher")
    assert result["failed"] == {"mujoco-pendulum": "ZeroDivisionError: division by zero"}
    assert list(result["results"]) == ["mujoco-reacher"]


def test_episodes_that_do_not_replay_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataset_builder.replay._compare", lambda *_: "'rewards' differs at step 3")
    (reason,) = run("mujoco-reacher")["failed"].values()
    assert "replayed, 'rewards' differs at step 3" in reason


def test_stacks_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = smoke_collect.stack_frames
    monkeypatch.setattr(smoke_collect, "stack_frames", lambda frames: stack(frames).flip(2))
    (reason,) = run("atari-roadrunner")["failed"].values()
    assert "'image_observations' is read as it was not shown" in reason


def test_steps_that_are_lost_on_reading_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    load = smoke_collect.load
    monkeypatch.setattr(
        smoke_collect, "load", lambda root, task, split, cache: load(root, task, "train", cache)
    )
    (reason,) = run("mujoco-reacher")["failed"].values()
    assert reason == "RuntimeError: 300 steps are read of 200"
