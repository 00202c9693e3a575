"""JatProcessor: padding, missions, images, saving."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel
from trainer.model.processing_jat import JatProcessor, pad_chunks, previous_rewards


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["go to the red ball", "pick up the key"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )


@pytest.fixture(scope="module")
def processor() -> JatProcessor:
    return JatProcessor(small_tokenizer(), image_size=32, mission_length=16)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 8) | st.none())
def test_padding_keeps_every_step(lengths: list[int], max_length: int | None):
    rng = np.random.default_rng(0)
    chunks = [rng.normal(size=(length, 3)) for length in lengths]
    batch = pad_chunks({"continuous_observations": chunks}, None, max_length)
    kept = [min(length, max_length or length) for length in lengths]
    assert batch["attention_mask"].sum(1).tolist() == kept
    for row, (chunk, length) in enumerate(zip(chunks, kept, strict=True)):
        got = batch["continuous_observations"][row]
        np.testing.assert_array_equal(got[:length], chunk[:length].astype(np.float32))
        assert not got[length:].any()
        assert not batch["attention_mask"][row, length:].any()


def test_missions_follow_the_symbols(processor: JatProcessor):
    symbols = np.arange(2 * 5).reshape(2, 5).astype(np.uint8)
    missions = ["go to the red ball", "pick up the key"]
    batch = processor(
        discrete_observations=[symbols],
        text_observations=[missions],
        discrete_actions=[[1, 2]],
        rewards=[[0.0, 1.0]],
        loss_weight=[3.0],
    )
    rows = batch["discrete_observations"][0]
    assert rows.shape == (2, 5 + 16)
    np.testing.assert_array_equal(rows[:, :5], symbols)
    for row, mission in zip(rows, missions, strict=True):
        ids = processor.tokenizer(mission)["input_ids"]
        assert row[5 : 5 + len(ids)].tolist() == ids
        assert set(row[5 + len(ids) :].tolist()) == {processor.tokenizer.eos_token_id}
    assert batch["loss_weight"].tolist() == [[3.0, 3.0]]
    assert batch["discrete_actions"].dtype == torch.int64
    long = processor.join_missions(symbols[:1], ["word " * 100])
    assert long.shape == (1, 21)


def test_screens_stay_bytes(processor: JatProcessor):
    screens = np.full((2, 4, 84, 84), 7, np.uint8)
    batch = processor(image_observations=[screens], discrete_actions=[[0, 1]])
    assert batch["image_observations"].dtype == torch.uint8
    scaled = processor(image_observations=[screens / 255], discrete_actions=[[0, 1]])
    assert scaled["image_observations"].dtype == torch.float32


def test_texts_are_padded_on_the_right(processor: JatProcessor):
    batch = processor(["the key", "k"], add_eos=True)
    end = processor.tokenizer.eos_token_id
    lengths = batch["attention_mask"].sum(1)
    assert lengths[0] > lengths[1] == 2
    assert batch["input_ids"][1].tolist()[1:] == [end] * (len(batch["input_ids"][1]) - 1)
    assert processor(["the key"], max_length=1)["input_ids"].shape == (1, 1)


def test_images_are_cut_from_the_middle_and_normalised(processor: JatProcessor):
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 32:96] = 255
    pixels = processor(["a"], [image])["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    torch.testing.assert_close(pixels[0, :, 16, 16], (1 - mean) / std)
    grey = processor(["a"], [np.zeros((32, 32), np.uint8)])["pixel_values"]
    torch.testing.assert_close(grey[0, :, 0, 0], -mean / std)
    for size in ((33, 47), (500, 31), (32, 32)):
        assert processor(["a"], [np.zeros((*size, 4), np.uint8)])["pixel_values"].shape[2] == 32


def test_previous_rewards():
    assert previous_rewards(np.array([1.0, 2.0, 3.0])).tolist() == [0.0, 1.0, 2.0]
    assert previous_rewards(np.zeros(0)).tolist() == []


def test_bad_input_is_named(processor: JatProcessor):
    with pytest.raises(ValueError, match="unknown fields actions"):
        processor(actions=[[1]])
    with pytest.raises(ValueError, match="not as long as"):
        processor(discrete_actions=[[1, 2]], rewards=[[0.0]])
    with pytest.raises(ValueError, match="give text"):
        processor()


def test_batches_fit_the_model(processor: JatProcessor):
    config = JatConfig(
        vocab_size=300,
        max_position_embeddings=40,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        max_discrete_value=21,
        image_size=32,
    )
    model = JatModel(config)
    symbols = [np.zeros((3, 5), np.uint8), np.zeros((2, 5), np.uint8)]
    batch = processor(
        discrete_observations=symbols,
        text_observations=[["go"] * 3, ["up"] * 2],
        discrete_actions=[[0, 1, 2], [0, 1]],
        rewards=[[0, 0, 1], [0, 0]],
    )
    assert model(**batch, num_actions=7).loss.isfinite()
    captions = processor(["a key", "a red ball"], [np.zeros((40, 40, 3), np.uint8)] * 2)
    assert model(**captions).loss.isfinite()


def test_saved_processor_loads_without_this_package(processor: JatProcessor, tmp_path: Path):
    folder = tmp_path / "model"
    processor.save_pretrained(folder)
    again = JatProcessor.from_pretrained(folder)
    assert again.image_size == 32
    program = f"""
import sys
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained({str(folder)!r}, trust_remote_code=True)
assert not any(name.split(".")[0] in ("trainer", "pipeline") for name in sys.modules)
ids = processor(["the key"])["input_ids"][0].tolist()
print(type(processor).__name__, processor.mission_length, *ids)
"""
    environment = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    ids = processor.tokenizer("the key")["input_ids"]
    assert done.stdout.split() == ["JatProcessor", "16", *map(str, ids)]
