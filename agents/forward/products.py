"""Float32 matrix products on AMD processors with AVX-512, by oneDNN.

PyTorch multiplies float32 matrices on a CPU by MKL, which uses half the width of the vector units of AMD's newer
processors (Zen 5). oneDNN, which comes with PyTorch too, uses all of it (docs/performance.md). PyTorch has no setting
for that, only an operator that it keeps for itself; where the operator is missing, or on another processor, all
products are PyTorch's own. The choice is a rule and not a measurement, because the two round differently and equal
seeds must repeat a run.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# entries of the matrix; with fewer, starting oneDNN's operator takes longer than the product
_MIN_ENTRIES = 2**16 + 1


@functools.cache
def has_onednn_products() -> bool:
    """Whether float32 products of this process are computed by oneDNN."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False


def product(a: Tensor, b: Tensor, out: Tensor | None = None, *, add: bool = False) -> Tensor:
    """`a @ b` without gradient.

    Args:
        a: (M, K).
        b: (K, N).
        out: (M, N), what is written to; made if None.
        add: Whether to add to what `out` holds.
    """
    if out is not None and add:
        return out.addmm_(a, b)  # oneDNN's operator would need a second matrix of this size
    if _takes_onednn(a, b):
        found = _multiplied(a, b.t())
        return found if out is None else out.copy_(found)
    return a.mm(b) if out is None else torch.mm(a, b, out=out)


class OneDNNLinear(nn.Linear):
    """`nn.Linear` whose float32 products are oneDNN's."""

    def forward(self, input: Tensor) -> Tensor:
        """`input @ weight.T + bias`, (..., in_features) to (..., out_features)."""
        if not _takes_onednn(input, self.weight):
            return super().forward(input)
        if not torch.is_grad_enabled():
            return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        out = _Linear.apply(input, self.weight)
        return out if self.bias is None else out + self.bias


def use_onednn_products(model: nn.Module) -> None:
    """Let the linear layers of a model compute with oneDNN where that is faster; nothing is copied."""
    if has_onednn_products():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDNNLinear


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        # norms and gates end in a product of two tensors that autograd keeps: it is computed again, not kept as well
        ctx.factors = x.grad_fn if _keeps_both_factors(x.grad_fn) else None
        ctx.save_for_backward(None if ctx.factors else x, weight)
        return _multiplied(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        rows = gradient.reshape(-1, gradient.shape[-1])
        if ctx.needs_input_grad[0]:
            of_x = _multiplied(rows, weight.t()).view(*gradient.shape[:-1], -1)
        if ctx.needs_input_grad[1]:
            if ctx.factors is not None:
                x = ctx.factors._saved_self * ctx.factors._saved_other
            of_weight = _multiplied(rows.t(), x.reshape(-1, x.shape[-1]).t())
        return of_x, of_weight


def _keeps_both_factors(node: Any) -> bool:
    """Whether a node of autograd is an elementwise product of two tensors that its own backward pass needs."""
    is_product = type(node).__name__ == "MulBackward0"
    return is_product and node._saved_self is not None and node._saved_other is not None


def _takes_onednn(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == b.dtype == torch.float32
        and a.device.type == b.device.type == "cpu"
        and a.numel() > 0  # oneDNN refuses a product without rows
        and b.numel() >= _MIN_ENTRIES
        and not torch.is_autocast_enabled("cpu")
        and has_onednn_products()
    )


def _multiplied(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`; oneDNN reads transposed operands where they lie."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
