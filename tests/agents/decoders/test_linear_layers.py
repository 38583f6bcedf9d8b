from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.decoders.linear_layers import Apart, call
from agents.decoders.packed import packed


@pytest.mark.parametrize("change", ["forward", "hook", "pre-hook", "subclass"])
def test_a_layer_that_was_changed_is_called(change):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = Doubled(600, 600) if change == "subclass" else nn.Linear(600, 600)
    x = torch.randn(40, 600, generator=torch.Generator().manual_seed(0))
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    if change == "forward":
        forward = layer.forward
        layer.forward = lambda x: 2 * forward(x)
    elif change == "hook":
        layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    elif change == "pre-hook":
        layer.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
        plain = plain - layer.bias / 2
    for called in (layer, packed(layer, torch.bfloat16)):
        torch.testing.assert_close(call(called, x), 2 * plain, rtol=1e-4, atol=1e-4)


def test_apart_calls_each():
    layers = [nn.Linear(8, 4), nn.Identity(), nn.Linear(8, 2, bias=False)]
    x = torch.randn(3, 8)
    for found, layer in zip(Apart(*layers)(x), layers, strict=True):
        assert torch.equal(found, layer(x))
