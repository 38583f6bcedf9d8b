"""The layers of a decoder as one operator takes them (`agents.kernels.decoding.decode`), where it computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.decoders.functions import gating
from agents.decoders.linear_kinds import adapted, is_plain
from agents.decoders.linear_layers import scaled
from agents.kernels.decoding import LAYER_TENSORS, Layers

_NORMS = [name for name in LAYER_TENSORS if name.endswith("norm") or name.startswith(("before", "after"))]


def whole_step(
    layers: Sequence[Any], final_norm: Any, head: Any, kinds: Sequence[str | None], scale: float
) -> Layers | None:
    """What `decode` takes, or None where it would compute something else, other activations for example.

    Weights are taken as they stand, but for a copy of half of each adapter, which is small.

    Args:
        layers: Of `agents.decoders.llama`, with the model's own modules.
        final_norm: Likewise.
        head: What is called after the layers.
        kinds: The kinds of rotation, in the order of the cosines and sines that will be given.
        scale: Of products of queries and keys.
    """
    norms = [final_norm]
    gatings = set()
    tensors: list[Tensor | None] = []
    for layer in layers:
        found = _of_linears(layer)
        if found is None:
            return None
        gatings.add(gating(layer.activation))
        of_layer = {name: getattr(layer, name) for name in _NORMS}
        norms += [norm for norm in of_layer.values() if norm is not None]
        found |= {name: norm.module.weight for name, norm in of_layer.items() if norm is not None}
        tensors += [found.get(name) for name in LAYER_TENSORS]
    tensors += [final_norm.module.weight, head.weight if is_plain(head) else None]
    if len({(norm.eps, norm.offset) for norm in norms}) > 1 or gatings not in ({"swiglu"}, {"geglu"}):
        return None
    if not all(tensor is None or (tensor.dtype == torch.float32 and tensor.is_contiguous()) for tensor in tensors):
        return None
    return Layers(
        tensors=tensors,
        windows=[layer.window for layer in layers],
        rotations=[kinds.index(layer.rope) for layer in layers],
        eps=final_norm.eps,
        offset=final_norm.offset,
        scale=scale,
        is_gelu=gatings == {"geglu"},
    )


def _of_linears(layer: Any) -> dict[str, Tensor | None] | None:
    """Weights, biases and adapters of the linear layers; None where one computes something else."""
    query, key, value = layer.attention_inputs.layers
    gate, up = layer.mlp_inputs.layers
    linears = {"query": query, "key": key, "value": value, "gate": gate, "up": up}
    linears |= {"output": layer.output, "down": layer.down}
    found: dict[str, Tensor | None] = {}
    for name, linear in linears.items():
        kind = adapted(linear)
        if kind is None:
            return None
        found |= {name: kind.base.weight, f"{name}_bias": kind.base.bias}
        if kind.adapter is not None:
            found[f"{name}_a"], found[f"{name}_b"] = scaled(kind.adapter, torch.float32)
    return found
