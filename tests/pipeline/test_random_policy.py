import numpy as np
import pytest

from pipeline.engines import make_envs
from pipeline.random_policy import RandomPolicy
from pipeline.tasks import get_task


@pytest.mark.parametrize("id", ["mujoco-hopper", "babyai-go-to-obj"])
def test_an_environment_draws_the_same_whoever_else_plays(id):
    task = get_task(id)
    envs = make_envs(task, [1, 2, 3])
    together, alone = RandomPolicy(7), RandomPolicy(7)
    together.bind(envs)
    alone.bind(envs)

    def act(policy, ids):
        ids = np.array(ids)
        return policy.act({}, ids, np.zeros(len(ids), bool), np.zeros(len(ids), np.float32))

    first = [act(together, [0, 1, 2])[2] for _ in range(5)]
    second = [act(alone, [2])[0] for _ in range(5)]
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("id", ["mujoco-hopper", "babyai-go-to-obj"])
def test_every_environment_and_every_seed_draws_anew(id):
    envs = make_envs(get_task(id), [1, 2, 3])
    ids, drawn = np.arange(3), []
    for seed in (7, 8):
        policy = RandomPolicy(seed)
        policy.bind(envs)
        steps = [policy.act({}, ids, ids < 0, np.zeros(3, np.float32)) for _ in range(20)]
        drawn += [np.stack([step[env] for step in steps]).tobytes() for env in ids]
    assert len(set(drawn)) == 6


def test_actions_cover_the_space():
    task = get_task("mujoco-hopper")
    envs = make_envs(task, [1])
    policy = RandomPolicy(0)
    policy.bind(envs)
    arguments = ({}, np.array([0]), np.zeros(1, bool), np.zeros(1, np.float32))
    actions = np.concatenate([policy.act(*arguments) for _ in range(3000)])
    assert actions.dtype == np.float32
    assert (np.abs(actions) <= 1).all()
    np.testing.assert_allclose(actions.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(actions.std(axis=0), 1 / np.sqrt(3), atol=0.03)
