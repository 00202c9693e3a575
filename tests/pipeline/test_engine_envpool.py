"""EnvPool's adapter against Gymnasium's own implementation of the same tasks."""

import gymnasium
import numpy as np
import pytest

from pipeline.engines.envpool import EnvPoolEnv, continuous

SEEDS = [3, 1, 4, 1592]
COLUMN = "continuous_observations"


@pytest.fixture
def envs():
    opened: list[EnvPoolEnv] = []

    def make(id, seeds=SEEDS, **config) -> EnvPoolEnv:
        opened.append(EnvPoolEnv(id, seeds, continuous, **config))
        return opened[-1]

    yield make
    for env in opened:
        env.close()


def set_cartpole(env, state) -> None:
    env.unwrapped.state = np.array(state, np.float64)


def set_pendulum(env, state) -> None:
    env.unwrapped.set_state(state[:2], state[2:])


TASKS = {
    "CartPole-v1": (set_cartpole, 1e-4),
    "InvertedPendulum-v4": (set_pendulum, 1e-4),
}
"""Task -> how to put Gymnasium's environment into an observed state, and what rounding makes of
it until an episode ends."""


def plain(id: str) -> gymnasium.Env:
    env = gymnasium.make(id, disable_env_checker=True)
    env.reset(seed=0)
    return env


def draw(env: EnvPoolEnv, generator: np.random.Generator, count: int) -> np.ndarray:
    if env._box:
        low, high = env.action_space.low, env.action_space.high
        return generator.uniform(low, high, (count, *low.shape))
    return generator.integers(env.action_space.n, size=count)


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize("id", TASKS)
def test_every_episode_is_gymnasiums_to_its_last_observation(envs, id) -> None:
    place, rounding = TASKS[id]
    env, generator = envs(id), np.random.default_rng(0)
    twins = [plain(id) for _ in SEEDS]
    for twin, row in zip(twins, env.reset()[COLUMN], strict=True):
        place(twin, row)
    ends = 0
    for _ in range(150):
        step = env.step(draw(env, generator, len(SEEDS)))
        finals = iter(step.final_observations[COLUMN])
        for slot, twin in enumerate(twins):
            own = step.actions[slot]
            seen, reward, terminated, _, _ = twin.step(own)
            assert step.terminated[slot] == terminated
            assert not step.truncated[slot]
            assert step.rewards[slot] == pytest.approx(reward, abs=rounding)
            if not terminated:
                assert np.allclose(step.observations[COLUMN][slot], seen, atol=rounding)
                continue
            ends += 1
            final, first = next(finals), step.observations[COLUMN][slot]
            assert np.allclose(final, seen, atol=rounding), "the last of the old episode"
            assert not np.allclose(final, first, atol=0.05)
            twin.reset()
            place(twin, first)  # the next episode begins where it says
        assert next(finals, None) is None
    assert ends >= len(SEEDS)


def test_an_episode_starts_near_its_start_and_ends_beyond_its_bounds(envs) -> None:
    env, generator = envs("CartPole-v1"), np.random.default_rng(1)
    env.reset()
    for _ in range(200):
        step = env.step(draw(env, generator, len(SEEDS)))
        assert (np.abs(step.observations[COLUMN][step.ended]) <= 0.05).all(), "a first observation"
        finals = np.abs(step.final_observations[COLUMN])
        assert ((finals[:, 2] > 0.2094) | (finals[:, 0] > 2.4)).all(), "a pole that has fallen"


def test_a_time_limit_truncates_and_is_no_termination(envs) -> None:
    env = envs("CartPole-v1", max_episode_steps=5)
    env.reset()
    for number in range(1, 11):
        step = env.step(np.arange(4) % 2)
        assert not step.terminated.any()
        assert step.truncated.tolist() == [number % 5 == 0] * 4
        assert len(step.final_observations[COLUMN]) == 4 * (number % 5 == 0)


