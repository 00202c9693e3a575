import dataclasses

import numpy as np
import pytest

from experts.gate import RandomScore, bootstrap_interval, judge, play
from pipeline.policies import RandomPolicy
from pipeline.rollout import Outcome
from pipeline.tasks import get_task

RANDOM = RandomScore(mean=0.0, std=1.0, episodes=100)
TASK = dataclasses.replace(get_task("mujoco-hopper"), expert_mean=100.0)


def outcomes(mean, spread=1.0, count=40, success=None):
    returns = mean + spread * np.linspace(-1, 1, count)
    return [Outcome(float(r), 10, success) for r in returns]


@pytest.mark.parametrize(
    ("mean", "verdict"), [(120, "expert"), (91, "expert"), (80, "weak"), (5, "weak"), (0, "failed")]
)
def test_verdicts_by_score(mean, verdict):
    score = judge(TASK, outcomes(mean), RANDOM)
    assert score.verdict == verdict
    assert score.normalised == pytest.approx(mean / 100)
    assert score.low <= score.mean <= score.high


def test_a_noisy_advantage_is_no_advantage():
    assert judge(TASK, outcomes(3, spread=40, count=8), RANDOM).verdict == "failed"


def test_success_counts_where_the_task_knows_it():
    assert judge(TASK, outcomes(20, success=True), RANDOM).verdict == "expert"
    assert judge(TASK, outcomes(120, success=False), RANDOM).verdict == "weak"
    assert judge(TASK, outcomes(-5, success=False), RANDOM).verdict == "failed"


def test_no_normalised_score_where_the_reference_is_no_better_than_random():
    score = judge(dataclasses.replace(TASK, expert_mean=-1.0), outcomes(50), RANDOM)
    assert score.normalised is None
    assert score.verdict == "weak"


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(rng.normal(size=50), seed)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_every_environment_plays_the_same_number_of_episodes():
    played = play(get_task("mujoco-hopper"), RandomPolicy(0), 30, seed=1, env={})
    assert len(played) == 40  # 20 environments, 2 episodes each
    again = play(get_task("mujoco-hopper"), RandomPolicy(0), 30, seed=1, env={})
    assert played == again
