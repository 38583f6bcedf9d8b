from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from agents.objectives import GRPO
from agents.rollout import GroupBatch


def make_batch(prompts=3, group_size=4, length=5, seed=0, reference=True) -> tuple[GroupBatch, torch.Tensor]:
    """Random log-probabilities, lengths and rewards in float64, with garbage in the padding."""
    g = torch.Generator().manual_seed(seed)
    n = prompts * group_size
    lengths = torch.randint(1, length + 1, (n,), generator=g)
    mask = (torch.arange(length)[None] < lengths[:, None]).long()

    def logprobs():
        values = -torch.rand(n, length, generator=g, dtype=torch.float64)
        return torch.where(mask.bool(), values, torch.full_like(values, math.nan))

    rewards = torch.randint(0, 2, (prompts, group_size), generator=g).double()
    batch = GroupBatch(
        prompt_ids=torch.zeros(prompts, 2, dtype=torch.long),
        prompt_mask=torch.ones(prompts, 2, dtype=torch.long),
        completion_ids=torch.zeros(n, length, dtype=torch.long),
        completion_mask=mask,
        action_mask=mask,
        sampler_logprobs=logprobs(),
        old_logprobs=logprobs(),
        ref_logprobs=logprobs() if reference else None,
        rewards=rewards,
        advantages=GRPO().advantages(rewards),
        total_sequences=n,
        total_tokens=int(mask.sum()),
    )
    return batch, logprobs().requires_grad_(True)


def by_hand(batch: GroupBatch, logprobs: torch.Tensor, clip: float, beta: float) -> float:
    """DeepSeekMath eq. 3 in loops."""
    total = 0.0
    for i in range(len(logprobs)):
        advantage = batch.advantages.flatten()[i].item()
        terms = []
        for t in range(int(batch.action_mask[i].sum())):
            ratio = math.exp(logprobs[i, t].item() - batch.old_logprobs[i, t].item())
            surrogate = min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)
            kl = 0.0
            if beta > 0:
                r = math.exp(batch.ref_logprobs[i, t].item() - logprobs[i, t].item())
                kl = r - math.log(r) - 1
            terms.append(surrogate - beta * kl)
        total += sum(terms) / len(terms)
    return -total / len(logprobs)


@pytest.mark.parametrize("beta", [0.0, 0.04, 1.0])
@pytest.mark.parametrize("clip", [0.05, 0.2])
def test_loss_equals_the_formula_in_loops(beta, clip):
    batch, logprobs = make_batch()
    loss, figures = GRPO(clip_range=clip, kl_coef=beta).loss(batch, logprobs)
    assert loss.item() == pytest.approx(by_hand(batch, logprobs, clip, beta), rel=1e-12)
    assert figures["loss"].item() == loss.item()
    assert ("kl" in figures) == (beta > 0)


def test_nothing_in_the_padding_reaches_the_loss_or_the_gradient():
    batch, logprobs = make_batch()  # its padding is NaN
    loss, figures = GRPO().loss(batch, logprobs)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value) for value in figures.values())
    padding = batch.action_mask == 0
    assert padding.any()
    assert logprobs.grad[padding].eq(0).all()
    assert torch.isfinite(logprobs.grad).all()


@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_the_parts_of_a_step_add_up_to_the_whole(beta):
    batch, logprobs = make_batch(prompts=4)
    objective = GRPO(kl_coef=beta)
    whole, figures = objective.loss(batch, logprobs)
    whole_gradient = torch.autograd.grad(whole, logprobs)[0]
    sums = dict.fromkeys(figures, 0.0)
    gradient = torch.zeros_like(logprobs)
    for groups in (torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([3])):
        rows = batch.rows_of(groups)
        part = batch.select_groups(groups, of_step=batch)
        loss, part_figures = objective.loss(part, logprobs[rows, : part.completion_ids.shape[1]])
        gradient += torch.autograd.grad(loss, logprobs)[0]
        for name, value in part_figures.items():
            sums[name] += value.item()
    assert torch.allclose(gradient, whole_gradient, atol=1e-15)
    assert sums == pytest.approx({name: value.item() for name, value in figures.items()})


def test_zero_advantage_groups_add_nothing_without_kl():
    batch, logprobs = make_batch(prompts=2)
    batch = replace(batch, advantages=torch.tensor([[0.0] * 4, [1.0, -1.0, 1.0, -1.0]], dtype=torch.float64))
    whole = torch.autograd.grad(GRPO(kl_coef=0).loss(batch, logprobs)[0], logprobs)[0]
    part = batch.select_groups(torch.tensor([1]), of_step=batch)
    alone = torch.autograd.grad(GRPO(kl_coef=0).loss(part, logprobs[4:, : part.completion_ids.shape[1]])[0], logprobs)[
        0
    ]
    assert torch.allclose(whole, alone, atol=1e-15)
    assert whole[:4].eq(0).all()
    assert whole[4:].abs().sum() > 0


def test_gradient_raises_right_and_lowers_wrong_completions():
    batch, _ = make_batch()
    logprobs = torch.where(batch.action_mask.bool(), batch.old_logprobs, 0.0).requires_grad_(True)
    loss, figures = GRPO(kl_coef=0).loss(batch, logprobs)
    loss.backward()
    for i, advantage in enumerate(batch.advantages.flatten().tolist()):
        for t in range(int(batch.action_mask[i].sum())):
            # descending along the gradient moves a token's log-probability the way of its advantage
            assert math.copysign(1, -logprobs.grad[i, t]) == math.copysign(1, advantage)
    assert figures["clip_fraction"].item() == 0.0


def test_clip_fraction_counts_the_tokens_whose_gradient_is_cut():
    batch, _ = make_batch()
    shift = torch.where(batch.action_mask.bool(), batch.old_logprobs + 0.5, 0.0).requires_grad_(True)
    loss, figures = GRPO(kl_coef=0).loss(batch, shift)
    loss.backward()
    cut = (batch.action_mask == 1) & (shift.grad == 0)
    assert figures["clip_fraction"].item() == pytest.approx(cut.sum().item() / batch.total_tokens)
    assert 0 < figures["clip_fraction"].item() < 1


def test_a_reference_is_needed_only_with_kl():
    batch, logprobs = make_batch(reference=False)
    assert not GRPO(kl_coef=0).needs_reference
    assert GRPO(kl_coef=0).ignores_zero_advantages
    assert not GRPO().ignores_zero_advantages
    assert torch.isfinite(GRPO(kl_coef=0).loss(batch, logprobs)[0])
    assert GRPO().needs_reference
    with pytest.raises(ValueError, match="ref_logprobs"):
        GRPO().loss(batch, logprobs)


@pytest.mark.parametrize(
    "field", [{"clip_range": 0}, {"clip_range": 1.5}, {"kl_coef": -1}, {"eps": 0}, {"deviation": "bessel"}]
)
def test_bad_fields_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        GRPO(**field)
