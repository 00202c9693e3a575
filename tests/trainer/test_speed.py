"""Tokens and operations of training, and the speed that is logged."""

import pytest
import torch
from runs import NETWORK

from trainer.model.configuration_jat import JatConfig
from trainer.model.modeling_jat import JatModel
from trainer.training import speed
from trainer.training.speed import Speedometer, measured_peak, sequence_lengths, training_operations

CONFIG = JatConfig(**NETWORK, vocab_size=300)


def test_operations_are_those_of_the_blocks_and_of_attention():
    model = JatModel(CONFIG)
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    weights = sum(p.numel() for p in matrices)
    expected = 6 * weights * (10 + 4) + 12 * CONFIG.num_layers * CONFIG.hidden_size * (100 + 16)
    assert float(training_operations(CONFIG, torch.tensor([10, 4]))) == expected


@pytest.mark.parametrize(
    ("fields", "lengths"),
    [((), [4, 2]), (("input_ids",), [2, 1]), (("input_ids", "pixel_values"), [6, 5])],
)
def test_a_timestep_is_two_tokens_and_a_picture_its_patches(fields, lengths):
    inputs = {name: torch.zeros(2, 2) for name in fields}
    inputs["attention_mask"] = torch.tensor([[1, 1], [1, 0]])
    assert sequence_lengths(CONFIG, inputs).tolist() == lengths


def test_the_peak_goes_by_the_clock_it_is_given():
    ticks = iter(range(1000))
    peak = measured_peak(torch.device("cpu"), torch.float32, lambda: float(next(ticks)))
    assert peak == 2 * 512**3


def test_what_is_paused_takes_no_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speed, "clock", lambda device: now[0])
    monkeypatch.setattr(speed, "measured_peak", lambda device, dtype: 1e6)
    meter = Speedometer(CONFIG, torch.device("cpu"), torch.float32)
    inputs = {"attention_mask": torch.ones(3, 5)}
    meter.add(inputs)
    with meter.paused():
        now[0] += 100
    now[0] += 2
    operations = float(training_operations(CONFIG, torch.tensor([10, 10, 10])))
    expected = {"tokens_per_second": 15.0, "mfu": pytest.approx(operations / 2e6, rel=1e-3)}
    assert meter.take() == expected
    now[0] += 1
    assert meter.take()["tokens_per_second"] == 0
