"""Products by oneDNN against PyTorch's own; on other processors both are PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.forward import products
from agents.forward.products import OneDNNLinear, product


@pytest.fixture(autouse=True)
def onednn(monkeypatch):
    """oneDNN's operator wherever PyTorch has it, for matrices of every size."""
    has_it = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    monkeypatch.setattr(products, "has_onednn_products", lambda: has_it)
    monkeypatch.setattr(products, "_MIN_ENTRIES", 0)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (0,), (1, 0), (1,)])
def test_a_linear_layer_and_its_gradients(shape, has_bias):
    plain = nn.Linear(5, 4, bias=has_bias)
    other = nn.Linear(5, 4, bias=has_bias)
    other.load_state_dict(plain.state_dict())
    other.__class__ = OneDNNLinear
    results = []
    for layer in (plain, other):
        x = torch.randn(*shape, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
        out = layer(x)
        out.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(layer(x), out)
        results.append([out, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_products_with_and_without_a_place_to_write_to(rows):
    a, b = torch.randn(rows, 3), torch.randn(5, 3).t()
    torch.testing.assert_close(product(a, b), a @ b)
    torch.testing.assert_close(product(a, b, out=torch.empty(rows, 5)), a @ b)
    torch.testing.assert_close(product(a, b, out=torch.ones(rows, 5), add=True), 1 + a @ b)


@pytest.mark.parametrize("trained", ["both", "scale", "x", "neither"])
def test_the_product_that_a_layer_reads_is_not_kept(trained):
    """As a norm's `weight * normalized` and a gate's `act(gate) * up`; gradients are the same to the bit."""
    layer = nn.Linear(5, 4, bias=False)
    layer.__class__ = OneDNNLinear
    scale = torch.randn(5, requires_grad=trained in ("both", "scale"))
    x = torch.randn(3, 5, requires_grad=trained in ("both", "x"))
    wanted = [layer.weight, *(tensor for tensor in (scale, x) if tensor.requires_grad)]
    results, kept = [], []
    for is_opaque in (False, True):
        read = scale * x
        read = read.clone() if is_opaque else read
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            out = layer(read)
        assert any(tensor is read for tensor in kept) == (is_opaque or trained != "both")
        kept.clear()
        loss = out.square().sum()
        results.append(torch.autograd.grad(loss, wanted, retain_graph=True))
        for first, second in zip(results[-1], torch.autograd.grad(loss, wanted), strict=True):
            assert torch.equal(first, second)
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)
