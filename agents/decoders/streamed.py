"""Linear layers of a rollout that read their weights once: float32 on x86 CPUs (`agents.kernels.few_rows`).

A step of few rows waits for its weights, which come from memory anew each time. Layers that read the same input are one
call, and each call fetches the beginning of the weights that come next. Nothing is copied or arranged. bfloat16 takes
them as well where the CPU has no products of its own for it (`agents.kernels.rounded`): then of rounded copies of the
weights, which last for one rollout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agents.decoders.linear_kinds import is_plain
from agents.decoders.linear_layers import Alone, Apart
from agents.kernels import has_few_row_products, linears
from agents.kernels.rounded import lacks_bfloat16, rounded

# entries of all layers together; with fewer, they are in a cache
_MIN_ENTRIES = 2**21


def can_stream(stages: Sequence[Any], dtype: torch.dtype) -> bool:
    """Whether the layers are computed faster so.

    Args:
        stages: Layers, or `Apart`s of some.
        dtype: Of the computation.
    """
    weights = [layer.weight for stage in stages for layer in _layers(stage) if is_plain(layer)]
    takes_dtype = dtype == torch.float32 or (dtype == torch.bfloat16 and lacks_bfloat16())
    return takes_dtype and sum(map(torch.numel, weights)) >= _MIN_ENTRIES and has_few_row_products()


def streamed(stages: Sequence[Any], dtype: torch.dtype) -> list[Any]:
    """What is to be called in place of each stage, in the order in which they are called.

    Args:
        stages: Layers, or `Apart`s of some. Plain linear layers are replaced, others left as they are.
        dtype: Of the computation, see `can_stream`.
    """
    out: list[Any] = []
    following: Tensor | None = None
    for stage in reversed(stages):
        layers = _layers(stage)
        if all(is_plain(layer) for layer in layers):
            together = _Streamed(layers, dtype, following)
            stage = together if isinstance(stage, Apart) else Alone(together)
            following = together.weights[0]
        else:
            following = None
        out.append(stage)
    return out[::-1]


def _layers(stage: Any) -> Sequence[Any]:
    return stage.layers if isinstance(stage, Apart) else [stage]


class _Streamed:
    """Called with (S, H), gives the output of each layer."""

    def __init__(self, layers: Sequence[nn.Linear], dtype: torch.dtype, following: Tensor | None) -> None:
        self.weights = [layer.weight if dtype == torch.float32 else rounded(layer.weight) for layer in layers]
        self._biases = [layer.bias for layer in layers]
        self._dtype = dtype
        self._following = following

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        with torch.autocast("cpu", enabled=False):
            outs = linears(x if self._dtype == torch.float32 else rounded(x), self.weights, self._following)
            outs = [out if bias is None else out.add_(bias) for out, bias in zip(outs, self._biases, strict=True)]
        return [out.to(self._dtype) for out in outs]
