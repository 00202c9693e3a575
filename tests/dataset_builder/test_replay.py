"""Replay finds every difference between an episode as it is stored and as it is played again."""

from typing import Any

import numpy as np
import pytest
from random_policy import RandomPolicy

from dataset_builder.replay import replay
from pipeline import schema
from pipeline.engines import independent, make_envs
from pipeline.rollout import rollout
from pipeline.tasks import get_task
from pipeline.types import Episode

TASKS = ("mujoco-pendulum", "metaworld-reach", "babyai-go-to-obj")
LIMIT = {"metaworld-reach": {"max_episode_steps": 5}}


def as_row(id: str, episode: Episode) -> dict[str, Any]:
    """An episode as it is read from a shard."""
    stored = get_task(id).modality.observation_column
    return {
        **{name: rows[:-1] for name, rows in episode.observations.items()},
        "final_observation": episode.observations[stored][-1],
        get_task(id).modality.action_column: episode.actions,
        "rewards": episode.rewards,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "seed": episode.seed,
        "reset_index": episode.reset_index,
        **episode.info,
    }


@pytest.fixture(scope="module")
def played() -> dict[str, list[dict[str, Any]]]:
    """Two episodes of one slot of each task, as rows."""
    rows = {}
    for id in TASKS:
        envs = make_envs(get_task(id), [5], **LIMIT.get(id, {}))
        episodes = rollout(id, envs, RandomPolicy(1), [5], 2, keep=schema.keep_observations)
        rows[id] = [as_row(id, episode) for episode in episodes]
        envs.close()
    return rows


def find(id: str, rows: list[dict[str, Any]]) -> str:
    """What replay says of the last row, given those before it where their order matters."""
    task, options = get_task(id), LIMIT.get(id, {})
    return replay(task, options, rows[-1:] if independent(task, options) else rows)


@pytest.mark.parametrize("id", TASKS)
def test_what_was_played_comes_out_again(played: dict, id: str) -> None:
    assert find(id, played[id][:1]) == ""
    assert find(id, played[id]) == ""


def changed(row: dict[str, Any], name: str, step: int | None = None) -> dict[str, Any]:
    """The row with another value in one place; a flag is turned over."""
    value = row[name]
    if step is None and isinstance(value, bool):
        return {**row, name: not value}
    value = value.copy()
    place = ... if step is None else step
    value[place] = value[place] ^ True if value.dtype.kind in "bu" else value[place] + 1
    return {**row, name: value}


@pytest.mark.parametrize(
    ("id", "name", "step"),
    [
        ("mujoco-pendulum", "rewards", 2),
        ("babyai-go-to-obj", "rewards", -1),
        ("mujoco-pendulum", "continuous_observations", 0),
        ("mujoco-pendulum", "continuous_observations", -1),
        ("babyai-go-to-obj", "discrete_observations", 1),
        ("metaworld-reach", "success", 3),
    ],
)
def test_a_value_that_differs_is_named_with_its_step(
    played: dict, id: str, name: str, step: int
) -> None:
    first, second = played[id]
    place = step % len(second["rewards"])
    assert find(id, [first, changed(second, name, step)]) == f"'{name}' differs at step {place}"


def test_ends_and_final_observations_count(played: dict) -> None:
    first, second = played["mujoco-pendulum"]
    for name in ("terminated", "truncated"):
        expected = "'terminated' or 'truncated' differs"
        assert find("mujoco-pendulum", [first, changed(second, name)]) == expected
    spoiled = changed(second, "final_observation")
    assert find("mujoco-pendulum", [first, spoiled]) == "'final_observation' differs"


def test_an_episode_that_ends_too_early_or_too_late_is_told(played: dict) -> None:
    first, second = played["mujoco-pendulum"]
    per_step = ("continuous_observations", "continuous_actions", "rewards")
    shorter = {**second, **{name: second[name][:-1] for name in per_step}}
    last = len(second["rewards"]) - 1
    assert find("mujoco-pendulum", [first, shorter]) == f"it does not end at step {last - 1}"
    longer = {**second, **{name: np.repeat(second[name], 2, axis=0) for name in per_step}}
    assert find("mujoco-pendulum", [first, longer]) != ""
    broken = {**first, **{name: first[name][:-1] for name in per_step}}
    expected = "an earlier episode of its slot does not end where it ended"
    assert find("mujoco-pendulum", [broken, second]) == expected
