"""The optimizer does what the parameters say: its rate, its batches, its clipping, its guard."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import make_params, train, weights

from pipeline.errors import UserError
from pipeline.settings import Jat
from trainer.training.loop import GradientGuard, JatTrainer
from trainer.training.options import make_options, save_steps

TASKS = ["mujoco-pendulum"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    compute_loss = JatTrainer.compute_loss

    def counted(self, *arguments, **keywords):
        seen.append(self.state.global_step)
        return compute_loss(self, *arguments, **keywords)

    monkeypatch.setattr(JatTrainer, "compute_loss", counted)
    output = train(
        dataset, tasks=TASKS, steps=10, warmup=0.2, learning_rate=2e-3, log_every=1, accumulation=3
    )
    rows = list(csv.DictReader((output / "curve.csv").open()))
    rates = [float(row["learning_rate"]) for row in rows]
    # 2 steps up and 8 down; a row has the rate of its own step.
    expected = [0.0, 1e-3, *(2e-3 * (1 - k / 8) for k in range(8))]
    np.testing.assert_allclose(rates, expected, atol=1e-9)
    assert seen == [step for step in range(10) for _ in range(3)], "three micro-batches a step"


def test_gradients_are_clipped_to_their_norm(dataset: Path):
    """So short a gradient is nothing beside Adam's epsilon: the weights stay where they were."""
    start = {"tasks": TASKS, "steps": 1, "warmup": 0, "learning_rate": 1e-3}
    free = weights(train(dataset, "free/jat", **start))
    held = weights(train(dataset, "held/jat", **start, max_grad_norm=1e-13))
    still = weights(train(dataset, "still/jat", **{**start, "learning_rate": 1e-12}))
    moved = max(float((free[name] - still[name]).abs().max()) for name in free)
    crept = max(float((held[name] - still[name]).abs().max()) for name in free)
    assert moved > 5e-4
    assert crept < 1e-6


def test_options_are_those_of_the_parameters(tmp_path: Path):
    made = make_options(make_params(weight_decay=0.1, steps=77, precision="bfloat16"), tmp_path)
    assert (made.weight_decay, made.max_steps, made.bf16) == (0.1, 77, True)
    assert (made.adam_beta1, made.adam_beta2, made.adam_epsilon) == (0.9, 0.999, 1e-8)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"log_every": 20, "save_every": 500}, 500),
        ({"log_every": 20, "save_every": 50}, 60),
        ({"log_every": 20, "save_every": 1}, 20),
        ({"log_every": 20, "save_every": 50, "sampling": "adaptive", "adapt_every": 30}, 60),
        ({"log_every": 20, "save_every": 61, "sampling": "adaptive", "adapt_every": 30}, 120),
    ],
)
def test_checkpoints_are_made_where_nothing_is_half_summed(settings: dict, expected: int):
    assert save_steps(Jat(**settings)) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_stops_the_step(value: float):
    model = torch.nn.Linear(2, 2)
    state = SimpleNamespace(global_step=5)
    guard = GradientGuard()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    guard.on_pre_optimizer_step(None, state, None, model=model)  # type: ignore[arg-type]
    assert model.bias.grad is not None
    model.bias.grad[1] = value
    with pytest.raises(UserError, match="diverged on 'gradient' at step 5"):
        guard.on_pre_optimizer_step(None, state, None, model=model)  # type: ignore[arg-type]
