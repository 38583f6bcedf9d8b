"""Matrix products, by the fastest way there is: PyTorch's, or one of this package's."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.kernels import rounded, split_products


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, under autocast too.

    Args:
        x: (S, H).
        weight: (V, H).
        bias: (V,), or None.

    Returns:
        (S, V).

    Raises:
        RuntimeError: The shapes do not fit.
    """
    if rounded.is_rounded(x, weight):
        return rounded.linear(x, weight, bias)
    return split_products.linear(x, weight, bias)


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """`torch.mm` without gradient.

    Args:
        a: (M, K).
        b: (K, N).
        out: (M, N), contiguous, what is written to; made if None.

    Raises:
        RuntimeError: The shapes do not fit.
    """
    if not rounded.is_rounded(a, b):
        return split_products.product(a, b, out)
    found = rounded.product(a, b)
    return found.to(torch.bfloat16) if out is None else out.copy_(found)


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """`out.addmm_(a, b)` without gradient.

    Args:
        out: (M, N), contiguous.
        a: (M, K).
        b: (K, N).

    Raises:
        RuntimeError: The shapes do not fit.
    """
    if rounded.is_rounded(a, b):
        out.add_(rounded.product(a, b))
    else:
        split_products.add_product(out, a, b)
