"""bfloat16 products on CPUs that have no instructions for them: float32 products of rounded numbers.

That is what such instructions compute: operands of 8 bits, sums in float32, the result rounded. Without them PyTorch
multiplies number by number: measured on one core of an AMD EPYC with AVX2, 9 GFLOP/s forward and 2 to 16 backward,
where float32 products make 85.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@functools.cache
def lacks_bfloat16() -> bool:
    """Whether this CPU has no bfloat16 products that are faster than number by number."""
    is_supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return is_supported is not None and not is_supported()


def is_rounded(*operands: Tensor) -> bool:
    """Whether a product of these is one of bfloat16 on such a CPU."""
    if any(operand.device.type != "cpu" for operand in operands):
        return False
    if torch.is_autocast_enabled("cpu"):
        is_bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
    else:
        is_bfloat16 = all(operand.dtype == torch.bfloat16 for operand in operands)
    return is_bfloat16 and lacks_bfloat16()


def rounded(x: Tensor) -> Tensor:
    """The numbers as bfloat16 has them, in float32."""
    return x.to(torch.bfloat16).float()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear` in bfloat16, with a gradient.

    Args:
        x: (S, H).
        weight: (V, H).
        bias: (V,), or None.

    Returns:
        (S, V), bfloat16.
    """
    out = _Linear.apply(x, weight)
    return (out if bias is None else out + bias).to(torch.bfloat16)


def product(a: Tensor, b: Tensor) -> Tensor:
    """`torch.mm` of operands that are rounded first; (M, K) and (K, N) to (M, N) in float32."""
    with torch.autocast("cpu", enabled=False):
        return torch.mm(rounded(a), rounded(b))


class _Linear(torch.autograd.Function):
    """Its output is not rounded yet."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x.to(torch.bfloat16), weight)
        ctx.dtype = x.dtype
        return product(x, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = product(gradient, weight).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        of_weight = product(gradient.t(), x).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return of_x, of_weight
