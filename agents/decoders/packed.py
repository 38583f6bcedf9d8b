"""Weights in the layout that oneDNN multiplies few rows with: for the many steps of a rollout, on x86 CPUs.

A matrix product of a few rows spends much of its time on arranging the weights for the processor. oneDNN does that once
and keeps the result, which is a copy of the weights, so it lasts for one rollout. Which products take it is a rule and
not a measurement at start-up: equal seeds must repeat a run, and the two products round differently.

Of large models float32 goes without where weights can be read as they stand (`agents.decoders.streamed`).

Measured (see docs/performance.md): in float32, 1.1 to 2.5 times as fast for 4 to 64 rows of large matrices, slower for
small ones; in bfloat16, 1.2 to 1.6 times as fast throughout.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agents.decoders.linear_kinds import is_plain
from agents.decoders.linear_layers import Alone, Apart, call
from agents.kernels.rounded import lacks_bfloat16

_MIN_ENTRIES = 2**19
_ROWS = range(4, 97)


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN is here and was seen to win on such a processor, in this precision."""
    return (
        device.type == "cpu"
        and not (dtype == torch.bfloat16 and lacks_bfloat16())
        and platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def packed(stage: Any, dtype: torch.dtype) -> Any:
    """The layer or layers with packed weights, to be called in their place; themselves where that would not be faster.

    Args:
        stage: A layer, or an `Apart` of some, which become one product. Only plain `nn.Linear`s are packed; others
            are left as they are.
        dtype: Of the computation.
    """
    if not isinstance(stage, Apart):
        return Alone(_Packed([stage], dtype)) if _gains([stage], dtype) else stage
    if _gains(stage.layers, dtype):
        return _Packed(stage.layers, dtype)
    return Apart(*(packed(layer, dtype) for layer in stage.layers))


def _gains(layers: Sequence[Any], dtype: torch.dtype) -> bool:
    if not all(is_plain(layer) for layer in layers) or len({layer.bias is None for layer in layers}) != 1:
        return False
    entries = sum(layer.weight.numel() for layer in layers)
    return dtype == torch.bfloat16 or (dtype == torch.float32 and entries >= _MIN_ENTRIES)


class _Packed:
    """Called with (S, H), gives the output of each layer."""

    def __init__(self, layers: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        self._layers = layers
        self._dtype = dtype
        self._sizes = [layer.out_features for layer in layers]
        # the number of rows is a hint; the layout is the same for all that were tried
        self._weight = torch.ops.mkldnn._reorder_linear_weight(_rows([layer.weight for layer in layers], dtype), 32)
        self._bias = None if layers[0].bias is None else _rows([layer.bias for layer in layers], dtype)

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        if self._dtype == torch.float32 and len(x) not in _ROWS:
            return [call(layer, x) for layer in self._layers]
        out = torch.ops.mkldnn._linear_pointwise(x.to(self._dtype), self._weight, self._bias, "none", [], "")
        return out.split(self._sizes, dim=-1)


def _rows(tensors: list[Tensor], dtype: torch.dtype) -> Tensor:
    parts = [tensor.detach().to(dtype) for tensor in tensors]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
