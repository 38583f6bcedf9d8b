"""What a sampler that is not the trainer does to the gradient, and what each correction undoes of it.

The policy is a table: completions of one or two tokens of four, so that the expected gradient can be enumerated. The
sampler draws from the same logits with a perturbation, as an engine with other kernels or older weights does.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from agents.objectives import PolicyGradient
from agents.rollout import GroupBatch

V = 4
COMPLETIONS = 40_000
SEEDS = range(4)
CORRECTIONS = {
    "none": {"sampler_correction": "none"},
    "TIS": {"sampler_correction": "token_truncate", "sampler_cap": 100.0},
    "TIS, cap 2": {"sampler_correction": "token_truncate", "sampler_cap": 2.0},
    "IcePop": {"sampler_correction": "token_mask", "sampler_floor": 0.5, "sampler_cap": 5.0},
    "sequence": {"sampler_correction": "sequence_truncate", "sampler_cap": 1000.0},
    "sequence, cap 2": {"sampler_correction": "sequence_truncate", "sampler_cap": 2.0},
    "sequence mask": {"sampler_correction": "sequence_mask", "sampler_floor": 0.1, "sampler_cap": 10.0},
}


class Table:
    """A policy of completions of `length` tokens, logits `(V,) * (t + 1)` for token t, and a reward of each."""

    def __init__(self, length: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shapes = [(V,) * (t + 1) for t in range(length)]
        self.length = length
        self.logits = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        self.noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        self.rewards = torch.randn((V,) * length, generator=generator, dtype=torch.float64)

    def logprobs(self, logits, ids):
        """(N, length) of completions (N, length)."""
        columns = [
            logits[t].log_softmax(-1)[tuple(ids[:, place] for place in range(t + 1))] for t in range(self.length)
        ]
        return torch.stack(columns, dim=1)

    def gradient(self, loss, logits):
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, logits)])

    def exact(self):
        """The gradient of the expected reward, over all completions."""
        logits = [table.clone().requires_grad_() for table in self.logits]
        every = torch.tensor(list(itertools.product(range(V), repeat=self.length)))
        rewards = self.rewards[tuple(every.T)]
        return self.gradient((self.logprobs(logits, every).sum(1).exp() * rewards).sum(), logits)

    def estimated(self, objective, size, seed):
        """Its estimate by an objective, from completions that a sampler draws whose logits are off by `size`."""
        generator = torch.Generator().manual_seed(seed)
        perturbed = [table + size * noise for table, noise in zip(self.logits, self.noise, strict=True)]
        ids = torch.zeros(COMPLETIONS, 0, dtype=torch.long)
        for t in range(self.length):
            probabilities = (
                perturbed[t].softmax(-1)[tuple(ids.T)] if t else perturbed[0].softmax(-1).expand(len(ids), V)
            )
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            ids = torch.cat([ids, drawn], dim=1)
        logits = [table.clone().requires_grad_() for table in self.logits]
        logprobs = self.logprobs(logits, ids)
        ones = torch.ones_like(ids)
        rewards = self.rewards[tuple(ids.T)][None]
        batch = GroupBatch(
            prompt_ids=torch.zeros(1, 1, dtype=torch.long),
            prompt_mask=torch.ones(1, 1, dtype=torch.long),
            completion_ids=ids,
            completion_mask=ones,
            action_mask=ones,
            sampler_logprobs=self.logprobs(perturbed, ids),
            old_logprobs=logprobs.detach(),
            ref_logprobs=None,
            rewards=rewards,
            advantages=rewards,
            total_sequences=COMPLETIONS,
            total_tokens=ids.numel(),
        )
        loss, figures = objective.loss(batch, logprobs)
        return -self.gradient(loss, logits), figures


def errors(correction: str, length: int, size: float = 0.7) -> list[float]:
    """Relative error of the gradient for each seed; the noise of so many completions is 0.01 to 0.04."""
    objective = PolicyGradient(advantage="none", aggregation="sequence_sum", **CORRECTIONS[correction])
    found = []
    for seed in SEEDS:
        table = Table(length, seed)
        exact = table.exact()
        estimate, _ = table.estimated(objective, size, seed)
        found.append(((estimate - exact).norm() / exact.norm()).item())
    return found


@pytest.mark.parametrize("length", [1, 2])
def test_without_correction_the_gradient_is_biased(length):
    found = errors("none", length)
    assert min(found) > 0.08
    assert sum(found) / len(SEEDS) > 0.2
    assert max(errors("none", length, size=0.0)) < 0.06  # by the sampler, and not by the number of completions


@pytest.mark.parametrize(("correction", "length"), [("TIS", 1), ("sequence", 1), ("sequence", 2)])
def test_weights_with_a_high_cap_remove_the_bias(correction, length):
    assert max(errors(correction, length)) < 0.06


@pytest.mark.parametrize(
    ("correction", "length"),
    [
        ("TIS, cap 2", 1),
        ("IcePop", 1),
        ("TIS", 2),
        ("TIS, cap 2", 2),
        ("IcePop", 2),
        ("sequence, cap 2", 2),
        ("sequence mask", 2),
    ],
)
def test_the_others_reduce_it(correction, length):
    """By bounds, and by tokens where those before them were drawn by the sampler too."""
    mean = sum(errors(correction, length)) / len(SEEDS)
    assert mean < 0.8 * sum(errors("none", length)) / len(SEEDS)


def test_figures_of_what_was_cut():
    table = Table(1, 0)
    ratio = (table.logits[0].log_softmax(-1) - (table.logits[0] + 0.7 * table.noise[0]).log_softmax(-1)).exp()
    share = (table.logits[0] + 0.7 * table.noise[0]).softmax(-1)
    cap = ratio.sort().values[-2:].mean().item()  # between the two largest
    floor = ratio.sort().values[:2].mean().item()
    _, figures = table.estimated(PolicyGradient(sampler_correction="token_truncate", sampler_cap=cap), 0.7, 0)
    assert figures["sampler_truncated"].item() == pytest.approx(share[ratio > cap].sum().item(), abs=0.02)
    assert math.isclose(figures["sampler_weight"].item(), (ratio.clamp(max=cap) * share).sum().item(), abs_tol=0.02)
    objective = PolicyGradient(sampler_correction="token_mask", sampler_cap=cap, sampler_floor=floor)
    _, figures = table.estimated(objective, 0.7, 0)
    outside = share[(ratio > cap) | (ratio < floor)].sum().item()
    assert figures["sampler_masked"].item() == pytest.approx(outside, abs=0.02)
    assert "sampler_truncated" not in figures
