import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def smoke(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.smoke_experts", "--workers", "1", *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_a_trained_task_is_saved_loaded_and_played():
    done = smoke("--task", "mujoco-pendulum", "--steps", "500", "--json")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-2].startswith("1 of 1 in ")
    assert json.loads(lines[-1])["failed"] == {}


def test_a_task_that_fails_is_named_and_the_others_go_on(tmp_path):
    program = (
        "import sys; from benchmarks import smoke_experts as s; "
        "whole = s.make_expert; "
        "s.make_expert = lambda job: whole(job) if 'reacher' in job.task else 1 / 0; "
        "s.main()"
    )
    command = [sys.executable, "-c", program, "--workers", "1", "--steps", "500"]
    command += ["--task", "mujoco-pendulum", "mujoco-reacher"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAILED mujoco-pendulum: ZeroDivisionError: division by zero" in done.stdout
    assert "1 of 2 in " in done.stdout


def test_a_task_without_training_is_refused():
    done = smoke("--task", "babyai-go-to-obj")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: --task babyai-go-to-obj")
