"""Fine-tuning: from a model of ours, from one as it was published, from what is no model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from runs import NETWORK, train, weights
from safetensors.torch import load_file, save_file
from transformers import GPT2TokenizerFast

from pipeline.errors import UserError
from trainer.feed.specs import Scale, TaskSpec, load_specs
from trainer.feed.tokenizer import train_tokenizer
from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel
from trainer.model.processing_jat import JatProcessor
from trainer.pretrained import read_pretrained
from trainer.training.parts import adopt


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def base(dataset, tmp_path_factory) -> Path:
    """A model trained for two steps."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(dataset, steps=2)
    return folder / "artifacts" / "jat"


def test_fine_tuning_starts_from_the_weights_the_tokenizer_and_the_scales(base, dataset):
    # No preset or vocabulary of these settings is the base model's.
    changes = {"model": {}, "preset": "small", "vocab_size": 999, "normalise": False}
    output = train(dataset, pretrained=str(base), steps=1, learning_rate=1e-9, **changes)
    before, after = weights(base), weights(output)
    assert before.keys() == after.keys()
    for name, value in after.items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-6)
    assert (output / "tokenizer.json").read_text() == (base / "tokenizer.json").read_text()
    task = "mujoco-pendulum"
    assert load_specs(output)[task].observations == load_specs(base)[task].observations
    # Another model to start from is another run.
    other = Path(shutil.copytree(base, "other"))
    changed = {name: value + 1 for name, value in before.items()}
    save_file(changed, other / "model.safetensors", {"format": "pt"})
    train(dataset, pretrained=str(other), steps=1, learning_rate=1e-9, **changes)
    bias = "continuous_encoder.bias"
    torch.testing.assert_close(weights(output)[bias], changed[bias], rtol=0, atol=1e-6)


def test_a_new_task_has_its_own_scale_and_a_known_one_keeps_its_own():
    scale, other = Scale((1.0,), (2.0,)), Scale((3.0,), (4.0,))
    known = TaskSpec("mujoco", 8, action_size=1, observations=scale, actions=scale)
    new = TaskSpec("mujoco", 16, action_size=1, observations=other, actions=other)
    assert adopt(None, new) == new
    assert adopt(known, new).observations == scale
    assert adopt(known, new).context == 16
    atari = [TaskSpec("atari", 8, num_actions=n) for n in (6, 4)]
    assert adopt(*atari).num_actions == 6


def published_folder(folder: Path) -> Path:
    """As JAT was published: GPT-Neo's configuration, no weight of ours, GPT-2's files."""
    model = JatModel(JatConfig(**NETWORK, vocab_size=300, compatibility="published"))
    tied = set(model.all_tied_weights_keys)
    state = {k: v for k, v in model.state_dict().items() if k not in tied}
    folder.mkdir()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = {
        **{name: getattr(model.config, name) for name in ("vocab_size", *NETWORK)},
        "model_type": "jat",
        "architectures": ["JatModel"],
        "attention_layers": ["global"],
        "activation_function": "gelu_new",
        "intermediate_size": None,
        "attention_dropout": 0.0,
        "max_discrete_value": 212,
        "max_continuous_size": 377,
        "auto_map": {"AutoConfig": "configuration_jat.JatConfig"},
        "tokenizer_class": "GPT2TokenizerFast",
        "use_cache": True,
        "transformers_version": "4.35.0",
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = train_tokenizer(["all work and no play"] * 9, 300)
    gpt2 = GPT2TokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token=tokenizer.eos_token
    )
    gpt2.save_pretrained(folder)
    pictures = {"image_processor_type": "CLIPImageProcessor", "processor_class": "JatProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    return folder


def test_a_published_checkpoint_is_fine_tuned(tmp_path, dataset):
    folder = published_folder(tmp_path / "published")
    model, processor = read_pretrained(folder)
    assert model.config.attention_layers == ["global"]
    assert isinstance(processor, JatProcessor)
    state = load_file(folder / "model.safetensors")
    torch.testing.assert_close(
        model.state_dict()["continuous_decoder.bias"], state["continuous_decoder.bias"]
    )
    assert not model.image_reward_encoder.weight.any()
    output = train(dataset, pretrained=str(folder), steps=1, model={})
    assert JatModel.from_pretrained(output).config.hidden_size == NETWORK["hidden_size"]


def break_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))


def drop_weight(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["transformer.ln_f.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def add_weight(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file(
        {**state, "lm_head.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"}
    )


def cut_file(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("damage", [break_config, drop_weight, add_weight, cut_file])
def test_weights_that_do_not_fit_are_one_line(base, dataset, tmp_path, damage):
    folder = Path(shutil.copytree(base, tmp_path / "damaged"))
    damage(folder)
    with pytest.raises(UserError) as error:
        train(dataset, pretrained=str(folder), model={})
    assert "damaged" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_model_to_start_from_is_one_line(dataset):
    with pytest.raises(UserError, match="pass --from"):
        train(dataset, pretrained="/nothing/here")
