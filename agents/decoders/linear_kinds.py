"""Which linear layers are a product alone, and which one and that of a low-rank adapter, as peft attaches it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn


class Adapter(NamedTuple):
    """`scaling * (x a^T) b^T` (LoRA, arXiv:2106.09685, section 4.1).

    Attributes:
        a: (R, H).
        b: (V, R).
        scaling: Of the product.
    """

    a: Tensor
    b: Tensor
    scaling: float


class Adapted(NamedTuple):
    """What a linear layer computes.

    Attributes:
        base: A plain one.
        adapter: What is added to its output, or None.
    """

    base: nn.Linear
    adapter: Adapter | None


def is_plain(layer: Any) -> bool:
    """Whether calling the layer is its product and nothing else."""
    return type(layer) is nn.Linear and _is_untouched(layer)


def adapted(layer: Any) -> Adapted | None:
    """What a linear layer computes now (adapters can be disabled for a while); None: something else than these."""
    if is_plain(layer):
        return Adapted(layer, None)
    is_lora = type(layer).__module__ == "peft.tuners.lora.layer" and type(layer).__name__ == "Linear"
    if not is_lora or not _is_untouched(layer) or not is_plain(layer.base_layer):
        return None
    if layer.disable_adapters or layer.merged:
        # where both, its forward pass takes the adapters out of the base
        return None if layer.disable_adapters and layer.merged else Adapted(layer.base_layer, None)
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if not names:
        return Adapted(layer.base_layer, None)
    [name, *more] = names
    if more or name in getattr(layer, "lora_variant", ()):
        return None
    a, b, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
    drops = not isinstance(dropout, nn.Identity) and dropout.training
    if drops or not all(is_plain(part) and part.bias is None for part in (a, b)):
        return None
    return Adapted(layer.base_layer, Adapter(a.weight, b.weight, layer.scaling[name]))


def _is_untouched(layer: nn.Module) -> bool:
    return not (
        "forward" in vars(layer)
        or layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )
