"""JAT computes what the published model computes.

The numbers of ``published_cases.npz`` are the published architecture's own, as
``make_published.py`` cut them; ``oracle.py`` computes the same in numpy, also what they do not
show: screens, gradients.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from make_published import (
    CASES,
    EVERY,
    LOGITS,
    SCREENS,
    SHAPES,
    Case,
    distance,
    in_float64,
    read_cases,
)
from oracle import Oracle
from safetensors.torch import load_file

from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "jat_model_cases"
TIED = {"single_discrete_encoder.weight", "multi_discrete_encoder.0.weight"}
SHIPPED = (
    "continuous", "continuous_long", "continuous_weighted", "discrete", "image_text", "text",
)  # fmt: skip
Published = tuple[JatModel, dict[str, Case], dict[str, float]]


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(value.astype(np.int64) if value.dtype == np.int16 else value)
        for name, value in arrays.items()
    }


@pytest.fixture(scope="module")
def published() -> Published:
    """The model with the shipped weights, the cases, and the norms of their gradients."""
    with np.load(CASES) as file:
        arrays = {name: file[name] for name in file.files}
    config = json.loads(str(arrays.pop("config")))
    norms = {name: float(arrays.pop(name)) for name in list(arrays) if name.endswith("grad_norm")}
    weights = {
        name.removeprefix("weights/"): arrays.pop(name).astype(np.float32)
        for name in list(arrays)
        if name.startswith("weights/")
    }
    for name in weights:
        weights[name] *= arrays.pop(f"units/{name}")
    model = JatModel(JatConfig(**config, compatibility="published"))
    loaded = model.load_state_dict(tensors(weights), strict=False)
    assert not loaded.unexpected_keys
    assert all(key in TIED or key.startswith(SCREENS) for key in loaded.missing_keys)
    return model, read_cases(arrays), norms


@pytest.mark.parametrize("case", SHIPPED)
@pytest.mark.parametrize("training", [True, False])
def test_published_numbers(published: Published, case: str, training: bool):
    """To four digits: the weights are shipped with 15 bits."""
    model, cases, norms = published
    inputs, expected = cases[case]
    model.train(training).zero_grad()
    output = model(**tensors(inputs), return_loss=True)
    assert set(output.keys()) == set(expected)
    for name, value in expected.items():
        found = output[name].detach().numpy()
        if name in LOGITS and "continuous_actions" not in inputs:
            found = found[..., ::EVERY]
        error = distance(found, value)
        assert error < (2e-4 if found.ndim else 1e-5), f"{name}: {error}"
    output.loss.backward()
    gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    if norm := norms.get(f"{case}/grad_norm"):
        assert torch.stack(gradients).norm().item() == pytest.approx(norm, rel=1e-4)


def test_every_case_is_shipped(published: Published):
    _, cases, norms = published
    assert tuple(sorted(cases)) == SHIPPED
    assert set(norms) == {"continuous/grad_norm", "text/grad_norm"}


@pytest.mark.skipif(
    not REFERENCE.exists(), reason="../shared/reference with all of the published numbers is absent"
)
@pytest.mark.parametrize("case", [*SHIPPED, "image", "image_weighted"])
@pytest.mark.parametrize("training", [True, False])
def test_published_numbers_in_full(case: str, training: bool):
    expected = json.loads((REFERENCE / "expected.json").read_text())
    model = JatModel(JatConfig(**expected["config"], compatibility="published"))
    loaded = model.load_state_dict(load_file(REFERENCE / "model.safetensors"), strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) == TIED
    arrays = {k: v.numpy() for k, v in load_file(REFERENCE / "cases.safetensors").items()}
    inputs, outputs = read_cases(arrays)[case]
    output = model.train(training)(**tensors(inputs), return_loss=True)
    assert set(output.keys()) == set(outputs)
    for name, value in outputs.items():
        assert distance(output[name].detach().numpy(), value) < 1e-5, name
    output.loss.backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    if norm := expected["scalars"].get(f"{case}/grad_norm"):
        # The expected norms have five decimals.
        close = {"rel_tol": 1e-5, "abs_tol": 6e-6}
        assert math.isclose(torch.stack(norms).norm().item(), norm, **close)


def test_published_names_and_shapes():
    reference = json.loads(SHAPES.read_text(encoding="utf8"))
    with torch.device("meta"):
        model = JatModel(JatConfig(**reference["config"], compatibility="published"))
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == reference["shapes"]
    assert model.num_parameters() == reference["total_parameters"] == 192_701_771
    assert JatConfig.preset("small").to_dict() == JatConfig().to_dict()


# --- against the oracle


SIZES = {
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "hidden_size": 16,
    "num_layers": 3,
    "attention_types": [[["global", "local", "global"], 1]],
    "num_heads": 2,
    "intermediate_size": 24,
    "window_size": 5,
    "max_continuous_size": 13,
    "max_discrete_value": 6,
    "image_size": 16,
    "patch_size": 8,
    "initializer_range": 0.3,
}
KINDS = ("continuous", "discrete", "screens", "text", "captions")


@pytest.fixture(scope="module")
def model() -> JatModel:
    torch.manual_seed(0)
    model = JatModel(JatConfig(**SIZES, compatibility="published"))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def as_arrays(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in state.items()}


def make_inputs(kind: str, masked: bool, seed: int = 0) -> dict[str, np.ndarray]:
    """Two rows, of which the second is shorter where ``masked``; its steps have weights then."""
    rng = np.random.default_rng(seed)
    rows, steps = 2, 4 if kind == "screens" else 9
    fields: dict[str, np.ndarray] = {}
    if kind in ("text", "captions"):
        fields["input_ids"] = rng.integers(0, 50, (rows, steps))
    else:
        fields["rewards"] = rng.normal(size=(rows, steps)).astype(np.float32)
    if kind == "captions":
        fields["pixel_values"] = rng.normal(size=(rows, 3, 16, 16)).astype(np.float32)
    if kind == "continuous":
        fields["continuous_observations"] = rng.normal(size=(rows, steps, 4)).astype(np.float32)
        fields["continuous_actions"] = rng.normal(size=(rows, steps, 3)).astype(np.float32)
    if kind == "discrete":
        fields["discrete_observations"] = rng.integers(0, 50, (rows, steps, 6))
    if kind == "screens":
        shape = (rows, steps, 4, 84, 84)
        fields["image_observations"] = rng.uniform(-1, 1, shape).astype(np.float32)
    if kind in ("discrete", "screens"):
        fields["discrete_actions"] = rng.integers(0, 50, (rows, steps))
    if masked:
        fields["attention_mask"] = np.arange(steps) < np.array([[steps], [steps - 2]])
        if "rewards" in fields:
            fields["loss_weight"] = rng.uniform(0.5, 5, (rows, steps)).astype(np.float32)
    return fields


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_computes_what_the_oracle_computes(model: JatModel, kind: str, masked: bool):
    inputs = make_inputs(kind, masked)
    with torch.no_grad():
        output = model.eval()(**tensors(inputs))
    expected = Oracle(as_arrays(model.state_dict()), SIZES)(in_float64(inputs))
    assert set(output.keys()) == set(expected)
    for name, value in expected.items():
        error = distance(output[name].numpy(), value)
        assert error < 1e-5, f"{name}: {error}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_slope_of_the_oracles_loss(model: JatModel, kind: str):
    inputs = make_inputs(kind, masked=True)
    model.train().zero_grad()
    model(**tensors(inputs)).loss.backward()
    generator = torch.Generator().manual_seed(1)
    ways = {
        name: torch.randn(parameter.shape, generator=generator).double()
        for name, parameter in model.named_parameters()
    }
    slope = sum(
        float((parameter.grad.double() * ways[name]).sum())
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    )
    weights, step = as_arrays(model.state_dict()), 1e-6
    losses = [
        Oracle(
            {name: w + sign * step * ways[name].numpy() if name in ways else w
             for name, w in weights.items()},
            SIZES,
        )(in_float64(inputs))["loss"]
        for sign in (-1, 1)
    ]  # fmt: skip
    assert slope == pytest.approx(float(losses[1] - losses[0]) / (2 * step), rel=2e-3)
