"""Losses of a batch and of each of its rows, averaged over valid places."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Loss:
    """The loss of a batch, and of each row as if it were alone."""

    mean: Tensor
    """Scalar."""
    rows: Tensor
    """(B,), without gradient."""

    def __mul__(self, factor: float) -> "Loss":
        return Loss(self.mean * factor, self.rows * factor)

    def __add__(self, other: "Loss") -> "Loss":
        return Loss(self.mean + other.mean, self.rows + other.rows)


class StepMean:
    """Losses of places (B, T): weighted sums over valid places, divided by their number."""

    def __init__(self, mask: Tensor, weight: Tensor | None):
        self.mask = mask.float()
        self.weight = self.mask if weight is None else self.mask * weight

    def squared_error(self, predicted: Tensor, target: Tensor) -> Loss:
        """Mean over the trailing axes of (B, K, ...), then over the last K places."""
        error = (predicted.float() - target.float()).square().flatten(2).mean(dim=2)
        skip = self.mask.shape[1] - error.shape[1]
        return average(error * self.weight[:, skip:], self.mask[:, skip:])

    def cross_entropy(self, logits: Tensor, target: Tensor, weigh_steps: bool = True) -> Loss:
        """The cross-entropy of logits (B, T, V) and ids (B, T).

        With `weigh_steps` off, the unweighted mean times the mean weight.
        """
        error = F.cross_entropy(
            logits.flatten(0, 1).float(), target.flatten().long(), reduction="none"
        ).view(target.shape)
        if weigh_steps:
            return average(error * self.weight, self.mask)
        plain, weight = average(error * self.mask, self.mask), average(self.weight, self.mask)
        return Loss(plain.mean * weight.mean, plain.rows * weight.rows)


def average(error: Tensor, mask: Tensor) -> Loss:
    """The sum of errors (B, T) by the number of valid places, of the batch and of each row."""
    rows = error.detach().sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return Loss(error.sum() / mask.sum().clamp(min=1), rows)
