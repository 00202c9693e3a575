"""The mean loss of each task over some steps, without waiting for the device at each."""

import numpy as np
import torch
from torch import distributed


class TaskLosses:
    """Sums of losses and tokens of N tasks, on the device of what is added."""

    def __init__(self, tasks: int) -> None:
        self._sums = torch.zeros(2, tasks, dtype=torch.float64)

    def add(self, tasks: torch.Tensor, losses: torch.Tensor, mask: torch.Tensor) -> None:
        """Rows of a micro-batch: their tasks and losses (B,), and valid places (B, L)."""
        if self._sums.device != losses.device:
            self._sums = self._sums.to(losses.device)
        tokens = mask.sum(dim=1).double()
        self._sums.index_add_(1, tasks, torch.stack([losses.double() * tokens, tokens]))

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses and tokens of all processes since the last time, float64 (N,) each.

        The loss of a task without tokens is NaN.
        """
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self._sums)
        losses, tokens = self._sums.cpu().numpy().copy()
        self._sums.zero_()
        means = np.divide(losses, tokens, out=np.full(len(losses), np.nan), where=tokens > 0)
        return means, tokens
