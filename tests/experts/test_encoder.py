import gymnasium
import numpy as np
import pytest
import torch
from sample_factory.algo.utils.context import global_model_factory
from sample_factory.model.actor_critic import create_actor_critic

from experts.appo import encoder
from experts.appo.recipe import Training, make_config
from pipeline.domains import get_domain
from pipeline.errors import UserError
from pipeline.tasks import get_task

TASK = "atari-pong"


def config(tmp_path, **changes):
    recipe = {**get_domain("atari").recipe(get_task(TASK)), **changes}
    return make_config(Training(TASK, 100, 8, recipe, {}, 1, tmp_path))


def network(cfg):
    torch.manual_seed(0)
    space = gymnasium.spaces.Dict(obs=gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8))
    return create_actor_critic(cfg, space, gymnasium.spaces.Discrete(6))


def test_bfloat16_is_close_to_float32_and_has_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "computes_bfloat16", lambda: True)
    global_model_factory().register_encoder_factory(encoder.make_encoder)
    exact = network(config(tmp_path, encoder_precision="float32"))
    mixed = network(config(tmp_path, encoder_precision="bfloat16"))
    for name, weights in exact.state_dict().items():
        assert torch.equal(weights, mixed.state_dict()[name])
    observations = {"obs": torch.rand(16, 4, 84, 84, generator=torch.Generator().manual_seed(1))}
    ours, theirs = mixed.encoder(observations), exact.encoder(observations)
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, theirs)
    assert torch.allclose(ours, theirs, atol=0.02 * theirs.abs().max().item())
    ours.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in mixed.encoder.parameters())


def test_a_processor_without_bfloat16_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "computes_bfloat16", lambda: False)
    global_model_factory().register_encoder_factory(encoder.make_encoder)
    mixed = network(config(tmp_path, encoder_precision="bfloat16"))
    assert not isinstance(mixed.encoder, encoder.MixedEncoder)


def test_an_unknown_precision_is_one_line(tmp_path):
    with pytest.raises(UserError, match="'encoder_precision' must be one of float32, bfloat16"):
        config(tmp_path, encoder_precision="float16")
