"""From logits to tokens: greedy, or by inverting the distribution function at a given uniform number.

`torch.multinomial` and Gumbel noise need a random number for every entry of the vocabulary; here a row needs one. It is
drawn for each place of each completion beforehand, so that what a row becomes does not depend on the others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.forward.head import exponentiate
from agents.rollout import SamplingParams


def draw_uniforms(rows: int, sampling: SamplingParams, seed: int, device: torch.device) -> Tensor | None:
    """(rows, max_completion_tokens) numbers in [0, 1), the same on every kind of device; None for greedy decoding.

    Args:
        rows: How many completions.
        sampling: Says how long they can be, and whether they are drawn.
        seed: Names the numbers.
        device: Where to put them.
    """
    if sampling.temperature == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, sampling.max_completion_tokens, generator=generator, dtype=torch.float64).to(device)


def sample(logits: Tensor, sampling: SamplingParams, uniforms: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw one token a row.

    Args:
        logits: (N, V), float32; overwritten.
        sampling: Temperature, and what top-k and top-p leave of the distribution.
        uniforms: (N,) numbers in [0, 1), float64; not read at temperature 0.

    Returns:
        Token ids (N,), and their log-probabilities (N,) in nats under the distribution that was drawn from (at
        temperature 0, under the model's).
    """
    if sampling.temperature == 0:
        values, ids = logits.max(dim=1)
        return ids, values - logits.logsumexp(dim=1)
    assert uniforms is not None
    if sampling.temperature != 1:
        logits /= sampling.temperature
    restrict(logits, sampling.top_k, sampling.top_p)
    return _invert(logits, uniforms)


def restrict(logits: Tensor, top_k: int | None, top_p: float) -> None:
    """Set what top-k, and then top-p, leave out to minus infinity, in place.

    Top-k keeps all that tie with the k-th (as transformers does); top-p keeps the most probable tokens until their mass
    reaches `top_p` (nucleus sampling, arXiv:1904.09751, section 3.1), which is one token at least.

    Args:
        logits: (N, V).
        top_k: None for all.
        top_p: 1 for all.
    """
    if top_k is not None and top_k < logits.shape[1]:
        smallest = logits.topk(top_k, dim=1).values[:, -1:]
        logits.masked_fill_(logits < smallest, -math.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=1, descending=True)
        probabilities = ordered.softmax(dim=1)
        before = probabilities.cumsum(dim=1) - probabilities
        out = before >= top_p
        out[:, 0] = False
        logits.masked_fill_(torch.zeros_like(out).scatter_(1, order, out), -math.inf)


def _invert(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens where the cumulative probabilities pass `uniforms`, and the logarithms of their probabilities.

    Two levels: sums of blocks of about sqrt(V) weights find the block, those inside it the token. So only N * sqrt(V)
    numbers are accumulated in float64; a block is summed in float32, to 1e-7 of its weight.

    Args:
        logits: (N, V), not all minus infinity; overwritten.
        uniforms: (N,).
    """
    v = logits.shape[1]
    size = 1 << max(1, round(math.log2(v) / 2))
    sums = exponentiate(logits, size)[0].double()
    weights = logits
    block, rest, total = _find(sums, (uniforms * sums.sum(1))[:, None])
    places = block * size + torch.arange(size, device=weights.device)
    inside = weights.gather(1, places.clamp(max=v - 1)).double().masked_fill_(places >= v, 0.0)
    offset, _, _ = _find(inside, rest)
    ids = block * size + offset
    logprobs = weights.gather(1, ids).double().log() - total.log()
    return ids.squeeze(1), logprobs.squeeze(1).float()


def _find(weights: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first entry at which the cumulative sum passes the target; what is left for it; the whole sum. All (N, 1).

    A target that rounding has put at the end or beyond is taken to be just before it: an entry without weight is never
    found.
    """
    cumulative = weights.cumsum(1)
    total = cumulative[:, -1:]
    targets = torch.minimum(targets, torch.nextafter(total, torch.zeros_like(total)))
    found = torch.searchsorted(cumulative, targets, right=True)
    before = torch.where(found > 0, cumulative.gather(1, (found - 1).clamp(min=0)), 0.0)
    return found, targets - before, total
