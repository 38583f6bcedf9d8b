"""Log-ratios beyond what float32 can exponentiate: losses and gradients stay finite, and what is clipped stays it."""

from __future__ import annotations

import importlib.util
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.objectives import GRPO, PRESETS, RLOO, PolicyGradient, WeightedLikelihood, ops


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_batch = load("test_presets").make_batch

OBJECTIVES = {
    **{name: preset() for name, preset in PRESETS.items()},
    **{f"{name} and kl": preset(kl_coef=0.1) for name, preset in PRESETS.items()},
    "dual clip": PolicyGradient(dual_clip=3.0),
    "dual clip of a sequence": PolicyGradient(dual_clip=3.0, ratio="sequence"),
    "clip high": PolicyGradient(clip_high=5.0, ratio="sequence"),
    "unbiased k3": GRPO(kl_unbiased=True),
    "unbiased k1": GRPO(kl_unbiased=True, kl_estimator="k1"),
    "k3 in the reward": GRPO(kl_estimator="k3", kl_in="reward"),
    "entropy": GRPO(entropy_coef=0.1),
    "token_truncate": PolicyGradient(sampler_correction="token_truncate"),
    "token_mask": PolicyGradient(sampler_correction="token_mask"),
    "sequence_truncate": PolicyGradient(sampler_correction="sequence_truncate"),
    "sequence_mask": RLOO(sampler_correction="sequence_mask"),
    "cispo of a sequence": PolicyGradient(surrogate="cispo", ratio="sequence"),
    "soft gate of a sequence": PolicyGradient(surrogate="soft_gate", ratio="sequence"),
    "gamma by token": PolicyGradient(surrogate="gamma", ratio="token"),
    "weighted and clipped": WeightedLikelihood(clip_range=0.2),
}
TENSORS = ("sampler_logprobs", "old_logprobs", "ref_logprobs", "rewards")


def in_float32(batch):
    return replace(batch, **{name: getattr(batch, name).float() for name in TENSORS})


extreme = st.sampled_from([-1e4, -300.0, -89.0, -20.0, -0.1, 0.0, 0.1, 20.0, 88.8, 300.0, 1e4])


@pytest.mark.parametrize("name", OBJECTIVES)
@settings(max_examples=40, deadline=None)
@given(policy=extreme, reference=extreme, sampler=extreme, advantage=st.sampled_from([-1.5, 0.0, 1.5, None]))
def test_losses_and_gradients_are_finite(name, policy, reference, sampler, advantage):
    objective = OBJECTIVES[name]
    batch, _ = make_batch(objective)
    batch = in_float32(batch)
    row = torch.arange(batch.old_logprobs.shape[1]) % 2 == 0  # every second token, so that both kinds meet
    batch = replace(
        batch,
        ref_logprobs=torch.where(row, batch.old_logprobs - reference, batch.ref_logprobs),
        sampler_logprobs=torch.where(row, batch.old_logprobs - sampler, batch.sampler_logprobs),
    )
    advantages = objective.advantages(objective.shape_rewards(batch))
    assert advantages.isfinite().all()
    if advantage is not None:
        advantages = torch.full_like(advantages, advantage)
    batch = replace(batch, advantages=advantages)
    logprobs = torch.where(row, batch.old_logprobs + policy, batch.old_logprobs).requires_grad_()
    loss, figures = objective.loss(batch, logprobs)
    assert loss.isfinite()
    assert all(value.isfinite() for value in figures.values())
    loss.backward()
    assert logprobs.grad.isfinite().all()
    assert logprobs.grad[batch.action_mask == 0].eq(0).all()


def of_one(objective, log_ratio, advantage, tokens):
    """Loss and gradient of a single completion with the same log-ratio at each token."""
    batch, _ = make_batch(objective, prompts=1, group_size=2, length=tokens)
    mask = torch.ones(2, tokens, dtype=torch.long)
    zeros = torch.zeros(2, tokens)
    batch = replace(
        batch,
        completion_ids=mask,
        completion_mask=mask,
        action_mask=mask,
        sampler_logprobs=zeros,
        old_logprobs=zeros,
        ref_logprobs=zeros,
        advantages=torch.tensor([[advantage, 0.0]]),
        total_tokens=2 * tokens,
        token_limit=tokens,
    )
    logprobs = torch.full((2, tokens), log_ratio, requires_grad=True)
    loss, _ = objective.loss(batch, logprobs)
    loss.backward()
    return loss.item(), logprobs.grad


@pytest.mark.parametrize("log_ratio", [0.1, 0.3, 5.0])
def test_a_thousand_tokens_beyond_the_clip_are_clipped(log_ratio):
    loss, gradient = of_one(RLOO(kl_coef=0.0), log_ratio, 2.0, tokens=1000)
    assert loss == pytest.approx(-1.2 * 2.0 / 2)
    assert gradient.eq(0).all()


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("log_ratio", [90.0, 1e3])
def test_dual_clip_bounds_what_no_float32_holds(ratio, log_ratio):
    loss, gradient = of_one(PolicyGradient(dual_clip=3.0, ratio=ratio), log_ratio, -2.0, tokens=4)
    assert loss == pytest.approx(3.0 * 2.0 / 2)
    assert gradient.eq(0).all()


def test_what_nothing_clips_still_pushes_back():
    """A < 0 without a dual clip: the loss is bounded, its gradient keeps its direction."""
    loss, gradient = of_one(RLOO(kl_coef=0.0), 0.1, -2.0, tokens=1000)
    assert 0 < loss < float("inf")
    assert gradient[0].gt(0).all()
    assert gradient[1].eq(0).all()


def test_the_bound_is_beyond_what_is_computed_exactly():
    values = torch.linspace(-30, ops.MAX_LOG_RATIO, 101, dtype=torch.float64, requires_grad=True)
    bounded = ops.bounded_exp(values)
    assert torch.equal(bounded, values.exp())
    [gradient] = torch.autograd.grad(bounded.sum(), values)
    assert torch.equal(gradient, values.exp())


def test_every_preset_is_among_them():
    assert set(PRESETS) <= set(OBJECTIVES)
    assert {f.name for f in fields(PolicyGradient)} >= {"dual_clip", "sampler_correction"}
