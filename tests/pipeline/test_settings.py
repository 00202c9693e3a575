"""What counts where a setting is made for a domain and for one of its tasks."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.mistakes import domain_mistakes
from pipeline.params import Params
from pipeline.settings import Collect, Evaluation, Expert, Jat, RLDomain, is_installed

EMPTY: dict[str, Any] = {"collect": {"episodes": 1}}


def domain(**more: Any) -> RLDomain:
    return RLDomain.model_validate({**EMPTY, **more})


def params(**domains: Any) -> Params:
    names = ("mujoco", "metaworld", "babyai", "atari")
    return Params.model_validate({"profile": "test", **dict.fromkeys(names, EMPTY), **domains})


def test_a_tasks_options_go_before_its_domains() -> None:
    settings = domain(
        tasks=["mujoco-ant", "mujoco-hopper"],
        env={"max_episode_steps": 5, "engine": "gymnasium"},
        task_env={"mujoco-ant": {"max_episode_steps": 7}},
    )
    assert settings.env_of("mujoco-ant") == {"max_episode_steps": 7, "engine": "gymnasium"}
    assert settings.env_of("mujoco-hopper") == {"max_episode_steps": 5, "engine": "gymnasium"}


def test_an_experts_own_settings_go_before_its_domains() -> None:
    expert = Expert(
        source="train", steps=10, envs=4, mode="sample", gpus=0.5,
        recipe={"a": 1, "b": 1}, sources={"x": "shipped"}, task_steps={"x": 20},
        task_envs={"x": 8}, task_mode={"x": "argmax"}, task_recipe={"x": {"b": 2}},
    )  # fmt: skip
    of = [
        (expert.source_of(t), expert.steps_of(t), expert.envs_of(t), expert.mode_of(t))
        for t in ("x", "y")
    ]
    assert of == [("shipped", 20, 8, "argmax"), ("train", 10, 4, "sample")]
    assert expert.recipe_of("x") == {"device": "gpu", "a": 1, "b": 2}
    assert Expert(recipe={"device": "cpu"}, gpus=1).recipe_of("y") == {"device": "cpu"}
    assert expert.all_sources == {"train", "shipped"}


def test_a_task_is_named_once_and_is_its_domains_own() -> None:
    with pytest.raises(ValidationError, match="names a task twice"):
        domain(tasks=["mujoco-ant", "mujoco-ant"])
    foreign = params(metaworld={**EMPTY, "tasks": ["metaworld-reach", "mujoco-ant"]})
    (mistake,) = domain_mistakes("metaworld", foreign)
    assert mistake.place == ("metaworld", "tasks", 1)
    assert "names 'mujoco-ant', a task of another domain" in mistake.message
    unknown = params(mujoco={**EMPTY, "task_env": {"mujoco-ants": {}}})
    (mistake,) = domain_mistakes("mujoco", unknown)
    assert mistake.place == ("mujoco", "task_env", "mujoco-ants")
    assert not list(domain_mistakes("atari", foreign))


@pytest.mark.parametrize("budget", [{}, {"episodes": 1, "steps": 1}])
def test_a_collection_has_one_budget(budget: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="exactly one of 'episodes' and 'steps'"):
        Collect(**budget)


def test_episodes_of_an_evaluation() -> None:
    """A domain's number in the parameters, the general one, the domain's own, 100."""
    everywhere = Evaluation(episodes=7, domain_episodes={"mujoco": 5})
    names = ("mujoco", "atari", "metaworld")
    assert [everywhere.episodes_of(name) for name in names] == [5, 7, 7]
    assert [Evaluation().episodes_of(name) for name in names] == [32, 8, 100]


def test_options_reach_their_task_alone() -> None:
    group = {**EMPTY, "tasks": ["mujoco-ant"], "env": {"max_episode_steps": 5}}
    made = params(mujoco=group)
    assert made.env_of("mujoco-ant") == {"max_episode_steps": 5}
    assert made.env_of("metaworld-reach") == {}
    assert made.tasks == ["mujoco-ant"]


def test_defaults_are_the_published_recipes() -> None:
    assert Jat().sampling == "published"
    assert (Jat().max_grad_norm, Jat().weight_decay) == (1.0, 0.0)


def test_either_of_two_packages_writes_tensorboards_events(monkeypatch) -> None:
    for there in ("tensorboard", "tensorboardX"):
        monkeypatch.setattr("pipeline.settings.find_spec", lambda name, t=there: name == t or None)
        assert is_installed("tensorboard")
        assert not is_installed("wandb")
