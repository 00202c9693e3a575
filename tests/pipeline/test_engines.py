import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline import engines
from pipeline.domains import get_domain
from pipeline.engines import decided_options, make_envs, render_options, stored_options
from pipeline.errors import UserError
from pipeline.tasks import get_task
from pipeline.types import Engine

SEEDS = [3, 4]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the engines of MuJoCo and Meta-World are told, as (engine, options); none really runs.

    EnvPool is as the tasks want it, and Gymnasium loads a simulator that they are not defined on.
    """
    calls: list[tuple[str, dict[str, Any]]] = []

    def recorder(name: str) -> Callable[..., Any]:
        def make(task: Any, seeds: Any, threads: int = 1, **options: Any) -> None:
            calls.append((name, options))

        return make

    for domain in ("mujoco", "metaworld"):
        fakes = {
            "envpool": Engine(recorder("envpool"), lambda task: "mujoco 3.6.0", "mujoco 3.6.0"),
            "gymnasium": Engine(recorder("gymnasium"), lambda task: "mujoco 9.9.9", "mujoco 3.3.0"),
        }
        changed = dataclasses.replace(get_domain(domain), engines=fakes)
        monkeypatch.setattr(f"pipeline.domains.{domain}.DOMAIN", changed)
    return calls


def test_an_unknown_engine_is_told_with_the_nearest() -> None:
    expected = r"mujoco-ant has no engine 'envpol' \(did you mean 'envpool'\?\).*envpool, gymnasium"
    with pytest.raises(UserError, match=expected):
        make_envs(get_task("mujoco-ant"), SEEDS, engine="envpol")
    with pytest.raises(UserError, match="atari-pong has no engine 'minigrid'"):
        decided_options(get_task("atari-pong"), {"engine": "minigrid"})


def test_another_simulator_than_the_tasks_is_refused_unless_it_is_accepted(told) -> None:
    task = get_task("metaworld-hammer")
    with pytest.raises(UserError) as error:
        make_envs(task, SEEDS)
    for part in ("mujoco 3.3.0", "engine 'gymnasium' loads mujoco 9.9.9", "env.simulator: mujoco"):
        assert part in str(error.value)
    assert told == []
    make_envs(task, SEEDS, simulator="mujoco 9.9.9", goal_visible=False)
    assert told == [("gymnasium", {"goal_visible": False})]


def test_the_simulator_that_is_asked_for_must_be_the_one_loaded() -> None:
    with pytest.raises(UserError, match=r"defined on mujoco 3\.3\.0.*loads mujoco 3\.6\.0"):
        make_envs(get_task("mujoco-reacher"), SEEDS, simulator="mujoco 3.3.0")


def test_each_engine_is_told_what_makes_it_play_the_task(told) -> None:
    make_envs(get_task("mujoco-pusher"), SEEDS)
    make_envs(get_task("mujoco-pusher"), SEEDS, movable_object=False)
    make_envs(get_task("mujoco-pusher"), SEEDS, engine="gymnasium", simulator="mujoco 9.9.9")
    make_envs(get_task("mujoco-humanoid"), SEEDS)
    make_envs(get_task("mujoco-humanoid"), SEEDS, engine="gymnasium", simulator="mujoco 9.9.9")
    make_envs(get_task("mujoco-ant"), SEEDS, max_episode_steps=7)
    assert told == [
        ("envpool", {"movable_object": True}),
        ("envpool", {"movable_object": False}),
        ("gymnasium", {"movable_object": True}),
        ("envpool", {"post_constraint": True}),
        ("gymnasium", {}),
        ("envpool", {"max_episode_steps": 7}),
    ]


@pytest.mark.parametrize(
    ("id", "options", "expected"),
    [
        ("mujoco-ant", {}, {}),
        ("atari-pong", {}, {}),
        ("mujoco-ant", {"max_episode_steps": 9}, {"max_episode_steps": 9}),
        ("mujoco-pusher", {}, {"movable_object": True}),
        ("mujoco-humanoid", {}, {"post_constraint": True}),
        ("mujoco-humanoid", {"engine": "gymnasium"}, {"engine": "gymnasium"}),
        (
            "mujoco-pusher",
            {"engine": "gymnasium"},
            {"engine": "gymnasium", "movable_object": True},
        ),
        ("metaworld-reach", {}, {}),
        ("metaworld-hammer", {}, {"engine": "gymnasium"}),
        (
            "metaworld-hammer",
            {"goal_visible": False},
            {"engine": "gymnasium", "goal_visible": False},
        ),
        ("metaworld-hammer", {"engine": "envpool"}, {"engine": "envpool"}),
        ("babyai-go-to-obj", {}, {}),
        ("babyai-go-to-obj", {"engine": "envpool"}, {"engine": "envpool"}),
    ],
)
def test_what_decides_the_environments_makes_them_again(
    id: str, options: dict[str, Any], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, made = get_task(id), []
    assert decided_options(task, options) == expected
    assert decided_options(task, expected) == expected

    def record(name: str) -> Callable[..., Any]:
        return lambda task, seeds, threads, **options: made.append((name, options))

    domain = get_domain(task.domain)
    fakes = {name: Engine(record(name), engine.loaded) for name, engine in domain.engines.items()}
    monkeypatch.setattr(
        f"pipeline.domains.{task.domain}.DOMAIN", dataclasses.replace(domain, engines=fakes)
    )
    make_envs(task, SEEDS, **options)
    make_envs(task, SEEDS, **expected)
    assert made[0] == made[1]


def test_babyai_is_played_by_minigrid_and_by_envpool_on_request() -> None:
    task = get_task("babyai-go-to-obj")
    for options in ({}, {"engine": "envpool"}):
        envs = make_envs(task, SEEDS, **options)
        observations = envs.reset()
        assert observations["discrete_observations"].shape == (2, 148)
        assert len(observations["text_observations"]) == 2
        assert hasattr(envs, "pool") == bool(options)
        envs.close()
    assert engines.identity(task, {}) == {"engine": "minigrid", "simulator": "minigrid 3.2.0"}
    assert engines.independent(task, {})
    assert not engines.independent(task, {"engine": "envpool"})


def test_contact_forces_are_part_of_what_the_humanoid_sees() -> None:
    envs = make_envs(get_task("mujoco-humanoid"), [0])
    envs.reset()
    for _ in range(30):
        seen = envs.step(np.zeros((1, 17), np.float32)).observations["continuous_observations"]
    envs.close()
    assert seen.shape == (1, 376)
    assert seen[:, -84:].any()


@pytest.mark.parametrize("id", ["metaworld-hammer", "metaworld-reach"])
def test_both_engines_of_meta_world_show_the_same_columns(id: str) -> None:
    for visible in (True, False):
        envs = make_envs(get_task(id), [0], goal_visible=visible, max_episode_steps=2)
        assert envs.reset()["continuous_observations"][0, -3:].any() == visible
        first, last = (envs.step(np.zeros((1, 4), np.float32)) for _ in range(2))
        envs.close()
        assert last.observations["continuous_observations"].shape == (1, 39)
        assert (first.ended.tolist(), last.truncated.tolist()) == ([False], [True])
        assert last.info["success"].dtype == bool


def test_pictures_come_from_the_engine_that_draws() -> None:
    assert render_options(get_task("mujoco-ant"))["engine"] == "gymnasium"
    assert render_options(get_task("atari-pong")) == {"render_mode": "rgb_array"}


def test_options_from_a_file_are_those_that_a_profile_may_give():
    for id, options in (("mujoco-pusher", {}), ("metaworld-hammer", {"goal_visible": False})):
        task = get_task(id)
        decided = decided_options(task, options)
        assert stored_options(task, decided) == decided
    for foreign in ({"base_path": "/elsewhere"}, {"xml_file": "x.xml"}, {"movable_object": 7}):
        with pytest.raises(UserError, match=next(iter(foreign))):
            stored_options(get_task("mujoco-pusher"), foreign)
