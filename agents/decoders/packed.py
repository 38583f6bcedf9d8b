"""Weights in the layout that oneDNN multiplies few rows with: for the many steps of a rollout, on x86 CPUs.

A matrix product of a few rows spends much of its time on arranging the weights for the processor. oneDNN does that once
and keeps the result, which is a copy of the weights, so it lasts for one rollout. Which products take it is a rule and
not a measurement at start-up: equal seeds must repeat a run, and the two products round differently.

Measured (see docs/performance.md): in float32, 1.1 to 2.5 times as fast for 4 to 64 rows of large matrices, slower for
small ones; in bfloat16, 1.2 to 1.6 times as fast throughout.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

_MIN_ENTRIES = 2**19
_ROWS = range(4, 97)


def can_pack(device: torch.device) -> bool:
    """Whether oneDNN is here and was seen to win on such a processor."""
    return (
        device.type == "cpu"
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def packed(linear: nn.Module, dtype: torch.dtype) -> Any:
    """The layer with packed weights, to be called in its place; the layer itself where that would not be faster.

    Args:
        linear: A layer; only a plain `nn.Linear` is packed, adapters are left as they are.
        dtype: Of the computation.
    """
    if type(linear) is not nn.Linear or dtype not in (torch.float32, torch.bfloat16):
        return linear
    if dtype == torch.float32 and linear.weight.numel() < _MIN_ENTRIES:
        return linear
    return _PackedLinear(linear, dtype)


class _PackedLinear:
    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        self._linear = linear
        self._dtype = dtype
        weight = linear.weight.detach().to(dtype)
        # the number of rows is a hint; the layout is the same for all that were tried
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 32)
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        if self._dtype == torch.float32 and len(x) not in _ROWS:
            return self._linear(x)
        return torch.ops.mkldnn._linear_pointwise(x.to(self._dtype), self._weight, self._bias, "none", [], "")
