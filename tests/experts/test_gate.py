import dataclasses

import numpy as np
import pytest

from experts.gate import Baseline, bootstrap_interval, judge, play, wilson_low
from pipeline.random_policy import NoopPolicy, RandomPolicy
from pipeline.rollout import Outcome
from pipeline.tasks import get_task

RANDOM = Baseline(mean=0.0, std=1.0, episodes=100)
NOOP = Baseline(mean=0.0, std=0.0, episodes=10)
TASK = dataclasses.replace(get_task("mujoco-hopper"), expert_mean=100.0)


def outcomes(mean, spread=1.0, count=40, success=None):
    """Episodes around a mean; ``success`` is the share of them that succeed."""
    returns = mean + spread * np.linspace(-1, 1, count)
    known = [None] * count if success is None else [k < success * count for k in range(count)]
    return [Outcome(float(r), 10, s) for r, s in zip(returns, known, strict=True)]


def verdict(played, task=TASK, random=RANDOM, noop=NOOP):
    return judge(task, played, random, noop).verdict


@pytest.mark.parametrize(
    ("mean", "expected"),
    [(120, "expert"), (91, "expert"), (80, "weak"), (5, "weak"), (0, "failed")],
)
def test_verdicts_by_score(mean, expected):
    score = judge(TASK, outcomes(mean), RANDOM, NOOP)
    assert score.verdict == expected
    assert score.bar == 90
    assert score.normalised == pytest.approx(mean / 100)
    assert score.low <= score.mean <= score.high


def test_the_lower_bound_has_to_reach_the_bar_and_not_the_mean():
    assert verdict(outcomes(95, spread=60)) == "weak"
    assert verdict(outcomes(95, spread=1)) == "expert"


def test_a_noisy_advantage_is_no_advantage():
    assert verdict(outcomes(3, spread=40, count=8)) == "failed"


def test_who_is_no_better_than_doing_nothing_fails():
    idle = Baseline(mean=95.0, std=10.0, episodes=10)
    assert verdict(outcomes(96), noop=idle) == "failed"
    assert verdict(outcomes(120), noop=idle) == "expert"


def test_few_episodes_make_nobody_an_expert():
    assert verdict(outcomes(120, count=19)) == "weak"
    assert verdict(outcomes(120, count=20)) == "expert"


def test_success_counts_where_the_task_knows_it():
    assert verdict(outcomes(20, success=1.0)) == "expert"
    assert verdict(outcomes(120, success=0.0)) == "weak"
    assert verdict(outcomes(-5, success=0.0)) == "failed"


def test_success_counts_only_above_random_play():
    assert verdict(outcomes(-5, success=1.0)) == "failed"


def test_the_success_rate_has_to_be_sure():
    assert verdict(outcomes(20, success=0.925)) == "weak"  # 37 of 40: it may be as low as 0.80
    assert verdict(outcomes(20, success=0.925, count=1000)) == "expert"


@pytest.mark.parametrize("better", ["human_mean", "max_score"])
def test_the_bar_is_the_best_reference(better):
    task = dataclasses.replace(TASK, **{better: 200.0})
    assert verdict(outcomes(120), task) == "weak"
    assert verdict(outcomes(185), task) == "expert"


def test_a_task_whose_reference_is_no_better_than_random_play_can_have_experts():
    task = dataclasses.replace(TASK, expert_mean=-1.0)
    score = judge(task, outcomes(50), RANDOM, NOOP)
    assert (score.normalised, score.bar, score.verdict) == (None, None, "expert")
    assert verdict(outcomes(0), task) == "failed"


def test_without_any_reference_an_expert_is_not_rated():
    task = dataclasses.replace(TASK, expert_mean=None)
    assert verdict(outcomes(50), task) == "unrated"
    assert verdict(outcomes(0), task) == "failed"


@pytest.mark.parametrize(
    ("successes", "episodes", "low"), [(0, 10, 0.0), (81, 263, 0.2553), (40, 40, 0.9124)]
)
def test_wilson_intervals_are_as_published(successes, episodes, low):
    # 81 of 263: Newcombe 1998, table I, method 3
    assert wilson_low(successes, episodes) == pytest.approx(low, abs=1e-4)


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


def test_who_does_nothing_is_alive_until_the_time_limit_where_nothing_falls():
    played = play(get_task("mujoco-swimmer"), NoopPolicy(), 2, seed=1, env={})
    assert [outcome.steps for outcome in played] == [1000, 1000]
    assert max(abs(outcome.score) for outcome in played) < 50


def test_the_upper_end_of_a_baseline_is_above_its_mean():
    assert Baseline(mean=10.0, std=5.0, episodes=25).upper == pytest.approx(11.96)
    unsure = Baseline(mean=0.0, std=50.0, episodes=25)  # up to 19.6
    assert verdict(outcomes(19), random=unsure) == "failed"
    assert verdict(outcomes(21), random=unsure) == "weak"


def test_the_interval_is_that_of_the_mean_and_has_95_percent():
    returns = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(returns, 0)
    assert high - low == pytest.approx(2 * 1.96 * returns.std() / 20, rel=0.1)
    assert (low + high) / 2 == pytest.approx(returns.mean(), abs=0.05)
