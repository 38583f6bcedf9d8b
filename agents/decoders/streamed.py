"""Linear layers of a rollout by split products: float32 on CPUs with matrix units (`agents.kernels`).

A step of few rows waits for its weights, which come from memory anew each time. Layers that read the same input are one
call, and each call fetches the beginning of the weights that come next. Nothing is copied or arranged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agents.decoders.linear_layers import Alone, Apart, is_plain
from agents.kernels import has_split_products, linears

# entries of all layers together; with fewer, they are in a cache
_MIN_ENTRIES = 2**21


def can_stream(stages: Sequence[Any], dtype: torch.dtype) -> bool:
    """Whether the layers are computed faster so.

    Args:
        stages: Layers, or `Apart`s of some.
        dtype: Of the computation.
    """
    weights = [layer.weight for stage in stages for layer in _layers(stage) if is_plain(layer)]
    return dtype == torch.float32 and sum(map(torch.numel, weights)) >= _MIN_ENTRIES and has_split_products()


def streamed(stages: Sequence[Any]) -> list[Any]:
    """What is to be called in place of each stage, in the order in which they are called.

    Args:
        stages: Layers, or `Apart`s of some. Plain linear layers are replaced, others left as they are.
    """
    out: list[Any] = []
    following: Tensor | None = None
    for stage in reversed(stages):
        layers = _layers(stage)
        if all(is_plain(layer) for layer in layers):
            together = _Streamed(layers, following)
            stage = together if isinstance(stage, Apart) else Alone(together)
            following = layers[0].weight
        else:
            following = None
        out.append(stage)
    return out[::-1]


def _layers(stage: Any) -> Sequence[Any]:
    return stage.layers if isinstance(stage, Apart) else [stage]


class _Streamed:
    """Called with (S, H), gives the output of each layer."""

    def __init__(self, layers: Sequence[nn.Linear], following: Tensor | None) -> None:
        self._weights = [layer.weight for layer in layers]
        self._biases = [layer.bias for layer in layers]
        self._following = following

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        outs = linears(x, self._weights, self._following)
        return [out if bias is None else out.add_(bias) for out, bias in zip(outs, self._biases, strict=True)]
