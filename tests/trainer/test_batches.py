"""Windows cover every step once; batches hold what the model is promised."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames import stack
from pipeline.settings import Jat
from trainer.feed.batches import Batch, EpisodeSource, WindowSource, cut, make_batch, make_source
from trainer.feed.data import load
from trainer.feed.specs import Scale, load_specs, make_spec, save_specs
from trainer.feed.tokenizer import train_tokenizer
from trainer.model.configuration_jat import JatConfig
from trainer.model.image_jat import stack_frames
from trainer.model.modeling_jat import JatModel
from trainer.model.processing_jat import JatProcessor
from trainer.training.parts import prepare


@pytest.fixture(scope="module")
def processor() -> JatProcessor:
    texts = ["go to the red ball", "go to the green ball", "all work and no play"]
    return JatProcessor(train_tokenizer(texts, 300), image_size=32)


@pytest.fixture
def source(dataset, processor, tmp_path):
    def make(task: str, context: int = 4, normalise: bool = False):
        data = load(dataset, task, "train", tmp_path)
        return make_source(data, make_spec(data, context, normalise), processor)

    return make


def batch_of(source: WindowSource, *windows: int) -> Batch:
    return make_batch([(source, np.array(windows))])


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(1, 12))
def test_windows_cover_each_step_once_and_never_two_episodes(lengths, size):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    windows = cut(offsets, size)
    steps = [np.arange(s, s + n) for s, n in zip(windows.starts, windows.lengths, strict=True)]
    np.testing.assert_array_equal(np.concatenate(steps), np.arange(offsets[-1]))
    assert windows.lengths.max() <= size
    for piece, window in zip(windows.pieces, steps, strict=True):
        assert offsets[piece] <= window[0]
        assert window[-1] < offsets[piece + 1]


def test_an_observation_comes_with_the_reward_of_the_action_before(source, episodes):
    made: EpisodeSource = source("mujoco-pendulum")
    rewards = episodes["mujoco-pendulum"][1].rewards
    batch = batch_of(made, 2, 3, 4)  # the windows of the second episode
    assert batch["attention_mask"].sum(dim=1).tolist() == [4, 4, 3]
    np.testing.assert_array_equal(batch["rewards"][0], [0, *rewards[:3]])
    np.testing.assert_array_equal(batch["rewards"][1], rewards[3:7])
    np.testing.assert_array_equal(batch["rewards"][2, :3], rewards[7:10])


def test_padding_reaches_to_the_longest_window_only(source):
    made = source("mujoco-pendulum", context=100)
    assert made.lengths.tolist() == [10, 22, 2, 14]
    assert batch_of(made, 0, 2)["attention_mask"].tolist() == [[1] * 5, [1, 0, 0, 0, 0]]


def test_a_domain_has_its_loss_weight(source):
    assert batch_of(source("mujoco-pendulum"), 0)["loss_weight"][0, 0] == 20
    assert batch_of(source("metaworld-reach"), 0)["loss_weight"][0, 0] == 50


def test_a_loss_weight_can_be_set_for_a_task_or_its_domain(dataset):
    weights = {"mujoco-pendulum": 3.0, "mujoco": 4.0, "metaworld": 5.0}
    settings = Jat(loss_weights=weights, vocab_size=300, model={"image_size": 32})
    tasks = ["mujoco-pendulum", "metaworld-reach", "babyai-go-to-obj"]
    parts = prepare(settings, 0, dataset, tasks, None)
    found = [batch_of(source, 0)["loss_weight"][0, 0].item() for source in parts.sources]
    assert found == [3, 5, 1]


def test_frames_make_stacks_across_windows_and_not_across_episodes(source, episodes):
    made = source("atari-pong")
    rows = episodes["atari-pong"]
    stacks = [stack(row.observations["frames"][:-1]) for row in rows]
    batch = batch_of(made, 3, 4, 5)
    assert batch["frames"].shape == (3, 4 + 3, 84, 84)
    assert batch["frames"].dtype == torch.uint8
    seen = stack_frames(batch["frames"])
    np.testing.assert_array_equal(seen[0], stacks[1][4:8])
    np.testing.assert_array_equal(seen[1, :3], stacks[1][8:])
    np.testing.assert_array_equal(seen[2, :1], stacks[2])
    actions = 1 + max(row.actions.max() for row in rows)
    assert batch["allowed_actions"].tolist() == [[True] * actions] * 3


def test_rows_of_several_tasks_keep_their_own_weight_size_and_actions(source):
    small, large = source("mujoco-pendulum"), source("metaworld-reach")
    batch = make_batch([(small, np.array([0])), (large, np.array([1, 2]))])
    alone = batch_of(small, 0), batch_of(large, 1, 2)
    assert batch["observation_sizes"].tolist() == [4, 39, 39]
    assert batch["action_sizes"].tolist() == [1, 4, 4]
    assert batch["loss_weight"][:, 0].tolist() == [20, 50, 50]
    seen = batch["continuous_observations"]
    assert torch.equal(seen[:1, :, :4], alone[0]["continuous_observations"])
    assert torch.equal(seen[1:], alone[1]["continuous_observations"])
    assert not seen[0, :, 4:].any()
    assert "observation_sizes" not in alone[1]


def test_a_mixed_batch_has_the_losses_of_its_rows(source):
    parts = [(source("mujoco-pendulum"), [0]), (source("metaworld-reach"), [1, 2])]
    parts = [(made, np.array(windows)) for made, windows in parts]
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    model = JatModel(JatConfig(vocab_size=300, max_continuous_size=64, **sizes)).train()
    mixed = model(**make_batch(parts), return_row_losses=True)
    alone = [model(**make_batch([part]), return_row_losses=True) for part in parts]
    torch.testing.assert_close(mixed.row_losses, torch.cat([one.row_losses for one in alone]))
    steps = [int(made.windows.lengths[windows].sum()) for made, windows in parts]
    expected = sum(n * one.action_loss for n, one in zip(steps, alone, strict=True)) / sum(steps)
    torch.testing.assert_close(mixed.action_loss, expected)


def test_a_grid_world_is_its_symbols_and_then_its_mission(source, processor, episodes):
    batch = batch_of(source("babyai-go-to-obj"), 0)
    row = episodes["babyai-go-to-obj"][0].observations
    seen = batch["discrete_observations"][0, 1].numpy()
    np.testing.assert_array_equal(seen[:148], row["discrete_observations"][1])
    mission = processor.tokenizer.decode(seen[148:], skip_special_tokens=True)
    assert mission == row["text_observations"][1]


def test_normalised_observations_have_no_scale_and_specs_survive_their_file(
    dataset, tmp_path, source
):
    data = load(dataset, "metaworld-reach", "train", tmp_path)
    spec = make_spec(data, 8, normalise=True)
    scaled = spec.observe(np.array(data.arrays["observations"]))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-3)
    assert np.abs(spec.observe(np.full((1, 39), 1e9, np.float32))).max() == 10
    actions = data.arrays["actions"]
    assert np.abs(spec.encode(actions)).max() > 1.2 * np.abs(actions).max()
    np.testing.assert_allclose(spec.decode(spec.encode(actions)), actions, atol=1e-6)
    save_specs(tmp_path, {"metaworld-reach": spec})
    assert load_specs(tmp_path) == {"metaworld-reach": spec}


def test_a_scale_leaves_room_for_the_few_steps_away_from_rest():
    rng = np.random.default_rng(0)
    rest, far = rng.normal(0, 1e-4, (990, 1)), rng.uniform(-0.01, 0.01, (10, 1))
    scale = Scale.of(np.concatenate([rest, far]))
    assert 2 < np.abs(scale.apply(far)).max() < 5
    gaussian = rng.normal(5, 2, (10_000, 1))
    assert Scale.of(gaussian).unit[0] == pytest.approx(gaussian.std())
    assert Scale.of(np.full((5, 1), 3.0)).apply(np.array([[3.0], [4.0]])).tolist() == [[0], [1]]


def test_texts_follow_one_another_without_padding(source, processor):
    made = source("notes", context=16)
    batch = batch_of(made, *range(len(made.lengths) - 1))
    assert batch["attention_mask"].all()
    text = processor.tokenizer.decode(batch["input_ids"].flatten(), skip_special_tokens=False)
    assert text.startswith("note 1: all work and no play. <|endoftext|>note 2:")


def test_a_token_knows_its_document(source, processor):
    made = source("notes", context=16)
    batch = batch_of(made, *range(len(made.lengths)))
    end = processor.tokenizer.eos_token_id
    for ids, documents, mask in zip(
        batch["input_ids"], batch["documents"], batch["attention_mask"], strict=True
    ):
        ended = (ids == end).long() * mask
        assert documents[mask == 1].tolist() == (1 + ended.cumsum(0) - ended)[mask == 1].tolist()
        assert not documents[mask == 0].any()


def test_a_picture_comes_with_its_own_text(source, processor):
    batch = batch_of(source("pictures", context=64), 3, 1)
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    texts = processor.tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert texts == ["noise 3", "noise 1"]
