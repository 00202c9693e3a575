"""The linear layer by oneDNN: values and gradients of PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from trainer.model import linear_jat
from trainer.model.linear_jat import Linear, OneDnnLinear, linear

onednn = pytest.mark.skipif(
    not linear_jat.fits_onednn(torch.zeros(1)), reason="this processor has no AVX-512"
)


def draw(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + shape[-1])
    return torch.randn(*shape, generator=generator)


@onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "x", [draw(3, 5, 8), draw(1, 8), draw(8), draw(4, 2, 3, 8)[:, :, 1], draw(8, 6).t()]
)
def test_values_and_gradients_are_those_of_the_usual_layer(x, bias):
    weight, offset = draw(7, 8), draw(7) if bias else None
    results = []
    for function in (OneDnnLinear.apply, F.linear):
        inputs = [None if t is None else t.clone().requires_grad_() for t in (x, weight, offset)]
        y = function(*inputs)
        # An expanded gradient too: that of a sum has no memory of its own.
        (y.square().sum() + y.sum()).backward()
        results.append([y, *(t.grad for t in inputs if t is not None)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@onednn
def test_an_expanded_gradient():
    x, weight = draw(3, 8), draw(7, 8).requires_grad_()
    OneDnnLinear.apply(x, weight, None).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(7, 8))


@onednn
def test_frozen_weights_get_no_gradient():
    weight, x = draw(7, 8), draw(2, 8).requires_grad_()
    linear(x, weight).sum().backward()
    assert weight.grad is None
    torch.testing.assert_close(x.grad, weight.sum(0).expand(2, 8))


@pytest.mark.parametrize("x", [draw(2, 8).double(), draw(0, 8)])
def test_what_onednn_does_not_take_goes_the_usual_way(x):
    weight = draw(7, 8).to(x.dtype)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight))


def test_autocast_computes_in_bfloat16():
    with torch.autocast("cpu", torch.bfloat16):
        assert Linear(8, 7)(draw(2, 8)).dtype == torch.bfloat16
