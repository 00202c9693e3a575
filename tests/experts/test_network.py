import gymnasium
import numpy as np
import pytest
import torch
from sample_factory.model.actor_critic import create_actor_critic

from experts.appo import network
from experts.appo.recipe import Training, make_config
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.tasks import get_task

BOX = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
VECTOR = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)
IMAGE = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
CASES = {
    "mlp": ("mujoco-hopper", VECTOR, BOX, {}),
    "adaptive": ("mujoco-hopper", VECTOR, BOX, {"adaptive_stddev": True}),
    "separate": ("mujoco-hopper", VECTOR, BOX, {"actor_critic_share_weights": False}),
    "decoder": ("mujoco-hopper", VECTOR, BOX, {"decoder_mlp_layers": [16, 8]}),
    "tanh": ("mujoco-hopper", VECTOR, BOX, {"continuous_tanh_scale": 2.0}),
    "no normaliser": ("mujoco-hopper", VECTOR, BOX, {"normalize_input": False}),
    "image": ("atari-pong", IMAGE, gymnasium.spaces.Discrete(6), {}),
}


def models(case, tmp_path):
    """Sample Factory's model with arbitrary statistics, and ours converted from it."""
    id, observation, actions, recipe = CASES[case]
    task = get_task(id)
    recipe = {**get_domain(task.domain).recipe(task), **recipe}
    cfg = make_config(Training(id, 1000, 8, recipe, {}, 0, tmp_path))
    torch.manual_seed(0)
    theirs = create_actor_critic(cfg, gymnasium.spaces.Dict(obs=observation), actions).eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.1)
    for name, parameter in theirs.named_parameters():
        if name.endswith("learned_stddev"):
            torch.nn.init.normal_(parameter)
    discrete = hasattr(actions, "n")
    size = int(actions.n) if discrete else actions.shape[0]
    ours = network.from_sample_factory(theirs.state_dict(), cfg, observation.shape, size, discrete)
    return theirs, ours, observation


@pytest.mark.parametrize("case", CASES)
def test_converted_network_acts_as_sample_factorys(case, tmp_path):
    theirs, ours, space = models(case, tmp_path)
    rng = np.random.default_rng(0)
    rows = (
        rng.normal(size=(5, *space.shape)) * 3
        if space.dtype != np.uint8
        else (rng.integers(0, 256, (5, *space.shape)))
    )
    obs = torch.from_numpy(rows.astype(space.dtype))
    with torch.no_grad():
        logits = theirs(theirs.normalize_obs({"obs": obs}), torch.zeros(5, 2))["action_logits"]
        parameters, stddev = ours(obs)
    if stddev is None:
        torch.testing.assert_close(parameters, logits, rtol=1e-4, atol=1e-5)
        return
    means, log_stddev = logits.chunk(2, dim=1)
    torch.testing.assert_close(parameters, means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stddev, log_stddev.exp(), rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_network_is_the_same(tmp_path):
    _, ours, _ = models("mlp", tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(network.save(ours))
    architecture = network.Architecture.from_dict(ours.architecture.to_dict())
    again = network.load(path, architecture)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize("damage", ["cut", "pickle", "foreign", "missing"])
def test_bad_weights_are_one_line_that_names_the_file(damage, tmp_path):
    _, ours, _ = models("mlp", tmp_path)
    path = tmp_path / "model.safetensors"
    data = network.save(ours)
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "pickle":
        torch.save(ours.state_dict(), path)
    elif damage == "foreign":
        _, other, _ = models("decoder", tmp_path)
        path.write_bytes(network.save(other))
    with pytest.raises(UserError, match=r"model\.safetensors") as error:
        network.load(path, ours.architecture)
    assert "\n" not in str(error.value)
