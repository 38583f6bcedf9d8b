"""Several matrices times the same few rows, each weight read from memory once: the products of a decode step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agents.kernels import fma_products, split_products
from agents.kernels.fma_products import has_fma_products
from agents.kernels.split_products import has_split_products

FEW_ROWS = split_products.FEW_ROWS
"""Numbers of rows for which `linears` reads weights from memory once."""


def has_few_row_products() -> bool:
    """Whether this process has them, by matrix units or by vectors. The first call may compile them."""
    return has_split_products() or has_fma_products()


def linears(x: Tensor, weights: Sequence[Tensor], next_weight: Tensor | None = None) -> list[Tensor]:
    """`torch.nn.functional.linear` with each of the weights, without gradient.

    Args:
        x: (S, H).
        weights: Each (V, H), contiguous.
        next_weight: What will be read after them; its beginning is fetched while the last of them is multiplied.

    Returns:
        (S, V) for each.

    Raises:
        RuntimeError: The shapes do not fit.
    """
    if has_split_products():
        return split_products.linears(x, weights, next_weight)
    is_float32 = all(tensor.dtype == torch.float32 for tensor in (x, *weights)) and not torch.is_autocast_enabled("cpu")
    if len(x) in FEW_ROWS and is_float32 and x.device.type == "cpu" and has_fma_products():
        return fma_products.linears(x, weights, next_weight)
    return [torch.nn.functional.linear(x, weight) for weight in weights]


def parts_of_products() -> int:
    """How many parts of each number the products take, see `split_products`; 0: they are those of `fma_products`."""
    return split_products.parts() if has_split_products() else 0