def test_an_end_has_one_reason_also_in_the_last_step_that_is_allowed(envs) -> None:
    """A pole that is always pushed one way falls after 8 to 10 steps, and 9 are allowed.

    Gymnasium says both of a pole that falls in the last step, EnvPool that it was cut off.
    """
    seeds = list(range(40))
    falls = {}
    for limit in (500, 9):
        env = envs("CartPole-v1", seeds=seeds, max_episode_steps=limit)
        env.reset()
        ended = np.zeros(len(seeds), bool)
        for number in range(1, 13):
            step = env.step(np.ones(len(seeds), np.int64))
            assert not (step.terminated & step.truncated).any()
            for slot in np.flatnonzero(step.ended & ~ended):
                falls[limit, slot] = number, bool(step.terminated[slot])
            ended |= step.ended
        assert ended.all()
    lengths = [falls[500, slot][0] for slot in range(len(seeds))]
    assert {8, 9, 10} <= set(lengths)
    for slot, length in enumerate(lengths):
        assert falls[500, slot] == (length, True)
        assert falls[9, slot] == (min(length, 9), length < 9), f"alone it falls after {length}"


def test_a_termination_wins_where_a_simulator_says_both(envs) -> None:
    env = envs("CartPole-v1")
    env.reset()
    received = env.pool.recv

    def recv():
        observations, rewards, _, _, info = received()
        terminated, truncated = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
        env.pool.recv = received
        return observations, rewards, terminated, truncated, info

    env.pool.recv = recv
    step = env.step(np.array([0, 1, 1, 0]))
    assert step.terminated.tolist() == [False, False, True, True]
    assert step.truncated.tolist() == [False, True, False, False]
    assert len(step.final_observations[COLUMN]) == 3


def test_a_slot_is_the_environment_of_its_seed(envs) -> None:
    together, generator = envs("Hopper-v4", threads=2), np.random.default_rng(2)
    alone = [envs("Hopper-v4", seeds=[seed]) for seed in SEEDS]
    first = together.reset()[COLUMN]
    assert len(np.unique(first, axis=0)) == len(SEEDS), "different seeds, different starts"
    assert np.array_equal(first, np.concatenate([env.reset()[COLUMN] for env in alone]))
    ends = 0
    for _ in range(120):
        actions = draw(together, generator, len(SEEDS))
        step = together.step(actions)
        ends += step.ended.sum()
        for slot, env in enumerate(alone):
            one = env.step(actions[slot : slot + 1])
            assert np.array_equal(one.observations[COLUMN][0], step.observations[COLUMN][slot])
            assert (one.rewards[0], one.ended[0]) == (step.rewards[slot], step.ended[slot])
    assert ends >= len(SEEDS), "later episodes agree also"


def test_only_the_named_environments_are_stepped(envs) -> None:
    env, alone = envs("CartPole-v1"), envs("CartPole-v1", seeds=SEEDS[2:3])
    env.reset()
    alone.reset()
    for number in range(60):
        action = np.array([number % 3 % 2])
        env.step(np.array([1, 0]), np.array([3, 1], np.int32))
        step, one = env.step(action, np.array([2], np.int32)), alone.step(action)
        assert np.array_equal(step.observations[COLUMN], one.observations[COLUMN])
        assert np.array_equal(step.final_observations[COLUMN], one.final_observations[COLUMN])


def test_actions_are_applied_and_told_clipped(envs) -> None:
    wild, tame = envs("InvertedPendulum-v4"), envs("InvertedPendulum-v4")
    assert np.array_equal(wild.reset()[COLUMN], tame.reset()[COLUMN])
    pushes = np.array([[-50.0], [50.0], [0.25], [3.5]])
    one, other = wild.step(pushes), tame.step(np.clip(pushes, -3, 3))
    assert one.actions.dtype == np.float32
    assert one.actions.tolist() == [[-3], [3], [0.25], [3]]
    assert np.array_equal(one.actions, other.actions)
    assert np.array_equal(one.observations[COLUMN], other.observations[COLUMN])


def test_integers_are_told_as_they_were_given(envs) -> None:
    env = envs("CartPole-v1")
    env.reset()
    assert env.step(np.array([0, 1, 1, 0])).actions.tolist() == [0, 1, 1, 0]
