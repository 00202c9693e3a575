import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from experts.appo import checkpoints, recipe
from experts.appo import sample_factory as sf
from experts.appo.curve import read_curve
from pipeline.domains import get_domain
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.tasks import get_task

TASK = "mujoco-pendulum"
SMALL = {"rollout": 16, "batch_size": 128, "num_batches_per_epoch": 1, "save_every_sec": 1}


def training(folder, steps=2000, **changes):
    published = get_domain("mujoco").recipe(get_task(TASK))
    return recipe.Training(TASK, steps, 8, {**published, **SMALL, **changes}, {}, 3, folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = training(tmp_path_factory.mktemp("run"))
    return run, sf.train(run)


def test_trains_to_the_asked_steps(trained):
    run, checkpoint = trained
    assert run.steps <= checkpoints.steps_of(checkpoint) <= run.steps + 4 * 128
    assert read_curve(run.folder / "curve.csv")


def test_a_finished_run_is_not_trained_again(trained):
    run, checkpoint = trained
    before = checkpoint.stat().st_mtime_ns
    assert sf.train(run) == checkpoint
    assert checkpoint.stat().st_mtime_ns == before


def test_same_seed_same_weights(trained, tmp_path):
    run, checkpoint = trained
    again = sf.train(dataclasses.replace(run, folder=tmp_path))
    first, second = (checkpoints.read_checkpoint(path)["model"] for path in (checkpoint, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


ENDLESS = """
import sys
from pathlib import Path
from experts.appo.recipe import Training
from pipeline.domains import get_domain
from pipeline.tasks import get_task
from experts.appo.sample_factory import train
recipe = {"save_every_sec": 1, "rollout": 16, "batch_size": 128, "num_batches_per_epoch": 1}
recipe = {**get_domain("mujoco").recipe(get_task("mujoco-pendulum")), **recipe}
train(Training("mujoco-pendulum", 10**8, 8, recipe, {}, 3, Path(sys.argv[1])))
"""


def test_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)])
    deadline = time.monotonic() + 120
    while (
        not checkpoints.steps_of(checkpoints.newest_checkpoint(tmp_path))
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    checkpoint = checkpoints.newest_checkpoint(tmp_path)
    resumed_at = checkpoints.steps_of(checkpoint)
    assert checkpoint is not None
    assert resumed_at > 0
    before = checkpoints.read_checkpoint(checkpoint)

    goal = resumed_at + 3000
    final = sf.train(training(tmp_path, steps=goal))
    after = checkpoints.read_checkpoint(final)
    assert goal <= checkpoints.steps_of(final) <= goal + 4 * 128
    assert after["train_step"] > before["train_step"]
    steps = [row[0] for row in read_curve(tmp_path / "curve.csv")]
    assert steps == sorted(set(steps))
    assert steps[-1] > resumed_at


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    first = checkpoints.read_checkpoint(sf.train(training(tmp_path, steps=4000)))
    assert first["curr_lr"] < 0.1 * 0.00295  # the decay has almost ended
    unfinished = tmp_path / "run" / "checkpoint_p0" / "checkpoint_temp"
    unfinished.write_bytes(b"killed while it was saved")
    second = checkpoints.read_checkpoint(sf.train(training(tmp_path, steps=4800)))
    assert second["curr_lr"] < 0.3 * 0.00295
    assert second["env_steps"] >= 4800
    count = "obs_normalizer.running_mean_std.running_mean_std.obs.count"
    assert second["model"][count] > first["model"][count] >= 4000
    moments = second["optimizer"]["state"].values()
    assert {int(state["step"]) for state in moments} == {second["train_step"]}


def test_the_best_moment_is_kept_and_remembered(trained, tmp_path):
    run, checkpoint = trained
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    best = checkpoints.best_checkpoint(folder)
    state = checkpoints.read_checkpoint(best)
    returns = [row[2] for row in read_curve(folder / "curve.csv")]
    assert min(returns) < state["best_performance"] <= max(returns)
    assert state["env_steps"] <= checkpoints.steps_of(checkpoint)

    longer = dataclasses.replace(run, folder=folder, steps=5000)
    torch.save({**state, "best_performance": 1e6}, best)  # as if killed before another save
    before = best.read_bytes()
    sf.train(longer)
    assert best.read_bytes() == before

    best.write_bytes(before[:100])
    sf.train(dataclasses.replace(longer, steps=8000))
    again = checkpoints.read_checkpoint(best)
    assert again["env_steps"] > 5000
    assert again["best_performance"] < 1e6


def test_only_scores_of_whole_games_make_a_best_moment(tmp_path):
    learner = sf.ResumingLearner.__new__(sf.ResumingLearner)
    learner.best_performance = -np.inf
    assert not learner.save_best(0, "reward", 5.0)


def test_broken_newest_checkpoint_is_skipped(trained, tmp_path):
    _, checkpoint = trained
    folder = tmp_path / "run" / "checkpoint_p0"
    folder.mkdir(parents=True)
    good = folder / "checkpoint_000000016_2048.pth"
    good.write_bytes(checkpoint.read_bytes())
    broken = folder / "checkpoint_000000017_2176.pth"
    broken.write_bytes(checkpoint.read_bytes()[:2000])
    assert checkpoints.newest_checkpoint(tmp_path) == good
    assert not broken.exists()


def test_without_a_readable_checkpoint_the_run_starts_anew_and_says_so(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        checkpoints.log, "warning", lambda text, *values: said.append(text % values)
    )
    folder = tmp_path / "run" / "checkpoint_p0"
    folder.mkdir(parents=True)
    for step in (16, 17):
        (folder / f"checkpoint_0000000{step}_{128 * step}.pth").write_bytes(b"broken")
    final = sf.train(training(tmp_path))
    assert checkpoints.steps_of(final) >= 2000
    assert [line.rsplit(", ")[1] for line in said] == [
        "going on from the one before",
        "starting anew",
    ]


class Bomb:
    def __reduce__(self):
        return (os.system, ("touch {}".format(os.environ["BOMB_PATH"]),))


def test_a_checkpoint_with_code_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB_PATH", str(tmp_path / "boom"))
    path = tmp_path / "checkpoint_000000001_8.pth"
    torch.save({"model": Bomb()}, path)
    with pytest.raises(UserError, match=r"checkpoint_000000001_8\.pth"):
        checkpoints.read_checkpoint(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="not a readable"):
        checkpoints.read_checkpoint(path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 0.1}, "did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, "must be a number"),
        ({"rollout": 7}, "multiple of envs × rollout"),
        ({"use_rnn": True}, "is fixed to False"),
    ],
)
def test_bad_recipe_is_one_line(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        recipe.make_config(training(tmp_path, **changes))


def test_an_error_in_the_environment_ends_the_run(tmp_path, monkeypatch):
    def broken(self, action):
        raise RuntimeError("simulator exploded")

    monkeypatch.setattr(sf.TrainingEnv, "step", broken)
    with pytest.raises(RuntimeError, match="simulator exploded"):
        sf.train(training(tmp_path))


def test_scores_are_of_whole_games():
    task = get_task("atari-breakout")
    domain = get_domain("atari")
    envs = make_envs(task, [1, 2], **domain.training_options)
    env = sf.TrainingEnv(envs, task.modality.observation_column)
    env.reset()
    lives, games = 0, []
    rng = np.random.default_rng(0)
    for _ in range(600):
        *_, terminated, truncated, info = env.step(rng.integers(4, size=2))
        lives += int((terminated | truncated).sum())
        scores = info[sf.SCORE].numpy()
        games += list(scores[~np.isnan(scores)])
    assert lives >= 5 * len(games) > 0
