"""Options of a run: evaluations meanwhile, checkpointed blocks, several processes, a kill."""

import copy
import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import environment, launch, make_params, train, weights, write_params

from pipeline.domains.mujoco import MODALITY
from pipeline.errors import UserError
from pipeline.schema import arrow_schema, to_table
from pipeline.shards import write_shard
from trainer.training import options


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_tracker_that_is_not_installed_is_one_line():
    with pytest.raises(UserError, match=r"jat\.report_to.*pip install wandb"):
        options.trackers(make_params(report_to=["wandb"]).jat)


EVALUATED = ["mujoco-pendulum", "babyai-go-to-obj"]


def test_evaluation_while_training_changes_nothing(dataset):
    plain = weights(train(dataset, "plain/jat", EVALUATED, steps=4))
    tracked = {"evaluate_every": 2, "evaluate_episodes": 2, "report_to": ["tensorboard"]}
    output = train(dataset, "watched/jat", EVALUATED, steps=4, **tracked)
    for name, value in weights(output).items():
        assert torch.equal(value, plain[name]), name
    assert (output / "curve.csv").read_text() == Path("plain/jat/curve.csv").read_text()
    rows = list(csv.DictReader((output / "eval_curve.csv").open()))
    assert [(row["step"], row["task"]) for row in rows] == [
        (step, task) for step in ("2", "4") for task in EVALUATED
    ]
    assert all(np.isfinite(float(row["return"])) for row in rows)
    assert not Path("plain/jat/eval_curve.csv").exists()
    assert list(Path("watched/jat-training").rglob("events.out.tfevents.*"))


def test_checkpointed_blocks_give_the_same_weights(dataset):
    plain = weights(train(dataset, "plain/jat", EVALUATED, steps=2))
    output = train(dataset, "less/jat", EVALUATED, steps=2, gradient_checkpointing=True)
    for name, value in weights(output).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-6)


def test_data_that_is_no_number_is_one_line_that_names_it(tmp_path, episodes):
    task = "mujoco-pendulum"
    episode = copy.deepcopy(episodes[task][1])
    episode.observations["continuous_observations"][3, 1] = np.nan
    table = to_table(MODALITY, [episode], "test", "0")
    path = tmp_path / "data" / task / "train-00000-of-00001.parquet"
    write_shard(path, arrow_schema(MODALITY), [table])
    done = launch(write_params(tmp_path), "--dataset", "data", "--tasks", task, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert task in line
    assert "NaN" in line


def read_curve(path: Path) -> np.ndarray:
    rows = list(csv.reader(path.open()))[1:]
    return np.array([[float(cell or "nan") for cell in row] for row in rows])


def test_two_processes_train_as_one_with_twice_the_batch(dataset, tmp_path):
    common = ["--dataset", str(dataset), "--tasks", *EVALUATED, "notes"]
    curves = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        jat = {"steps": 4, "log_every": 1, "save_every": 9, "evaluate_every": 4}
        params = write_params(folder, accumulation=2 // processes, evaluate_episodes=1, **jat)
        done = launch(params, *common, cwd=folder, processes=processes)
        assert done.returncode == 0, done.stderr
        output = folder / "artifacts" / "jat"
        curves.append(read_curve(output / "curve.csv"))
        rows = csv.DictReader((output / "eval_curve.csv").read_text().splitlines())
        assert [row["task"] for row in rows] == EVALUATED
    assert len(curves[0]) == 4
    np.testing.assert_allclose(*curves, rtol=1e-4, atol=1e-6, equal_nan=True)


def test_a_run_that_is_killed_gives_the_same_losses(dataset, tmp_path):
    jat = {"steps": 12, "save_every": 2, "evaluate_every": 4, "evaluate_episodes": 1}
    params = write_params(tmp_path, **jat, gradient_checkpointing=True)
    command = ["--dataset", str(dataset), "--tasks", *EVALUATED]
    whole = launch(params, *command, "--output", "whole/jat", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    run = [sys.executable, "-m", "trainer.run", "--params", str(params), *command]
    process = subprocess.Popen(run, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    work = tmp_path / "artifacts" / "jat-training"
    while process.poll() is None and not list(work.glob("checkpoint-*/trainer_state.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = launch(params, *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on from" in done.stderr
    for name in ("curve.csv", "eval_curve.csv"):
        again = tmp_path / "artifacts" / "jat" / name
        assert again.read_text() == (tmp_path / "whole" / "jat" / name).read_text()
    expected = weights(tmp_path / "whole" / "jat")
    for name, value in weights(tmp_path / "artifacts" / "jat").items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_blocks_give_the_same_weights(dataset):
    tasks = ["mujoco-pendulum"]
    plain = weights(train(dataset, "plain/jat", tasks, steps=1))
    output = train(dataset, "fast/jat", tasks, steps=1, compile=True)
    assert weights(output).keys() == plain.keys()
    for name, value in weights(output).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-5)


def test_no_compiler_is_one_line(monkeypatch, dataset):
    def fail(*_):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    with pytest.raises(UserError, match=r"jat\.compile.*No working C\+\+ compiler found"):
        train(dataset, "fast/jat", EVALUATED, steps=1, compile=True)
