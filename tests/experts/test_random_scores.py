"""The play of those who know nothing: what it earns, and when it is played again."""

from pathlib import Path

import numpy as np
import pytest

from experts import random_scores
from experts.random_scores import baseline, baseline_result, noop_play, random_play
from pipeline.params import Params
from pipeline.stage import read_json

TASK = "mujoco-pendulum"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_params(seed: int = 0, episodes: int = 40, **env: int) -> Params:
    empty = {"collect": {"episodes": 1}}
    group = {**empty, "tasks": [TASK], "env": env}
    return Params(
        profile="test", seed=seed, random_episodes=episodes, mujoco=group,
        metaworld=empty, babyai=empty, atari=empty,
    )  # type: ignore[arg-type]  # fmt: skip


def test_random_play_falls_soon_and_doing_nothing_a_little_later():
    """A pendulum: one point a step until it leans by 0.2."""
    random = baseline_result(random_play(make_params(), TASK))
    noop = baseline_result(noop_play(make_params(), TASK))
    assert (random["episodes"], noop["episodes"]) == (40, 10)
    assert 4 < random["mean"] < 9
    assert noop["mean"] > random["mean"] + 10
    assert random["mean"] == pytest.approx(random["steps"] / 40)
    known = baseline(random_play(make_params(), TASK))
    assert (known.mean, known.std, known.episodes) == (random["mean"], random["std"], 40)


def test_it_is_played_once(monkeypatch: pytest.MonkeyPatch):
    first = [baseline_result(play(make_params(), TASK)) for play in (random_play, noop_play)]

    def play_baseline(unit):
        raise AssertionError(f"{unit.task} was played again")

    monkeypatch.setattr(random_scores, "play_baseline", play_baseline)
    again = [baseline_result(play(make_params(), TASK)) for play in (random_play, noop_play)]
    assert again == first


@pytest.mark.parametrize("change", [{"seed": 1}, {"episodes": 41}, {"max_episode_steps": 3}])
def test_it_is_played_again_when_what_decides_it_changes(change: dict):
    first = baseline_result(random_play(make_params(), TASK))
    other = baseline_result(random_play(make_params(**change), TASK))
    assert (other["mean"], other["episodes"]) != (first["mean"], first["episodes"])
    assert read_json(random_play(make_params(), TASK).file) == other


def test_the_same_seed_earns_the_same():
    results = [random_scores.play_baseline(random_play(make_params(), TASK)) for _ in range(2)]
    assert results[0] == results[1]
    assert np.isfinite(results[0]["std"])
