"""Linear layers that use the whole width of a CPU's vector units.

On processors with AVX-512 that are not Intel's, PyTorch multiplies float32 matrices with MKL, which
then keeps to AVX2. oneDNN, which PyTorch brings along too, takes half the time there and as long
as MKL elsewhere (`python -m benchmarks.train_jat`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def fits_onednn(x: Tensor) -> bool:
    """Whether oneDNN multiplies `x`: float32 on a CPU with AVX-512, not autocast nor compiled."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., I) by (O, I) → (..., O), by oneDNN and without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class OneDnnLinear(torch.autograd.Function):
    """`F.linear`, its three products by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(..., I) by (O, I) → (..., O)."""
        x = x.contiguous()  # oneDNN takes a hundred times as long for rows that lie apart
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of the arguments that need one."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        rows = grad.view(-1, grad.shape[-1])
        return (
            multiply(grad, weight.t()) if of_x else None,
            multiply(rows.t(), x.reshape(-1, x.shape[-1]).t()) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`."""
    if fits_onednn(x):
        return OneDnnLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`nn.Linear`, faster."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) → (..., out_features)."""
        return linear(input, self.weight, self.bias)
