import contextlib

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minigrid.core.grid import Grid
from minigrid.core.world_object import Wall

from pipeline.engines import make_envs
from pipeline.engines.minigrid import (
    AGENT_CELL,
    episode_seed,
    level_factory,
    visible,
)
from pipeline.errors import UserError
from pipeline.tasks import get_task

ACTION_ODDS = [0.15, 0.15, 0.35, 0.1, 0.1, 0.1, 0.05]
LEVELS = ["GoToObj", "UnlockLocal", "PutNextS7N4", "MiniBossLevel", "BossLevel", "GoToObjDoor"]


@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_minigrids_own(name):
    id, rng = f"BabyAI-{name}-v0", np.random.default_rng(0)
    ours, theirs = level_factory(id)(), gymnasium.make(id, disable_env_checker=True).unwrapped
    for seed in range(3):
        with contextlib.redirect_stdout(None):
            expected, _ = theirs.reset(seed=seed)
        observation, _ = ours.reset(seed=seed)
        outcome = expected_outcome = None
        for _ in range(150):
            np.testing.assert_array_equal(observation["image"], expected["image"])
            assert observation["direction"] == expected["direction"]
            assert observation["mission"] == expected["mission"]
            assert outcome == expected_outcome
            if outcome and (outcome[1] or outcome[2]):
                break
            action = int(rng.choice(7, p=ACTION_ODDS))
            observation, *outcome = ours.step(action)
            expected, *expected_outcome = theirs.step(action)


@given(st.lists(st.booleans(), min_size=49, max_size=49))
def test_light_falls_as_in_minigrid(opaque):
    opaque[AGENT_CELL] = False  # nobody stands in a wall
    grid = Grid(7, 7)
    for cell, wall in enumerate(opaque):
        if wall:
            grid.set(cell // 7, cell % 7, Wall())
    np.testing.assert_array_equal(
        visible(bytes(opaque)).reshape(7, 7), grid.process_vis(agent_pos=(3, 6))
    )


def test_an_episode_is_replayed_from_its_slot_seed_and_number_alone():
    envs, rng = make_envs(get_task("babyai-go-to-obj"), [5, 9]), np.random.default_rng(1)
    observations = envs.reset()
    episodes = [0, 0]
    level = level_factory("BabyAI-GoToObj-v0")()
    for _ in range(300):
        step = envs.step(rng.choice(7, 2, p=ACTION_ODDS))
        for slot in np.flatnonzero(step.ended):
            episodes[slot] += 1
            first, _ = level.reset(seed=episode_seed(envs.seeds[slot], episodes[slot]))
            row = step.observations["discrete_observations"][slot]
            np.testing.assert_array_equal(row[1:].reshape(7, 7, 3), first["image"])
            assert row[0] == first["direction"]
            assert step.observations["text_observations"][slot] == first["mission"]
    assert min(episodes) > 2
    again = envs.reset()
    for column, rows in observations.items():
        np.testing.assert_array_equal(again[column], rows)


def test_a_step_returns_the_last_observation_beside_the_next_first_one():
    envs = make_envs(get_task("babyai-open-red-door"), [0, 1, 2])
    envs.reset()
    limit = envs.envs[1].max_steps
    for _ in range(limit - 1):
        step = envs.step(np.array([6]), np.array([1]))
        assert not step.ended.any()
        assert len(step.final_observations["discrete_observations"]) == 0
    before = step.observations["discrete_observations"]
    step = envs.step(np.array([6]), np.array([1]))
    assert (step.truncated.tolist(), step.terminated.tolist()) == ([True], [False])
    np.testing.assert_array_equal(step.final_observations["discrete_observations"], before)
    assert step.final_observations["text_observations"].tolist() == ["open the red door"]
    assert not np.array_equal(step.observations["discrete_observations"], before)
    assert envs.envs[0].step_count == envs.envs[2].step_count == 0


def test_columns_and_dtypes():
    envs = make_envs(get_task("babyai-go-to"), [0, 1])
    observations = envs.reset()
    assert observations["discrete_observations"].shape == (2, 148)
    assert observations["discrete_observations"].dtype == np.uint8
    assert [type(text) for text in observations["text_observations"]] == [str, str]
    step = envs.step(np.array([0, 2]))
    assert step.rewards.dtype == np.float32
    assert step.actions.dtype == np.int64


def test_the_generator_does_not_print(capsys):
    theirs = gymnasium.make("BabyAI-Unlock-v0", disable_env_checker=True).unwrapped
    theirs.reset(seed=episode_seed(0, 0))
    assert "rejected" in capsys.readouterr().out
    level_factory("BabyAI-Unlock-v0")().reset(seed=episode_seed(0, 0))
    assert capsys.readouterr().out == ""


def test_an_unknown_level_is_a_user_error():
    with pytest.raises(UserError, match="BabyAI-Nowhere-v0"):
        level_factory("BabyAI-Nowhere-v0")


def test_an_unknown_action_is_an_error():
    envs = make_envs(get_task("babyai-go-to-obj"), [0])
    envs.reset()
    with pytest.raises(ValueError, match="Unknown action"):
        envs.step(np.array([7]))
