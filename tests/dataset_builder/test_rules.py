"""The rules that every stored episode keeps, each broken in one place."""

from typing import Any

import numpy as np
import pytest
from rows import make_episode, make_table

from dataset_builder.validate import Ranges, episode_problems, leak_problems
from pipeline.tasks import get_task
from pipeline.types import Episode

RANGES = Ranges(4, 0, np.array([-1.0], np.float32), np.array([1.0], np.float32))


def problems(**parts: Any) -> list[tuple[int, str]]:
    """What is wrong with three episodes of which the last has these parts."""
    rows = [make_episode(seed=seed) for seed in range(2)] + [make_episode(seed=2, **parts)]
    return list(episode_problems(make_table(*rows), RANGES))


def numbers(shape: tuple[int, ...], place: tuple[int, ...], value: float) -> np.ndarray:
    array = np.zeros(shape, np.float32)
    array[place] = value
    return array


def test_a_sound_episode_breaks_none() -> None:
    assert problems() == []
    assert problems(terminated=False, truncated=True) == []
    for bound in (-1, 1):
        assert problems(actions=numbers((4, 1), (3, 0), bound)) == []


@pytest.mark.parametrize("value", [-1.001, 1.001])
@pytest.mark.parametrize("step", [0, 3])
def test_an_action_beyond_a_bound(step: int, value: float) -> None:
    found = problems(actions=numbers((4, 1), (step, 0), value))
    assert found == [(2, "'continuous_actions' leaves the action box")]


@pytest.mark.parametrize("ends", [(False, False), (True, True)])
def test_an_episode_ends_for_one_reason(ends: tuple[bool, bool]) -> None:
    found = problems(terminated=ends[0], truncated=ends[1])
    assert found == [(2, "neither or both of terminated and truncated")]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("step", "name"), [(1, "continuous_observations"), (4, "final_observation")]
)
def test_an_observation_is_finite(step: int, name: str, value: float) -> None:
    observations = {"continuous_observations": numbers((5, 4), (step, 3), value)}
    assert problems(observations=observations) == [(2, f"'{name}' is not finite")]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_reward_is_finite(value: float) -> None:
    assert problems(rewards=numbers((4,), (3,), value)) == [(2, "'rewards' is not finite")]


def test_a_content_is_in_one_split() -> None:
    first = make_table(make_episode(seed=1), make_episode(seed=1, reset_index=1))
    second = make_table(make_episode(seed=2), make_episode(seed=1, reset_index=1))
    modality, seen = get_task("mujoco-pendulum").modality, {}
    assert list(leak_problems(first, modality, "train", seen)) == []
    assert list(leak_problems(first, modality, "train", seen)) == [], "twice in one split"
    ((row, what),) = leak_problems(second, modality, "test", seen)
    assert row == 1
    assert what == "its content is in the train split as well"


def test_a_discrete_action_beyond_the_last() -> None:
    """Of seven actions the last is 6."""
    ranges = Ranges(148, 7, np.zeros(0), np.zeros(0))
    for action, expected in ((6, []), (7, [(1, "'discrete_actions' is outside [0, 7)")])):
        rows = []
        for last in (0, action):
            rows.append(
                Episode(
                    "babyai-go-to-obj",
                    {
                        "discrete_observations": np.zeros((3, 148), np.uint8),
                        "text_observations": np.array(["go"] * 3, object),
                    },
                    np.array([0, last]), np.zeros(2, np.float32), True, False, len(rows), 0,
                )
            )  # fmt: skip
        assert list(episode_problems(make_table(*rows), ranges)) == expected
