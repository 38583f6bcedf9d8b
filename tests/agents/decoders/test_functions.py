from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from transformers.activations import ACT2FN, GELUTanh

from agents.decoders import head
from agents.decoders.functions import gating, geglu, rms_norm, rotate, swiglu
from agents.decoders.head import token_logprobs_of_hidden


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


def angles(tokens, half):
    angle = random(tokens, 1, half, seed=9).detach()
    return angle.cos(), angle.sin()


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm(offset):
    x, weight = random(2, 3, 6), random(6, seed=1)
    expected = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * (weight + offset)
    assert torch.allclose(rms_norm(x, weight, 1e-5, offset), expected, atol=1e-12)
    assert gradcheck(lambda x, w: rms_norm(x, w, 1e-5, offset), (x, weight))
    assert gradcheck(lambda x: rms_norm(x, weight.detach(), 1e-5, offset), (x,))


def test_swiglu():
    gate, up = random(4, 5), random(4, 5, seed=1)
    assert torch.allclose(swiglu(gate, up), gate * gate.sigmoid() * up, atol=1e-12)
    assert gradcheck(swiglu, (gate, up))


def test_geglu():
    gate, up = random(4, 5), random(4, 5, seed=1)
    expected = gate / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) * up
    assert torch.allclose(geglu(gate, up), expected, atol=1e-12)
    assert gradcheck(geglu, (gate, up))


def test_activations_have_their_gating():
    assert [gating(ACT2FN[name]) for name in ("silu", "gelu_pytorch_tanh")] == ["swiglu", "geglu"]
    assert [gating(module) for module in (nn.SiLU(), nn.GELU(approximate="tanh"))] == ["swiglu", "geglu"]
    others = [ACT2FN["gelu"], ACT2FN["gelu_new"], GELUTanh(use_gelu_tanh_python=True), nn.GELU(), nn.ReLU()]
    assert [gating(module) for module in others] == [None] * 5


def test_rotate_turns_pairs_of_halves():
    x = random(3, 2, 8)
    cos, sin = angles(3, 4)
    turned = rotate(x, cos, sin)
    assert torch.allclose(turned[..., :4], x[..., :4] * cos - x[..., 4:] * sin, atol=1e-12)
    assert torch.allclose(turned[..., 4:], x[..., 4:] * cos + x[..., :4] * sin, atol=1e-12)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))
    assert gradcheck(lambda x: rotate(x, cos, sin), (x,))


def test_without_gradient_the_values_are_the_same():
    x, weight, (cos, sin) = random(3, 2, 8), random(8, seed=1), angles(3, 4)
    more = weight.expand_as(x)
    with_gradient = rms_norm(x, weight, 1e-5, 1.0), rotate(x, cos, sin), swiglu(x, more), geglu(x, more)
    with torch.no_grad():
        without = rms_norm(x, weight, 1e-5, 1.0), rotate(x, cos, sin), swiglu(x, more), geglu(x, more)
    assert all(torch.equal(a, b) for a, b in zip(with_gradient, without, strict=True))


@pytest.mark.parametrize("kept", ["all", "some", "none"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_chunks_of_the_head(monkeypatch, kept, has_bias, temperature):
    """Chunks that are kept for the backward pass and those that are computed again there."""
    row = 11 * 8
    monkeypatch.setattr(head, "_CHUNK_BYTES", 3 * row)
    monkeypatch.setattr(head, "_KEPT_BYTES", {"all": 7, "some": 4, "none": 0}[kept] * row)
    hidden, weight, bias = random(7, 5), random(11, 5, seed=1), random(11, seed=2) if has_bias else None
    targets = torch.tensor([0, 10, 3, 3, 7, 1, 0])

    def logprobs(hidden, weight, bias=None):
        return token_logprobs_of_hidden(hidden, weight, bias, targets, temperature)

    logits = hidden @ weight.t() + (0 if bias is None else bias)
    expected = torch.log_softmax(logits / temperature, 1)[torch.arange(7), targets]
    assert torch.allclose(logprobs(hidden, weight, bias), expected, atol=1e-12)
    arguments = (hidden, weight) if bias is None else (hidden, weight, bias)
    assert gradcheck(logprobs, arguments)
    gradient = torch.arange(7.0, dtype=torch.float64) - 3
    out = logprobs(*arguments)
    first, second = (torch.autograd.grad(out, arguments, gradient, retain_graph=True) for _ in range(2))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(first, second, strict=True))
    [of_hidden] = torch.autograd.grad(logprobs(hidden, weight.detach(), bias), [hidden], gradient)
    assert torch.allclose(of_hidden, first[0], atol=1e-12)


def test_large_logits_do_not_overflow():
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[3e4], [-3e4], [2.9e4]])
    logprobs = token_logprobs_of_hidden(hidden, weight, None, torch.tensor([1]), 1.0)
    assert logprobs.item() == -6e4
