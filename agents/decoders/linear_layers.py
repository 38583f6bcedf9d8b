"""How a decoder calls the linear layers of its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from agents.decoders.linear_kinds import Adapter, adapted
from agents.kernels import add_product, linear, product


def call(layer: Any, x: Tensor) -> Tensor:
    """`layer(x)`; of a linear layer, with an adapter or without, by the fastest products there are (`agents.kernels`).

    Args:
        layer: A module, or what `packed` made of one.
        x: (S, H).
    """
    kind = adapted(layer) if isinstance(layer, nn.Module) else None
    if kind is None:
        return layer(x)
    base, adapter = kind
    if adapter is None:
        return linear(x, base.weight, base.bias)
    operands = [x, base.weight, adapter.a, adapter.b]
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        operands = [operand.to(dtype) for operand in operands]
    elif len({operand.dtype for operand in operands}) > 1:
        return layer(x)
    with torch.autocast(device, enabled=False):
        out = _LinearWithAdapter.apply(*operands, adapter.scaling)
    return out if base.bias is None else out + base.bias.to(out.dtype)


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


def without_adapters(stage: Any) -> tuple[Any, list[Adapter | None]]:
    """The plain layers under the adapters of a stage, and the adapters; the stage itself and none where it has none.

    Args:
        stage: A layer, or an `Apart` of some.
    """
    kinds = [adapted(layer) for layer in (stage.layers if isinstance(stage, Apart) else [stage])]
    known = [kind for kind in kinds if kind is not None]
    adapters = [kind.adapter for kind in known]
    if len(known) < len(kinds) or not any(adapters):
        return stage, []
    bases = [kind.base for kind in known]
    return (Apart(*bases) if isinstance(stage, Apart) else bases[0]), adapters


def with_adapters(stage: Any, adapters: Sequence[Adapter | None], dtype: torch.dtype) -> Any:
    """What is to be called in place of a stage and its adapters, without gradient, with the adapters as they are now.

    Args:
        stage: What stands in place of the plain layers that `without_adapters` gave.
        adapters: What it gave with them.
        dtype: Of the computation.
    """
    if not adapters:
        return stage
    if len(adapters) > 1:
        return _WithAdapters(stage, adapters, dtype)
    return Alone(_WithAdapters(lambda x: [call(stage, x)], adapters, dtype))


def scaled(adapter: Adapter, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`a` (R, H) times the scaling, and `b` (V, R), of an adapter as it is now."""
    return (adapter.a.detach() * adapter.scaling).to(dtype), adapter.b.detach().to(dtype)


class _WithAdapters:
    """Called with (S, H), gives the output of each layer."""

    def __init__(
        self,
        together: Callable[[Tensor], Sequence[Tensor]],
        adapters: Sequence[Adapter | None],
        dtype: torch.dtype,
    ) -> None:
        self._together = together
        self._adapters = [adapter and scaled(adapter, dtype) for adapter in adapters]
        self._dtype = dtype

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        outs = self._together(x)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self._dtype)
            for out, adapter in zip(outs, self._adapters, strict=True):
                if adapter is None:
                    continue
                a, b = adapter
                if self._dtype == torch.bfloat16:
                    add_product(out, product(x, a.t()), b.t())
                else:  # as in a whole step
                    out.addmm_(x.mm(a.t()), b.t())
        return outs


class _LinearWithAdapter(torch.autograd.Function):
    """Its operands are of one type, and autocast is off. peft makes of this five operations on whole outputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        out = product(x, weight.t())
        low = product(x, a.t()).mul_(scaling)
        add_product(out, low, b.t())
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scaling = scaling
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, low = ctx.saved_tensors
        of_low = product(gradient, b).mul_(ctx.scaling)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = product(gradient, weight)
            add_product(of_x, of_low, a)
        if ctx.needs_input_grad[1]:
            of_weight = product(gradient.t(), x)
        of_a = product(of_low.t(), x) if ctx.needs_input_grad[2] else None
        of_b = product(gradient.t(), low) if ctx.needs_input_grad[3] else None
        return of_x, of_weight, of_a, of_b, None
