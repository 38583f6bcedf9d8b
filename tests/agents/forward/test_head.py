from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from agents.forward import head
from agents.forward.head import LogitTransform, token_logprobs_of_hidden


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("kept", ["all", "some", "none"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize(
    "transform", [LogitTransform(), LogitTransform(0.3), LogitTransform(2.0, softcap=1.5)], ids=str
)
def test_chunks_of_the_head(monkeypatch, kept, has_bias, temperature, transform):
    """Chunks that are kept for the backward pass and those that are computed again there."""
    row = 11 * 8
    monkeypatch.setattr(head, "_CHUNK_BYTES", 3 * row)
    monkeypatch.setattr(head, "_KEPT_BYTES", {"all": 7, "some": 4, "none": 0}[kept] * row)
    hidden, weight, bias = random(7, 5), random(11, 5, seed=1), random(11, seed=2) if has_bias else None
    targets = torch.tensor([0, 10, 3, 3, 7, 1, 0])

    def logprobs(hidden, weight, bias=None):
        return token_logprobs_of_hidden(hidden, weight, bias, targets, temperature, transform)

    logits = (hidden @ weight.t() + (0 if bias is None else bias)) * transform.scale
    if transform.softcap is not None:
        logits = transform.softcap * torch.tanh(logits / transform.softcap)
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
