import hashlib

import numpy as np
import pytest
import torch

from experts.appo import network
from experts.appo.network_policy import NetworkPolicy
from experts.load import load_policy
from pipeline.engines import make_envs
from pipeline.errors import UserError
from pipeline.stage import read_json, write_json
from pipeline.tasks import get_task

CONTINUOUS = network.Architecture((11,), 3, False, (), (8,), "tanh", 0.0, 1.0, True)
IMAGE = network.Architecture(
    (4, 84, 84), 6, True, ((8, 8, 4), (8, 4, 2)), (16,), "relu", 0.0, 255.0, True
)
CASES = {"mujoco-hopper": CONTINUOUS, "atari-pong": IMAGE}


def expert(folder, id, mode="sample"):
    torch.manual_seed(0)
    weights = network.save(network.Network(CASES[id]))
    (folder / "model.safetensors").write_bytes(weights)
    config = {
        "kind": "network",
        "task": id,
        "network": CASES[id].to_dict(),
        "mode": mode,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(folder / "config.json", config)
    return get_task(id), folder


def acts(policy, task, steps=5):
    column, ids = task.modality.observation_column, np.arange(4)
    shape = CASES[task.id].observation
    rng = np.random.default_rng(1)
    chosen = []
    for _ in range(steps):
        rows = rng.integers(0, 255, (4, *shape)).astype(
            np.uint8 if task.domain == "atari" else np.float32
        )
        chosen.append(policy.act({column: rows}, ids, np.zeros(4, bool), np.zeros(4)))
    return np.stack(chosen)


@pytest.mark.parametrize("id", CASES)
def test_the_seed_decides_what_is_sampled(id, tmp_path):
    task, folder = expert(tmp_path, id)
    first, again = (acts(load_policy(task, folder, seed=1), task, 20) for _ in range(2))
    other = acts(load_policy(task, folder, seed=2), task, 20)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("id", CASES)
def test_argmax_does_not_depend_on_the_seed(id, tmp_path):
    task, folder = expert(tmp_path, id, mode="argmax")
    first, other = (acts(load_policy(task, folder, seed), task) for seed in (1, 2))
    np.testing.assert_array_equal(first, other)


def test_sampling_follows_the_distribution():
    architecture = network.Architecture((2,), 2, False, (), (), "tanh", 0.0, 1.0, False)
    model = network.Network(architecture)
    with torch.no_grad():
        model.log_stddev.copy_(torch.tensor([0.0, np.log(3.0)]))
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1.0, -2.0]))
    policy = NetworkPolicy(model.eval(), "x", "sample", 0, "test", "")
    rows = {"x": np.zeros((20_000, 2), np.float32)}
    actions = policy.act(rows, np.arange(20_000), np.zeros(20_000, bool), np.zeros(20_000))
    np.testing.assert_allclose(actions.mean(axis=0), [1, -2], atol=0.1)
    np.testing.assert_allclose(actions.std(axis=0), [1, 3], atol=0.1)


@pytest.mark.parametrize("id", CASES)
def test_plays_in_its_environment(id, tmp_path):
    task, folder = expert(tmp_path, id)
    envs = make_envs(task, [1, 2, 3])
    policy = load_policy(task, folder, seed=0)
    policy.bind(envs)
    observations = envs.reset()
    actions = policy.act(observations, np.arange(3), np.ones(3, bool), np.zeros(3, np.float32))
    assert len(actions) == 3
    envs.step(actions)


def test_an_expert_of_other_shapes_is_refused(tmp_path):
    task, folder = expert(tmp_path, "mujoco-hopper")
    other = get_task("mujoco-reacher")
    envs = make_envs(other, [0])
    with pytest.raises(UserError, match="mujoco-hopper"):
        load_policy(task, folder, 0).bind(envs)


def spoil_config(folder, **changes):
    write_json(folder / "config.json", {**read_json(folder / "config.json"), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "mujoco-ant"}, "does not describe an expert of mujoco-hopper"),
        ({"kind": "pickle"}, "unknown kind"),
        ({"mode": "best"}, "'mode' is 'best'"),
        ({"network": {"layers": [8]}}, "not an expert's description"),
        ({"weights_sha256": "0" * 64}, "another checksum"),
    ],
)
def test_foreign_descriptions_are_one_line(changes, message, tmp_path):
    task, folder = expert(tmp_path, "mujoco-hopper")
    spoil_config(folder, **changes)
    with pytest.raises(UserError, match=message):
        load_policy(task, folder, 0)


def test_a_pickle_in_place_of_the_weights_is_refused(tmp_path):
    task, folder = expert(tmp_path, "mujoco-hopper")
    torch.save({"a": torch.zeros(2)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_policy(task, folder, 0)


def test_a_missing_expert_names_its_file(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        load_policy(get_task("mujoco-hopper"), tmp_path, 0)


def constant(parameters, discrete):
    """A network that always gives the same logits, or means with deviation 1."""
    count = len(parameters)
    architecture = network.Architecture((2,), count, discrete, (), (), "tanh", 0.0, 1.0, False)
    model = network.Network(architecture)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor(parameters))
    return model.eval()


def many(model, mode, seed=0, count=20_000):
    policy = NetworkPolicy(model, "x", mode, seed, "test", "")
    rows = {"x": np.zeros((count, 2), np.float32)}
    return policy.act(rows, np.arange(count), np.zeros(count, bool), np.zeros(count))


def test_discrete_actions_are_drawn_by_their_probabilities():
    model = constant(np.log([0.6, 0.1, 0.3]).tolist(), discrete=True)
    shares = np.bincount(many(model, "sample"), minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.02)


def test_argmax_takes_the_likeliest():
    discrete = constant([0.0, 2.0, 1.9], discrete=True)
    assert set(many(discrete, "argmax").tolist()) == {1}
    continuous = constant([1.0, -2.0], discrete=False)
    assert (many(continuous, "argmax") == np.array([1.0, -2.0], np.float32)).all()
