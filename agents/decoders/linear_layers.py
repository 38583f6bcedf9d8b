"""How a decoder calls the linear layers of its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from agents.kernels import linear


def call(layer: Any, x: Tensor) -> Tensor:
    """`layer(x)`; of a plain linear layer by the fastest product there is (`agents.kernels`).

    Args:
        layer: A module, or what `packed` made of one.
        x: (S, H).
    """
    return linear(x, layer.weight, layer.bias) if is_plain(layer) else layer(x)


def is_plain(layer: Any) -> bool:
    """Whether calling the layer is its product and nothing else."""
    return type(layer) is nn.Linear and not (
        "forward" in vars(layer)
        or layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )


class Apart:
    """Layers that read the same input, each a product of its own.

    Args:
        layers: They are called, not copied.
    """

    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """(S, H) to the output of each layer."""
        return [call(layer, x) for layer in self.layers]


class Alone:
    """What stands for several layers, standing for one.

    Args:
        together: Called with (S, H), gives a sequence of one output.
    """

    def __init__(self, together: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self._together = together

    def __call__(self, x: Tensor) -> Tensor:
        """(S, H) to the output."""
        return self._together(x)[0]
