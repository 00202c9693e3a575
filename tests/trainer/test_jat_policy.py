"""JAT at play: what it is told of its own actions, and how it chooses them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from pipeline.random_policy import RandomPolicy
from pipeline.seeds import env_seeds
from pipeline.settings import Evaluation
from pipeline.stage import read_json
from trainer import evaluate
from trainer.evaluate import TaskEvaluation
from trainer.evaluation.jat_policy import JatPolicy
from trainer.feed.specs import Scale, TaskSpec
from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel

SIZES = {
    "vocab_size": 64,
    "max_position_embeddings": 24,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "window_size": 8,
    "max_continuous_size": 12,
    "max_discrete_value": 10,
    "initializer_range": 0.3,
}


@pytest.fixture(scope="module")
def model() -> JatModel:
    torch.manual_seed(0)
    return JatModel(JatConfig(**SIZES)).eval()


def envs(space: gymnasium.Space, count: int) -> Any:
    return SimpleNamespace(num_envs=count, action_space=space)


def make_policy(model: JatModel, spec: TaskSpec, space: gymnasium.Space, count: int = 3, **more):
    policy = JatPolicy(model, None, spec, **more)  # type: ignore[arg-type]
    policy.bind(envs(space, count))
    return policy


BOX = gymnasium.spaces.Box(-0.1, 0.2, (2,), np.float32)
SCALE = Scale((0.05, -0.05), (0.5, 2.0))


@pytest.mark.parametrize("scale", [None, SCALE])
def test_it_is_told_its_actions_as_they_were_executed(model: JatModel, scale: Scale | None):
    """Most of what it wants leaves the box: it is clipped, and it has to know."""
    spec = TaskSpec("mujoco", 6, "continuous", action_size=2, actions=scale)
    policy = make_policy(model, spec, BOX)
    state, other = model.init_state(3, 6), model.init_state(3, 6)
    rng = np.random.default_rng(0)
    ids, executed = np.arange(3), np.zeros((3, 2), np.float32)
    clipped = differs = False
    for step in range(9):
        seen = rng.normal(size=(3, 4)).astype(np.float32)
        rewards = rng.normal(size=3).astype(np.float32)
        started = np.full(3, step == 0)
        common = {"continuous_observations": seen, "rewards": rewards, "reset": started}
        acted = policy.act({"continuous_observations": seen}, ids, started, rewards)
        wanted = model.get_next_action(
            state, **common, action_size=2, previous_actions=spec.encode(executed)
        )
        untold = model.get_next_action(other, **common, action_size=2)
        differs |= not np.allclose(untold, wanted, rtol=1e-3)
        wanted = spec.decode(wanted)
        executed = np.clip(wanted, BOX.low, BOX.high)
        clipped |= bool((executed != wanted).any())
        np.testing.assert_allclose(acted, executed, rtol=1e-4, atol=1e-6)
        assert ((BOX.low <= acted) & (acted <= BOX.high)).all()
    assert clipped
    assert differs


def draws(model: JatModel, sample: bool, seed: int = 0, steps: int = 40) -> np.ndarray:
    spec = TaskSpec("atari", 12, "discrete", num_actions=6)
    policy = make_policy(model, spec, gymnasium.spaces.Discrete(6), 8, sample=sample, seed=seed)
    rng, ids = np.random.default_rng(0), np.arange(8)
    return np.stack(
        [
            policy.act(
                {"discrete_observations": rng.integers(0, 64, (8, 10))},
                ids, np.full(8, step % 7 == 0), np.zeros(8, np.float32),
            )
            for step in range(steps)
        ]
    )  # fmt: skip


def test_without_sampling_the_likeliest_action_is_taken(model: JatModel):
    first = draws(model, sample=False)
    assert np.array_equal(first, draws(model, sample=False, seed=1))
    rng = np.random.default_rng(0)
    seen = torch.from_numpy(rng.integers(0, 64, (8, 10)))
    actions = torch.zeros(8, 1, dtype=torch.int64)
    logits = model(
        discrete_observations=seen[:, None], discrete_actions=actions, num_actions=6
    ).pred_actions
    assert first[0].tolist() == logits[:, 0].argmax(dim=-1).tolist()


def test_with_sampling_the_seed_decides_and_actions_vary(model: JatModel):
    first = draws(model, sample=True)
    assert np.array_equal(first, draws(model, sample=True))
    assert (first != draws(model, sample=True, seed=1)).mean() > 0.05
    assert (first != draws(model, sample=False)).mean() > 0.05


@pytest.mark.parametrize(
    ("settings", "task", "expected"),
    [
        ({}, "atari-pong", True),  # as its experts do
        ({}, "babyai-go-to-obj", False),
        ({"sample": ["babyai"]}, "babyai-go-to-obj", True),
        ({"sample": ["babyai"]}, "atari-pong", False),
        ({"sample": []}, "atari-pong", False),
    ],
)
def test_domains_say_whether_actions_are_drawn(
    monkeypatch: pytest.MonkeyPatch, settings: dict, task: str, expected: bool
):
    told: dict[str, Any] = {}

    def load_policy(folder, name, sample, seed, context_share):
        told.update(name=name, sample=sample, seed=seed, share=context_share)

    monkeypatch.setattr(evaluate, "load_policy", load_policy)
    monkeypatch.setattr(evaluate, "play_task", lambda *arguments: {"arguments": arguments})
    spec = TaskSpec(task.split("-")[0], 8, "discrete", num_actions=6)
    evaluation = Evaluation(**settings, context_share=0.5)
    job = TaskEvaluation(
        task, spec, None, None, evaluation, {"x": 1}, 7, None, {},  # type: ignore[arg-type]
    )  # fmt: skip
    result = evaluate.play(job)
    assert told == {"name": task, "sample": expected, "seed": 7, "share": 0.5}
    assert result["arguments"][3:] == ({"x": 1}, 7)


def test_environments_that_are_not_stepped_do_not_change_the_others(model: JatModel):
    """Alone, or beside two of which one has ended: the same actions."""
    spec = TaskSpec("mujoco", 6, "continuous", action_size=2)
    wide = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    together, alone = make_policy(model, spec, wide), make_policy(model, spec, wide, 1)
    rng = np.random.default_rng(1)
    for step in range(8):
        ids = np.array([0, 1, 2] if step < 3 else [0, 2])
        seen = rng.normal(size=(len(ids), 4)).astype(np.float32)
        rewards = rng.normal(size=len(ids)).astype(np.float32)
        started = np.full(len(ids), step in (0, 5))
        acted = together.act({"continuous_observations": seen}, ids, started, rewards)
        one = alone.act(
            {"continuous_observations": seen[-1:]}, np.arange(1), started[-1:], rewards[-1:]
        )
        np.testing.assert_allclose(acted[-1:], one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("envs", "episodes", "played"), [(4, 10, 12), (32, 3, 3)])
def test_an_evaluation_plays_on_seeds_of_its_own(
    monkeypatch: pytest.MonkeyPatch, envs: int, episodes: int, played: int
):
    seeds: list[list[int]] = []
    make_envs = evaluate.make_envs

    def remembered(task, given, **options):
        seeds.append(given)
        return make_envs(task, given, **options)

    monkeypatch.setattr(evaluate, "make_envs", remembered)
    settings = Evaluation(envs=envs, episodes=episodes)
    results = [
        evaluate.play_task("mujoco-pendulum", RandomPolicy(0), settings, {}, seed)
        for seed in (1, 1, 2)
    ]
    assert [len(result["returns"]) for result in results] == [played] * 3
    assert sum(results[0]["returns"]) == results[0]["steps"], "a point a step"
    assert results[0] == results[1]
    assert seeds[0] == seeds[1]
    assert not set(seeds[0]) & set(seeds[2])
    gate = env_seeds(1, "gate", "mujoco-pendulum", count=envs)
    collected = env_seeds(1, "mujoco-pendulum", "collect", 0, count=envs)
    assert not set(seeds[0]) & {*gate, *collected}


def test_a_result_of_another_key_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    played: list[str] = []

    def play(job: TaskEvaluation) -> dict[str, Any]:
        played.append(job.facts["fact"])
        return {"returns": [1.0]}

    monkeypatch.setattr(evaluate, "play", play)
    spec, file = TaskSpec("mujoco", 8, "continuous", action_size=1), tmp_path / "task.json"
    for fact in ("a", "a", "b", "b", "a"):
        job = TaskEvaluation(
            "mujoco-pendulum", spec, tmp_path, None, Evaluation(), {}, 0, file, {"fact": fact}
        )
        evaluate.evaluate(job)
        assert read_json(file)["key"] == job.key
    assert played == ["a", "b", "a"]
