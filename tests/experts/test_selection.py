import gymnasium
import numpy as np
import pytest
import torch
from sample_factory.model.actor_critic import create_actor_critic

from experts.appo import selection
from experts.appo.recipe import Training, make_config
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.tasks import get_task

TASK = "mujoco-pendulum"


@pytest.fixture
def trained(tmp_path):
    """A run with a last and a best checkpoint of different weights."""
    recipe = {**get_domain("mujoco").recipe(get_task(TASK)), "encoder_mlp_layers": [8]}
    training = Training(TASK, 1000, 8, recipe, {}, 0, tmp_path)
    folder = tmp_path / "run" / "checkpoint_p0"
    folder.mkdir(parents=True)
    paths = {"best": folder / "best.pth", "last": folder / "checkpoint_000000020_1024.pth"}
    for seed, path in enumerate(paths.values()):
        write(training, path, seed, steps=512 * (seed + 1))
    return training, paths


def write(training, path, seed, steps, value=None):
    torch.manual_seed(seed)
    spaces = gymnasium.spaces.Dict(obs=gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32))
    actions = gymnasium.spaces.Box(-3, 3, (1,), np.float32)
    weights = create_actor_critic(make_config(training), spaces, actions).state_dict()
    bias = weights["action_parameterization.distribution_linear.bias"]
    bias.fill_(seed if value is None else value)
    state = {"train_step": 1, "env_steps": steps, "model": weights, "optimizer": {}}
    torch.save(state, path)


def scored(monkeypatch, best, last):
    """Scores by the bias of the head, which ``trained`` set."""
    seen = []

    def score(training, network, mode, episodes, seed):
        seen.append((mode, episodes, seed))
        return last if float(network.head.bias[0]) == 1 else best

    monkeypatch.setattr(selection, "_score", score)
    return seen


@pytest.mark.parametrize(
    ("best", "last", "chosen", "steps"),
    [(9.0, 3.0, "best", 512), (-9.0, -3.0, "last", 1024), (3.0, 3.0, "last", 1024)],
)
def test_the_better_moment_is_the_expert(trained, monkeypatch, best, last, chosen, steps):
    training, paths = trained
    seen = scored(monkeypatch, best, last)
    network, description = selection.select(training, paths["last"], "argmax", 8, seed=5)
    assert description["checkpoint"] == chosen
    assert description["steps"] == steps
    assert description["candidates"] == {
        "last": {"steps": 1024, "mean": last},
        "best": {"steps": 512, "mean": best},
    }
    assert float(network.head.bias[0]) == (1.0 if chosen == "last" else 0.0)
    assert seen == [("argmax", 8, 5)] * 2


def test_only_one_moment_is_not_played(trained, monkeypatch):
    training, paths = trained
    seen = scored(monkeypatch, 1.0, 2.0)
    write(training, paths["best"], 1, steps=1024)  # the last moment was the best one
    _, description = selection.select(training, paths["last"], "sample", 8, seed=5)
    paths["best"].unlink()
    assert selection.select(training, paths["last"], "sample", 8, seed=5)[1] == description
    assert description["checkpoint"] == "last"
    assert description["candidates"] == {"last": {"steps": 1024, "mean": None}}
    assert not seen


def test_a_run_that_diverged_leaves_its_best_moment(trained):
    training, paths = trained
    write(training, paths["last"], 1, steps=1024, value=np.nan)
    _, description = selection.select(training, paths["last"], "sample", 8, seed=5)
    assert description["checkpoint"] == "best"
    paths["best"].unlink()
    with pytest.raises(UserError, match="not finite"):
        selection.select(training, paths["last"], "sample", 8, seed=5)


def test_the_gates_episodes_take_no_part_in_the_choice(trained, monkeypatch):
    training, paths = trained
    seeds = []

    def play(task, policy, episodes, seed, env):
        seeds.append(seed)
        assert episodes == selection.EPISODES
        return [type("Outcome", (), {"score": 1.0})]

    monkeypatch.setattr(selection, "play", play)
    selection.select(training, paths["last"], "sample", 100, seed=5)
    assert len(seeds) == 2
    assert seeds[0] == seeds[1] != 5
