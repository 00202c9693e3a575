"""Weights follow the losses, and a run that is stopped goes on with the same ones."""

import json

import numpy as np
import pytest
import torch

from trainer.feed.sampling import BatchPlan
from trainer.training.adaptive import LIMIT, AdaptiveSampler
from trainer.training.task_losses import TaskLosses


class Fake:
    def __init__(self, task: str) -> None:
        self.task, self.lengths = task, np.full(50, 10)
        self.domain = self.group = "mujoco"


def make(power: float = 1.0) -> tuple[BatchPlan, AdaptiveSampler]:
    weights = {"a": 1.0, "b": 1.0, "c": 2.0}
    plan = BatchPlan([Fake(k) for k in "abc"], weights, {"mujoco": 40}, 100, 0, block=10)
    return plan, AdaptiveSampler(plan, accumulation=2, power=power)


def test_what_learns_slowly_is_drawn_more_often():
    plan, sampler = make()
    for block in range(3):
        sampler.update(np.array([10.0, 1.0 / (1 + block), 0.1]))
    weights = plan.weights.numpy()
    assert weights[:3].tolist() == [[1, 1, 2]] * 3
    assert weights[4, 0] > 1 > weights[4, 1]
    assert weights[4, 2] == pytest.approx(2 * weights[4, 0])
    assert np.isnan(weights[5:]).all()


def test_the_unit_of_a_loss_does_not_matter():
    (_, small), (_, large) = make(), make()
    for losses in ([1.0, 2.0, 3.0], [0.5, 1.5, 3.0]):
        small.update(np.array(losses))
        large.update(np.array(losses) * [1, 1000, 1e-3])
    np.testing.assert_allclose(small.factors(), large.factors())


def test_factors_are_bounded_and_unseen_tasks_keep_their_weight():
    _, sampler = make(power=9)
    sampler.update(np.array([1.0, 1.0, np.nan]))
    sampler.update(np.array([1.0, 1e-6, np.nan]))
    assert sampler.factors().tolist() == [LIMIT, 1 / LIMIT, 1.0]
    _, flat = make(power=0)
    flat.update(np.array([1.0, 1.0, 1.0]))
    flat.update(np.array([1.0, 0.1, np.nan]))
    assert flat.factors().tolist() == [1, 1, 1]


def test_a_sampler_goes_on_from_its_state():
    rng = np.random.default_rng(0)
    losses = rng.random((6, 3))
    losses[1, 2] = np.nan
    plan, sampler = make()
    other_plan, other = make()
    for row in losses[:3]:
        sampler.update(row)
    other.load(json.loads(json.dumps(sampler.state())))
    for row in losses[3:]:
        sampler.update(row)
        other.update(row)
    np.testing.assert_array_equal(plan.weights, other_plan.weights)
    rows = zip(plan.rows(75), other_plan.rows(75), strict=True)
    assert all(np.array_equal(mine, theirs) for mine, theirs in rows)


def test_the_mean_loss_of_a_task_is_by_token():
    losses = TaskLosses(3)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    losses.add(torch.tensor([0, 0]), torch.tensor([1.0, 5.0]), mask)
    losses.add(torch.tensor([2, 0]), torch.tensor([4.0, 5.0]), mask)
    means, tokens = losses.take()
    assert tokens.tolist() == [5, 0, 3]
    assert means[0] == pytest.approx((3 + 5 + 5) / 5)
    assert means[2] == 4
    assert np.isnan(means[1])
    assert not losses.take()[1].any()
