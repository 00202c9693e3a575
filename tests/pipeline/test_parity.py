"""The engines in use are the tasks: what was once wrong with them, measured again."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from experts.load import load_policy
from experts.scripted import make_policy
from pipeline import parity
from pipeline.domains.metaworld import make_one
from pipeline.engines import identity, make_envs, pusher
from pipeline.random_policy import RandomPolicy
from pipeline.rollout import play_scores, rollout
from pipeline.tasks import get_task, published_tasks, tasks_of

PROJECT = Path(__file__).parents[2]
RESETS = 8


@pytest.mark.parametrize("task", [task.id for task in tasks_of("metaworld")])
def test_goals_stay_in_their_boxes(task):
    """Over eight resets of a slot: EnvPool's shelf and nail went 0.85 m further each time."""
    env = make_one(get_task(task), True, None).unwrapped
    low, high = env.goal_space.low, env.goal_space.high  # type: ignore[attr-defined]
    env.close()
    envs = make_envs(get_task(task), [1, 2])
    try:
        for _ in range(RESETS):
            goals = envs.reset()["continuous_observations"][:, 36:]
            assert (goals >= low - 0.02).all()
            assert (goals <= high + 0.02).all()
    finally:
        envs.close()


@pytest.mark.parametrize(("task", "rate"), [("dial-turn", 1.0), ("door-lock", 0.75)])
def test_scripts_succeed_as_often_as_in_the_package(task, rate):
    task = get_task(f"metaworld-{task}")
    envs = make_envs(task, list(range(20)))
    try:
        outcomes = play_scores(envs, make_policy(task), 1)
    finally:
        envs.close()
    assert abs(np.mean([outcome.success for outcome in outcomes]) - rate) <= 0.25


def random_episode(task, steps=60):
    envs = make_envs(task, [3], max_episode_steps=steps)
    try:
        (episode,) = rollout(task.id, envs, RandomPolicy(0), [3], 1)
    finally:
        envs.close()
    return episode.observations["continuous_observations"]


@pytest.mark.parametrize("task", ["mujoco-humanoid", "mujoco-standup"])
def test_humanoids_feel_contacts(task):
    observations = random_episode(get_task(task))
    assert observations.shape[1] == 376
    assert np.abs(observations[:, -84:]).max() > 1


def test_the_pushers_object_weighs_on_contacts_as_on_mujoco_2():
    mujoco = import_module("mujoco")
    model = mujoco.MjModel.from_xml_string(pusher.model())
    thing = model.body("object").id
    assert model.body_invweight0[thing, 0] == pytest.approx(16.66666)  # of MuJoCo 2.3.7
    assert model.nq + model.nv == 22  # the additional body moves nothing


@pytest.mark.parametrize("engine", ["envpool", "gymnasium"])
def test_the_shipped_pusher_pushes(engine):
    task, slots = get_task("mujoco-pusher"), 10
    policy = load_policy(task, PROJECT / "experts" / "shipped" / task.id, seed=0)
    envs = make_envs(task, list(range(slots)), engine=engine)
    try:
        episodes = list(rollout(task.id, envs, policy, list(range(slots)), 1))
    finally:
        envs.close()
    seen = [episode.observations["continuous_observations"] for episode in episodes]
    moved = [np.linalg.norm(rows[-1, 17:20] - rows[0, 17:20]) for rows in seen]
    assert min(moved) > 0.01
    assert np.mean([episode.score for episode in episodes]) > -27


def test_the_table_is_of_the_engines_in_use():
    table = parity.table()
    assert set(table) == set(published_tasks())
    for id, task in published_tasks().items():
        assert parity.parity_of(id, identity(task, {})) != "not measured", id


def test_another_engine_is_not_vouched_for():
    engine = identity(get_task("metaworld-hammer"), {"engine": "envpool"})
    assert parity.parity_of("metaworld-hammer", engine) == "not measured"


def test_the_comparison_runs_and_finds_a_difference(tmp_path):
    """A few seconds of the real program: an engine that is the task, and one that is not."""
    found = {}
    for task, engine in (("mujoco-hopper", "engine"), ("metaworld-shelf-place", "envpool")):
        out = tmp_path / f"{task}.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.parity", "--quick", "--task", task,
             "--engine", f"benchmarks.parity.engines:make_{engine}", "--out", str(out)],
            cwd=PROJECT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[task] = json.loads(out.read_text())
    assert found["mujoco-hopper"]["verdict"] == "equal"
    assert "drift" in found["metaworld-shelf-place"]["differs_in"]
