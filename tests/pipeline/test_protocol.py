"""The settings that make an environment the published task, as its simulator has them."""

import numpy as np
import pytest

from pipeline.engines import make_envs
from pipeline.tasks import get_task


def test_atari_is_played_as_published() -> None:
    """Whole games, four frames a step and in view, no sticky actions, no-ops and FIRE first."""
    envs = make_envs(get_task("atari-breakout"), [0])
    config = envs.pool.config  # type: ignore[attr-defined]
    expected = {
        "stack_num": 4,
        "frame_skip": 4,
        "noop_max": 30,
        "use_fire_reset": True,
        "repeat_action_probability": 0.0,
        "max_episode_steps": 27_000,
        "episodic_life": False,
        "reward_clip": False,
        "gray_scale": True,
        "img_height": 84,
        "img_width": 84,
    }
    envs.close()
    assert {name: config[name] for name in expected} == expected


def test_montezuma_has_a_limit_of_its_own() -> None:
    envs = make_envs(get_task("atari-montezumarevenge"), [0])
    assert envs.pool.config["max_episode_steps"] == 4500  # type: ignore[attr-defined]
    envs.close()


@pytest.mark.parametrize("id", ["metaworld-reach", "metaworld-hammer"])
def test_the_goal_of_meta_world_is_seen_unless_it_is_hidden(id: str) -> None:
    """By EnvPool, and by the package that plays the second task."""
    for visible in (True, False):
        envs = make_envs(get_task(id), [1, 2], goal_visible=visible)
        observations = envs.reset()["continuous_observations"]
        actions = np.zeros((2, 4), np.float32)
        later = envs.step(actions).observations["continuous_observations"]
        envs.close()
        for rows in (observations, later):
            assert rows.shape == (2, 39)
            assert bool(np.abs(rows[:, -3:]).any()) == visible
    assert get_task(id).time_limit == 100


def test_an_episode_of_meta_world_has_a_hundred_steps() -> None:
    envs = make_envs(get_task("metaworld-reach"), [0])
    envs.reset()
    ends = [envs.step(np.zeros((1, 4), np.float32)).truncated[0] for _ in range(100)]
    envs.close()
    assert ends == [False] * 99 + [True]
