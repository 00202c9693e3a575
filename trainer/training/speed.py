"""How much training computes a second, and how much of the device's ability that is."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import distributed

from trainer.model.configuration_jat import JatConfig
from trainer.model.linear_jat import linear

MATRIX = {"cpu": 512, "cuda": 8192}
"""Side of the matrices whose product gives a device's peak: on a CPU, a product should be over
before another process takes the core."""
PRODUCTS = 30


def sequence_lengths(config: JatConfig, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Valid tokens of each row of a batch, (B,): two a timestep; image patches count too."""
    lengths = inputs["attention_mask"].sum(dim=1)
    if "input_ids" not in inputs:
        return 2 * lengths
    if "pixel_values" in inputs:
        return lengths + (config.image_size // config.patch_size) ** 2
    return lengths


def training_operations(config: JatConfig, lengths: torch.Tensor) -> torch.Tensor:
    """Floating-point operations of forward and backward on sequences of these lengths, float64.

    6 a weight and token, and 12 · layers · width · length a token for attention, whose causal mask
    is not taken off (Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B). The weights are
    those of the transformer's blocks: encoders and heads are left out.
    """
    width, inner = config.hidden_size, config.intermediate_size
    assert inner is not None
    weights = config.num_layers * (4 * width**2 + 2 * width * inner)
    lengths = lengths.double()
    tokens, pairs = lengths.sum(), lengths.square().sum()
    return 6 * weights * tokens + 12 * config.num_layers * width * pairs


def measured_peak(
    device: torch.device, dtype: torch.dtype, now: Callable[[], float] | None = None
) -> float:
    """Operations a second, by the clock ``now``, of a large matrix product: the best of many."""
    now = now or (lambda: clock(device))
    size = MATRIX.get(device.type, 512)
    a, b = (torch.full((size, size), 0.5, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(PRODUCTS):
        start = now()
        linear(a, b)
        best = min(best, now() - start)
    return 2 * size**3 / best


def clock(device: torch.device) -> float:
    """Seconds, when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Speedometer:
    """Tokens a second of all processes, and model FLOPs utilisation (MFU), since the last time."""

    def __init__(self, config: JatConfig, device: torch.device, dtype: torch.dtype) -> None:
        self._config, self._device = config, device
        self._peak = measured_peak(device, dtype)
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._start = clock(device)

    def add(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Count a micro-batch; no device waits for it."""
        lengths = sequence_lengths(self._config, inputs)
        self._sums += torch.stack(
            [lengths.sum().double(), training_operations(self._config, lengths)]
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in the block takes no time."""
        stopped = clock(self._device)
        yield
        self._start += clock(self._device) - stopped

    def take(self) -> dict[str, float]:
        """``tokens_per_second`` and ``mfu``."""
        processes = 1
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._sums)
            processes = distributed.get_world_size()
        now = clock(self._device)
        tokens, operations = (self._sums / (now - self._start)).tolist()
        self._sums.zero_()
        self._start = now
        return {
            "tokens_per_second": round(tokens, 1),
            "mfu": round(operations / (self._peak * processes), 4),
        }
