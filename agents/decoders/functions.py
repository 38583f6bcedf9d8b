"""The pieces between a decoder's matrix products, each with a backward pass that saves inputs and no intermediates.

Statistics are float32 at least. Under autocast a norm's output has the lower precision at once, which spares a cast for
each of the linear layers that read it.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Pieces(Protocol):
    """This module, or one that computes the same without gradient (`agents.kernels.decoding`)."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
        """See the function."""

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See the function."""

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """See the function."""

    def geglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """See the function."""


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * (weight + offset)` over the last dimension (arXiv:1910.07467, eq. 4).

    Args:
        x: (..., H).
        weight: (H,).
        eps: Added to the mean square.
        offset: Gemma keeps weights less 1.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    if torch.is_grad_enabled():
        return _RMSNorm.apply(x, weight, eps, offset, dtype)
    return _normalized(x, eps)[0].mul_(_scale(weight, offset, x)).to(dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up` (arXiv:2002.05202, eq. 6)."""
    if torch.is_grad_enabled():
        return _SwiGLU.apply(gate, up)
    return torch.nn.functional.silu(gate).mul_(up)


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """`gelu(gate) * up` (arXiv:2002.05202, eq. 6), by the tanh form of GELU (arXiv:1606.08415, section 2)."""
    if torch.is_grad_enabled():
        return _GEGLU.apply(gate, up)
    return _gelu(gate).mul_(up)


def gating(activation: nn.Module) -> Literal["swiglu", "geglu"] | None:
    """Which of the functions computes `activation(gate) * up`; None: neither."""
    name = type(activation).__name__
    if isinstance(activation, nn.SiLU) or name == "SiLUActivation":
        return "swiglu"
    act = getattr(activation, "act", None)  # transformers' calls it; its own code for it is another function
    if name == "GELUTanh" and isinstance(act, functools.partial) and act.func is torch.nn.functional.gelu:
        return "geglu"
    return "geglu" if isinstance(activation, nn.GELU) and activation.approximate == "tanh" else None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (arXiv:2104.09864, eq. 34), a head's first half paired with its second.

    Args:
        x: (S, heads, D).
        cos: (S, 1, D / 2).
        sin: (S, 1, D / 2).
    """
    return _Rotate.apply(x, cos, sin) if torch.is_grad_enabled() else _rotated(x, cos, sin, 1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _scale(weight: Tensor, offset: float, x: Tensor) -> Tensor:
    scale = weight.to(torch.promote_types(x.dtype, torch.float32))
    return scale + offset if offset else scale


def _normalized(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`x` over its root mean square, and the inverse of that (..., 1)."""
    x = _at_least_float32(x)
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1])
    inverse = mean_square.add_(eps).rsqrt_()
    return x * inverse, inverse


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, offset: float, dtype: torch.dtype) -> Tensor:
        normalized, inverse = _normalized(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        ctx.offset = offset
        return normalized.mul_(_scale(weight, offset, x)).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, inverse = ctx.saved_tensors
        gradient = gradient.to(inverse.dtype)
        scale = _scale(weight, ctx.offset, x)
        normalized = _at_least_float32(x) * inverse
        product = gradient * normalized
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = product.view(-1, x.shape[-1]).sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None, None, None
        mean = product.mul_(scale).mean(dim=-1, keepdim=True)
        of_x = (gradient * scale).addcmul_(normalized, mean, value=-1).mul_(inverse)
        return of_x.to(x.dtype), of_weight, None, None, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return torch.nn.functional.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_up = torch.nn.functional.silu(gate).mul_(gradient)
        of_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return of_gate, of_up


def _gelu(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


class _GEGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _gelu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_up = _gelu(gate).mul_(gradient)
        of_gate = torch.ops.aten.gelu_backward(gradient * up, gate, approximate="tanh")
        return of_gate, of_up


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    first, second = wide.chunk(2, dim=-1)
    out = torch.empty_like(wide, memory_format=torch.contiguous_format)
    half = first.shape[-1]
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin, value=sign)
    return out.to(x.dtype)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradient, cos, sin, -1), None, None
