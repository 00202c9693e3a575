"""JatModel: what we changed of the published model, acting, saving."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel, JatOutput


def tiny(seed: int = 0, **overrides) -> JatModel:
    sizes = {
        "vocab_size": 64,
        "max_position_embeddings": 40,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 2,
        "window_size": 8,
        "max_continuous_size": 12,
        "max_discrete_value": 10,
        "image_size": 16,
        "patch_size": 8,
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    return JatModel(JatConfig(**{**sizes, **overrides})).eval()


def control(kind: str, rows: int, steps: int, seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    fields = {"rewards": rng.normal(size=(rows, steps)).astype(np.float32)}
    if kind == "continuous":
        fields["continuous_observations"] = rng.normal(size=(rows, steps, 5)).astype(np.float32)
        fields["continuous_actions"] = rng.normal(size=(rows, steps, 3)).astype(np.float32)
    else:
        fields["discrete_actions"] = rng.integers(0, 6, (rows, steps))
    if kind == "discrete":
        fields["discrete_observations"] = rng.integers(0, 64, (rows, steps, 10))
    if kind == "image":
        shape = (rows, steps, 4, 84, 84)
        fields["image_observations"] = rng.integers(0, 256, shape, dtype=np.uint8)
    return {name: torch.from_numpy(value) for name, value in fields.items()}


# --- what we changed


@pytest.mark.parametrize("kind", ["continuous", "discrete", "image"])
def test_padding_changes_no_loss(kind: str):
    model = tiny().train()
    batch = control(kind, 2, 7)
    batch = {name: value[:, :5] for name, value in batch.items()}
    longer = {name: torch.cat([v, torch.zeros_like(v[:, :2])], 1) for name, v in batch.items()}
    mask = torch.tensor([[1] * 5 + [0] * 2] * 2)
    padded = model(**longer, attention_mask=mask)
    assert torch.isclose(model(**batch).loss, padded.loss, rtol=1e-5)


@pytest.mark.parametrize("kind", ["continuous", "discrete", "image"])
def test_training_and_evaluation_agree(kind: str):
    model = tiny()
    batch = control(kind, 3, 6) | {"attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2] * 2)}
    batch["attention_mask"] = batch["attention_mask"][:3]
    evaluated = model(**batch)
    trained = model.train()(**batch)
    assert trained.pred_actions is None
    assert torch.isclose(evaluated.loss, trained.loss, rtol=1e-5)


@pytest.mark.parametrize("train_first", [True, False])
def test_first_caption_token_is_trained(train_first: bool):
    model = tiny(train_first_caption_token=train_first)
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    pixels = torch.randn(2, 3, 16, 16)
    output = model(input_ids=ids, pixel_values=pixels)
    log_probs = output.logits.log_softmax(-1)[:, 3:-1]
    losses = -log_probs.gather(2, ids[:, :, None])[:, :, 0]
    expected = losses if train_first else losses[:, 1:]
    assert torch.isclose(output.loss, expected.mean(), rtol=1e-5)


def test_image_rewards_are_used_and_start_at_zero():
    batch = control("image", 1, 3)
    model = tiny()
    other = batch | {"rewards": batch["rewards"] + 5}
    assert torch.equal(model(**batch).loss, model(**other).loss)
    model.image_reward_encoder.weight.data.normal_()
    assert not torch.equal(model(**batch).loss, model(**other).loss)
    old = tiny(compatibility="published")
    assert not hasattr(old, "image_reward_encoder")


def test_discrete_actions_are_weighed_by_step():
    batch = control("discrete", 1, 2) | {"loss_weight": torch.tensor([[1.0, 0.0]])}
    model = tiny()
    first = {n: v[:, :1] for n, v in batch.items() if n != "loss_weight"}
    expected = model(**first).loss / 2
    assert torch.isclose(model(**batch).loss, expected, rtol=1e-5)


def test_logits_are_restricted_to_the_actions_of_the_task():
    batch = control("discrete", 2, 4)
    model = tiny()
    whole = model(**batch).pred_actions
    six = model(**batch, num_actions=6)
    torch.testing.assert_close(six.pred_actions, whole[..., :6])
    labels = batch["discrete_actions"].flatten()
    expected = torch.nn.functional.cross_entropy(whole[..., :6].flatten(0, 1), labels)
    assert torch.isclose(six.action_loss, expected, rtol=1e-5)
    each = model(**batch, num_actions=torch.tensor([6, 9]))
    assert each.pred_actions.shape[-1] == 9
    assert each.pred_actions[0, :, 6:].isinf().all()
    assert each.pred_actions[1].isfinite().all()
    assert tiny(restrict_actions=False)(**batch, num_actions=6).pred_actions.shape[-1] == 64


@pytest.mark.parametrize("training", [True, False])
def test_packed_documents_are_read_alone(training: bool):
    """Documents longer and shorter than the local window, and padding."""
    model = tiny(window_size=5).train(training)
    lengths = [[9, 1, 13], [4, 7]]
    rng = np.random.default_rng(0)
    texts = [[torch.from_numpy(rng.integers(0, 64, n)) for n in row] for row in lengths]
    ids, documents, mask = (torch.zeros(2, 23, dtype=torch.int64) for _ in range(3))
    for row, pieces in enumerate(texts):
        size = sum(len(piece) for piece in pieces)
        ids[row, :size], mask[row, :size] = torch.cat(pieces), 1
        numbers = [torch.full_like(piece, k) for k, piece in enumerate(pieces, 1)]
        documents[row, :size] = torch.cat(numbers)
    inputs = {"input_ids": ids, "attention_mask": mask, "documents": documents}
    packed = model(**inputs, return_predictions=True, return_row_losses=True)
    total, count, rows = 0.0, 0, []
    for row, pieces in enumerate(texts):
        start, before = 0, (total, count)
        for piece in pieces:
            alone = model(input_ids=piece[None], return_predictions=True)
            end = start + len(piece)
            torch.testing.assert_close(
                packed.logits[row, start:end], alone.logits[0], rtol=1e-5, atol=1e-5
            )
            total, count = total + alone.loss * (len(piece) - 1), count + len(piece) - 1
            start = end
        rows.append((total - before[0]) / (count - before[1]))
    torch.testing.assert_close(packed.loss, total / count)
    torch.testing.assert_close(packed.row_losses, torch.stack(rows).detach())
    with pytest.raises(ValueError, match="without pixel_values"):
        model(**inputs, pixel_values=torch.zeros(2, 3, 16, 16))


def test_single_frames_are_the_stacks_they_make():
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 8, 84, 84), np.uint8))
    stacks = torch.stack([frames[:, t : t + 4] for t in range(5)], dim=1)
    batch = {"discrete_actions": torch.zeros(2, 5, dtype=torch.int64), "rewards": torch.ones(2, 5)}
    model = tiny()
    once, published = model(frames=frames, **batch), model(image_observations=stacks, **batch)
    for name, value in published.items():
        assert torch.equal(once[name], value)


def test_rows_of_other_sizes_are_tiled_as_they_are_alone():
    model = tiny()
    batch = control("continuous", 2, 4)
    wide = {name: torch.nn.functional.pad(v, (0, 2)) for name, v in batch.items() if v.ndim == 3}
    mixed = model(
        **wide,
        rewards=batch["rewards"],
        observation_sizes=torch.tensor([5, 5]),
        action_sizes=torch.tensor([3, 3]),
    )
    alone = model(**batch)
    for name in ("loss", "action_loss", "observation_loss"):
        torch.testing.assert_close(mixed[name], alone[name])
    torch.testing.assert_close(mixed.pred_actions[..., :3], alone.pred_actions)


def test_allowed_actions_are_a_number_of_actions_for_each_row():
    batch = control("discrete", 2, 4)
    model = tiny()
    allowed = torch.arange(9) < torch.tensor([6, 9])[:, None]
    masked = model(**batch, allowed_actions=allowed)
    counted = model(**batch, num_actions=torch.tensor([6, 9]))
    torch.testing.assert_close(masked.pred_actions, counted.pred_actions)
    assert torch.equal(masked.loss, counted.loss)


def test_the_losses_of_rows_are_those_of_the_rows_alone():
    model = tiny()
    for kind in ("continuous", "discrete", "image"):
        batch = control(kind, 3, 4) | {"loss_weight": torch.tensor([[1.0], [3.0], [5.0]])}
        batch["loss_weight"] = batch["loss_weight"].expand(3, 4)
        rows = model(**batch, return_row_losses=True).row_losses
        for row in range(3):
            one = {name: value[row : row + 1] for name, value in batch.items()}
            torch.testing.assert_close(rows[row], model(**one).loss.detach())


def test_a_switch_wins_over_compatibility():
    assert JatConfig(compatibility="published", refill_window=True).enabled("refill_window")
    assert not JatConfig(compatibility="published").enabled("refill_window")
    assert not JatConfig(use_image_rewards=False).enabled("use_image_rewards")


# --- bad input


def test_contradictory_inputs_are_named():
    model = tiny()
    batch = control("continuous", 1, 3)
    with pytest.raises(ValueError, match="exactly one of continuous_observations"):
        model(continuous_actions=batch["continuous_actions"])
    with pytest.raises(ValueError, match="exactly one of continuous_actions"):
        model(**batch, discrete_actions=torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="max_position_embeddings=40"):
        model(**control("continuous", 1, 21))
    with pytest.raises(ValueError, match="max_continuous_size=12"):
        model(**batch | {"continuous_observations": torch.zeros(1, 3, 12)})
    with pytest.raises(ValueError, match="preset 'tiny' is unknown"):
        JatConfig.preset("tiny")
    with pytest.raises(ValueError, match="between 1 and 20"):
        model.init_state(1, 21)


# --- acting


def play(
    model: JatModel, batch: dict[str, torch.Tensor], starts: np.ndarray, window: int
) -> np.ndarray:
    """Actions (rows, steps, ...) of a batch acted step by step, its recorded actions executed."""
    names = [name for name in batch if name.endswith("observations")]
    action_name = next(name for name in batch if name.endswith("actions"))
    actions = batch[action_name].numpy()
    size = {"action_size": 3} if action_name == "continuous_actions" else {"num_actions": 6}
    state = model.init_state(len(starts), window)
    chosen = []
    for step in range(starts.shape[1]):
        observations = {name: batch[name][:, step].numpy() for name in names}
        chosen.append(
            model.get_next_action(
                state,
                **observations,
                **size,
                rewards=batch["rewards"][:, step].numpy(),
                reset=starts[:, step],
                previous_actions=actions[:, step - 1] if step else None,
            )
        )
    return np.stack(chosen, axis=1)


def expected_action(
    model: JatModel, batch: dict[str, torch.Tensor], row: int, first: int, step: int, opens: bool
) -> np.ndarray:
    """The action at `step` from one pass over the steps since `first`."""
    window = {name: value[row : row + 1, first : step + 1].clone() for name, value in batch.items()}
    if opens:
        window["rewards"][:, 0] = 0
    predicted = model(**window, num_actions=6).pred_actions[0, -1].detach().numpy()
    return predicted if "continuous_actions" in batch else predicted.argmax()


@pytest.mark.parametrize("kind", ["continuous", "discrete", "image"])
@pytest.mark.parametrize("window", [20, 6, 5, 1])
def test_acting_equals_one_pass_over_the_window(kind: str, window: int):
    """Episodes open at different times; windows fill up and are prefilled with their half."""
    rows, steps = (2, 8) if kind == "image" else (4, 20)
    model = tiny()
    if kind == "image":
        model.image_reward_encoder.weight.data.normal_()
    batch = control(kind, rows, steps)
    starts = np.random.default_rng(1).random((rows, steps)) < 0.1
    starts[:, 0] = True
    acted = play(model, batch, starts, window)
    for row in range(rows):
        start = first = 0
        for step in range(steps):
            if starts[row, step]:
                start = first = step
            elif step - first == window:
                first = step - window // 2
            expected = expected_action(model, batch, row, first, step, first == start)
            np.testing.assert_allclose(acted[row, step], expected, rtol=1e-4, atol=1e-5)


def test_own_actions_are_remembered():
    model = tiny()
    batch = control("continuous", 3, 9)
    state = model.init_state(3, 6)
    executed: list[np.ndarray] = []
    other = model.init_state(3, 6)
    for step in range(9):
        inputs = {
            "continuous_observations": batch["continuous_observations"][:, step],
            "rewards": batch["rewards"][:, step],
            "action_size": 3,
        }
        executed.append(model.get_next_action(state, **inputs))
        previous = executed[-2] if step else None
        told = model.get_next_action(other, **inputs, previous_actions=previous)
        np.testing.assert_allclose(told, executed[-1], rtol=1e-5, atol=1e-6)


def test_published_acting_freezes_positions():
    batch = control("continuous", 1, 12)
    starts = np.zeros((1, 12), bool)
    starts[:, 0] = True
    model = tiny(refill_window=False, window_size=40)
    short, long = play(model, batch, starts, 4), play(model, batch, starts, 20)
    np.testing.assert_allclose(short[:, :4], long[:, :4], rtol=1e-4, atol=1e-5)
    assert not np.allclose(short[:, 4:], long[:, 4:], rtol=1e-3)
    state = model.init_state(1, 4)
    for step in range(12):
        observation = batch["continuous_observations"][:, step]
        model.get_next_action(state, continuous_observations=observation, action_size=3)
    assert state.timesteps.tolist() == [4]


def test_a_slide_forgets_the_oldest_timestep_of_some_rows():
    cache = tiny().init_state(3, 4).cache
    cache.data.normal_()
    before = cache.data.clone()
    cache.slide(torch.tensor([0, 2]), by=2)
    for row in (0, 2):
        assert torch.equal(cache.data[:, :, row, 1:-2], before[:, :, row, 3:])
    assert torch.equal(cache.data[:, :, 1], before[:, :, 1])


def test_discrete_actions_stay_within_each_task():
    model = tiny()
    state = model.init_state(2)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(30):
        seen.append(
            model.get_next_action(
                state,
                discrete_observations=np.zeros((2, 10), np.uint8),
                num_actions=np.array([2, 5]),
                do_sample=True,
                generator=generator,
            )
        )
    actions = np.stack(seen)
    assert actions.dtype == np.int64
    assert set(actions[:, 0]) <= {0, 1}
    assert set(actions[:, 1]) <= set(range(5))
    assert len(set(actions[:, 1])) > 2


def test_generation_equals_repeated_passes():
    model = tiny()
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    pixels = torch.randn(2, 3, 16, 16)
    new = model.generate(ids, mask, pixels, max_new_tokens=5)
    for row, length in enumerate((4, 2)):
        text = ids[row : row + 1, :length]
        for token in new[row]:
            logits = model(input_ids=text, pixel_values=pixels[row : row + 1]).logits
            assert logits[0, -1].argmax() == token
            text = torch.cat([text, token.view(1, 1)], 1)
    caption = model.generate(pixel_values=pixels, max_new_tokens=3)
    ended = model.generate(pixel_values=pixels, max_new_tokens=9, eos_token_id=int(caption[0, 0]))
    assert (ended[0] == caption[0, 0]).all()


# --- training, dtypes, saving


@pytest.mark.parametrize("kind", ["continuous", "discrete", "image"])
def test_bfloat16_trains(kind: str):
    model = tiny().train()
    batch = control(kind, 2, 5)
    exact = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isclose(loss, exact, rtol=0.05)
    half = tiny().bfloat16()
    assert torch.isclose(half(**batch).loss, exact, rtol=0.05)
    state = half.init_state(2)
    observation = {n: v[:, 0] for n, v in batch.items() if n.endswith("observations")}
    size = {"action_size": 3} if kind == "continuous" else {"num_actions": 6}
    assert np.isfinite(half.get_next_action(state, **observation, **size)).all()


def test_an_action_can_be_learned():
    model = tiny(initializer_range=0.02, discrete_bottleneck_size=8).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(80):
        observations = torch.from_numpy(rng.integers(0, 4, (16, 6, 10)))
        actions = observations[:, :, 3]
        loss = model(
            discrete_observations=observations, discrete_actions=actions, num_actions=4
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * math.log(4)


def test_discrete_features_start_with_unit_variance():
    ids = torch.randint(0, 64, (50, 10))
    for amplify, low, high in ((True, 0.5, 2.0), (False, 0.0, 0.2)):
        model = tiny(initializer_range=0.02, amplify_discrete=amplify, discrete_bottleneck_size=8)
        features = model.multi_discrete_encoder[:2](ids)
        assert low < features.std() < high


def test_many_numbers_take_the_cheap_path_to_the_same_embedding():
    model = tiny()
    ids = torch.randint(0, 64, (20, 10))
    expected = model.multi_discrete_encoder(ids)
    torch.testing.assert_close(model.embed_numbers(ids), expected)
    torch.testing.assert_close(model.embed_numbers(ids[:1]), expected[:1])


def test_saved_model_loads_without_this_package(tmp_path: Path):
    model = tiny()
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    batch = control("continuous", 1, 3)
    expected = model(**batch).loss.item()
    again = JatModel.from_pretrained(folder)
    assert again(**batch).loss.item() == expected
    assert again.transformer.wte.weight is again.single_discrete_encoder.weight
    program = f"""
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.from_pretrained({str(folder)!r}, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained({str(folder)!r}, trust_remote_code=True)
x = torch.zeros(1, 3, 5), torch.zeros(1, 3, 3)
loss = model(continuous_observations=x[0], continuous_actions=x[1]).loss
assert not any(name.split(".")[0] in ("trainer", "pipeline") for name in sys.modules)
print(type(config).__name__, loss.item())
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
    zeros = {
        "continuous_observations": torch.zeros(1, 3, 5),
        "continuous_actions": torch.zeros(1, 3, 3),
    }
    name, loss = done.stdout.split()
    assert name == "JatConfig"
    assert float(loss) == pytest.approx(model(**zeros).loss.item(), rel=1e-6)


def test_published_weights_load_into_the_default_model(tmp_path: Path):
    old = tiny(compatibility="published")
    old.save_pretrained(tmp_path)
    new = JatModel.from_pretrained(tmp_path, compatibility=None)
    batch = control("image", 1, 3)
    assert new.config.enabled("use_image_rewards")
    assert torch.equal(new.image_reward_encoder.weight, torch.zeros(32, 1))
    torch.testing.assert_close(new(**batch).pred_actions, old(**batch).pred_actions)


@pytest.mark.parametrize("name", ["laptop", "small", "medium", "large"])
def test_presets_build(name: str):
    with torch.device("meta"):
        model = JatModel(JatConfig.preset(name, vocab_size=1000))
    assert model.num_parameters() > 1e6


def test_output_leaves_out_what_was_not_asked():
    batch = control("continuous", 1, 3)
    model = tiny()
    only = model(**batch, return_loss=False)
    assert isinstance(only, JatOutput)
    assert set(only.keys()) == {"pred_actions", "pred_observations"}
    assert set(model(**batch, return_predictions=False).keys()) == {
        "loss",
        "action_loss",
        "observation_loss",
    }


def test_bytes_are_scaled_to_one():
    """Screens as bytes, or as numbers from -1 to 1: black and white are its ends."""
    model, batch = tiny(), control("image", 1, 3)
    scaled = batch["image_observations"].float() / 255 * 2 - 1
    assert (scaled.min(), scaled.max()) == (-1, 1)
    floats = model(**{**batch, "image_observations": scaled})
    for name, value in model(**batch).items():
        torch.testing.assert_close(value, floats[name])


def test_a_low_temperature_draws_the_likeliest():
    model, ids = tiny(), torch.tensor([[3, 4, 5]]).expand(20, 3)
    likeliest = model.generate(ids, max_new_tokens=6)

    def share(temperature: float) -> float:
        generator = torch.Generator().manual_seed(0)
        options = {"do_sample": True, "temperature": temperature, "generator": generator}
        drawn = model.generate(ids, max_new_tokens=6, **options)
        return float((drawn == likeliest).float().mean())

    assert share(1e-3) == 1
    assert share(1e3) < 0.1
