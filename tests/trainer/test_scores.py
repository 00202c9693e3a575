"""Normalised scores and their aggregates, against rliable and numbers worked out by hand."""

import numpy as np
import pytest
from rliable import metrics as rliable_metrics

from trainer.evaluation.scores import Reference, aggregate, interquartile_mean, mean_interval
from trainer.evaluation.summary import summarise, table


def test_random_play_is_zero_and_the_expert_one():
    reference = Reference(random=-20.0, expert=20.0)
    assert reference.normalise(-20.0) == 0
    assert reference.normalise(20.0) == 1
    assert reference.normalise(0.0) == 0.5
    np.testing.assert_allclose(reference.normalise(np.array([10.0, 40.0])), [0.75, 1.5])


@pytest.mark.parametrize(("random", "expert"), [(None, 1.0), (1.0, None), (5.0, 5.0), (5.0, 4.0)])
def test_without_a_better_expert_nothing_is_normalised(random, expert):
    reference = Reference(random, expert)
    assert not reference.usable
    with pytest.raises(ValueError, match="cannot normalise"):
        reference.normalise(1.0)


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    assert interquartile_mean(np.array([-100.0, 1, 2, 3, 4, 5, 6, 100])) == 3.5
    for count in (4, 7, 10, 33):
        scores = np.random.default_rng(count).normal(size=(count, 3))
        expected = rliable_metrics.aggregate_iqm(scores)
        assert interquartile_mean(scores) == pytest.approx(expected)


def test_interval_holds_the_iqm_and_shrinks_with_more_episodes():
    rng = np.random.default_rng(0)
    few = aggregate({"a": rng.normal(0.5, 0.2, 10), "b": rng.normal(0.9, 0.2, 10)})
    many = aggregate({"a": rng.normal(0.5, 0.2, 1000), "b": rng.normal(0.9, 0.2, 1000)})
    for result in (few, many):
        assert result.low < result.iqm < result.high
    assert many.high - many.low < 0.3 * (few.high - few.low)


def test_resampling_stays_within_each_task():
    # All episodes of a task are alike: a stratified draw gives the same set each time.
    result = aggregate({"a": [0.0] * 5, "b": [1.0] * 5})
    assert result.low == result.iqm == result.high


def test_interval_of_a_mean_matches_its_standard_error():
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = mean_interval(values.tolist())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_tasks_without_a_usable_expert_are_named_and_left_out(monkeypatch):
    known = {
        "mujoco-pendulum": Reference(0.0, 10.0),
        "mujoco-reacher": Reference(0.0, -1.0),
    }
    monkeypatch.setattr(
        "trainer.evaluation.summary.references",
        lambda task: {"measured": known[task], "published": Reference(0.0, 20.0)},
    )
    results = {
        task: {"domain": "mujoco", "returns": [5.0, 5.0], "steps": 2, "success": None}
        for task in known
    }
    scores = summarise(results, resamples=10, seed=0)
    domain = scores["domains"]["mujoco"]
    assert domain["iqm"] == 0.5
    assert domain["tasks"] == ["mujoco-pendulum"]
    assert domain["excluded"] == ["mujoco-reacher"]
    assert domain["published"]["iqm"] == 0.25
    assert scores["tasks"]["mujoco-reacher"]["normalised"] is None
    assert any("left out" in line and "mujoco-reacher" in line for line in table(scores))


def test_the_interval_is_that_of_the_mean_of_the_middle_half():
    """One episode a task: every resample is the sample, so its IQM is both ends."""
    scores = {f"task {k:02}": [float(k**3)] for k in range(20)}
    result = aggregate(scores, resamples=50)
    middle = np.mean([k**3 for k in range(5, 15)])
    assert (result.iqm, result.low, result.high) == pytest.approx((middle, middle, middle))


def test_the_interval_has_95_percent():
    """The middle half of many normal scores: the IQM's standard error is 1.09 / sqrt(n)."""
    result = aggregate({"a": np.random.default_rng(0).normal(size=1000)}, resamples=4000)
    assert result.high - result.low == pytest.approx(2 * 1.96 * 1.09 / 1000**0.5, rel=0.15)
