from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from transformers import TopKLogitsWarper, TopPLogitsWarper

from agents.engines.sampling import _invert, draw_uniforms, restrict, sample
from agents.rollout import SamplingParams


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(logits, sampling, n=200_000):
    """Tokens and log-probabilities of n draws from one row of logits."""
    uniforms = torch.rand(n, generator=generator(), dtype=torch.float64)
    return sample(logits.repeat(n, 1), sampling, uniforms)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 5, 16, 37, 64, 100])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_distribution(vocabulary, temperature):
    """Chi-square; the seed is fixed, so that this cannot fail by chance."""
    logits = torch.randn(1, vocabulary, generator=generator(vocabulary)) * 1.5
    ids, logprobs = drawn(logits, SamplingParams(temperature=temperature))
    expected = torch.softmax(logits[0].double() / temperature, 0)
    assert torch.allclose(logprobs.double(), expected.log()[ids], atol=1e-5)
    seen = torch.bincount(ids, minlength=vocabulary).double()
    if vocabulary > 1:
        assert stats.chisquare(seen.numpy(), (expected * len(ids)).numpy()).pvalue > 0.001


def test_a_wrong_distribution_is_told_apart():
    """The check above can fail: draws at another temperature do not pass it."""
    logits = torch.randn(1, 16, generator=generator())
    ids, _ = drawn(logits, SamplingParams(temperature=1.02))
    expected = torch.softmax(logits[0].double(), 0) * len(ids)
    assert stats.chisquare(torch.bincount(ids, minlength=16).double().numpy(), expected.numpy()).pvalue < 0.001


@pytest.mark.parametrize(("top_k", "top_p"), [(3, 1.0), (None, 0.6), (5, 0.7)])
def test_truncated_distributions(top_k, top_p):
    logits = torch.randn(1, 20, generator=generator(1)) * 2
    ids, logprobs = drawn(logits, SamplingParams(temperature=0.8, top_k=top_k, top_p=top_p))
    left = logits / 0.8
    restrict(left, top_k, top_p)
    expected = torch.softmax(left[0].double(), 0)
    assert torch.allclose(logprobs.double(), expected.log()[ids], atol=1e-5)
    seen = torch.bincount(ids, minlength=20).double()
    assert seen[expected == 0].sum() == 0
    support = expected > 0
    assert stats.chisquare(seen[support].numpy(), (expected[support] * len(ids)).numpy()).pvalue > 0.001


@pytest.mark.parametrize("top_k", [None, 1, 2, 7, 50, 80])
@pytest.mark.parametrize("top_p", [1.0, 0.99, 0.9, 0.5, 0.1, 1e-6])
def test_top_k_and_top_p_are_those_of_transformers(top_k, top_p):
    logits = torch.randn(64, 50, generator=generator(2)) * 3
    logits[0, :10] = logits[0].max()  # ties
    expected = logits.clone()
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    found = logits.clone()
    restrict(found, top_k, top_p)
    # which of several tokens that tie at the edge of the nucleus are in it depends on the sort
    assert torch.equal(found[1:].isinf(), expected[1:].isinf())
    assert torch.equal(found[1:], expected[1:])
    assert found[0].isfinite().sum() == pytest.approx(expected[0].isfinite().sum(), abs=1)


@pytest.mark.parametrize("vocabulary", [7, 64, 1000, 49152])
def test_no_number_finds_a_token_without_probability(vocabulary):
    """Both ends of [0, 1), and blocks of the vocabulary that are empty."""
    logits = torch.full((4, vocabulary), -math.inf)
    only = [0, vocabulary - 1, vocabulary // 2, 3]
    for row, token in enumerate(only):
        logits[row, token] = 5.0
    for uniform in (0.0, 0.5, math.nextafter(1, 0)):
        ids, logprobs = sample(logits.clone(), SamplingParams(), torch.full((4,), uniform, dtype=torch.float64))
        assert ids.tolist() == only
        assert logprobs.tolist() == [0.0] * 4


def test_the_inverse_is_exact_to_float32_rounding():
    weights = torch.rand(1, 1000, generator=generator())
    edges = weights.double().cumsum(1)[0] / weights.double().sum()
    for token in (0, 1, 31, 32, 500, 998):
        for shift, expected in ((-1e-6, token), (1e-6, token + 1)):
            ids, _ = _invert(weights.log(), edges[token : token + 1] + shift)
            assert ids.item() == expected


def test_greedy_takes_the_first_of_the_largest():
    logits = torch.tensor([[0.0, 3.0, 3.0]])
    ids, logprobs = sample(logits.clone(), SamplingParams(temperature=0), None)
    assert ids.tolist() == [1]
    assert logprobs.item() == pytest.approx(torch.log_softmax(logits, 1)[0, 1].item())


def test_uniforms_are_named_by_a_seed_and_not_drawn_for_greedy_decoding():
    cpu = torch.device("cpu")
    assert draw_uniforms(3, SamplingParams(5, temperature=0), 1, cpu) is None
    numbers = draw_uniforms(3, SamplingParams(5), 1, cpu)
    assert numbers.shape == (3, 5)
    assert torch.equal(draw_uniforms(3, SamplingParams(5), 1, cpu), numbers)
    assert not torch.equal(draw_uniforms(3, SamplingParams(5), 2, cpu), numbers)


@pytest.mark.parametrize(
    "field", [{"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"stop": "abc"}, {"stop": ("a", "")}, {"temperature": -1}]
)
def test_bad_parameters_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        SamplingParams(**field)
