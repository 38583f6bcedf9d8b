"""Every preset against its slow twin, and what must hold for all of them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from agents.objectives import GRPO, PRESETS, RLOO, PolicyGradient, WeightedLikelihood, name_of
from agents.rollout import GroupBatch


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


twins = load("twins")


def make_batch(objective, prompts=4, group_size=4, length=6, seed=0, spread=0.4):
    """Random float64 log-probabilities near each other, lengths and rewards; NaN in the padding."""
    g = torch.Generator().manual_seed(seed)
    n = prompts * group_size
    lengths = torch.randint(1, length + 1, (n,), generator=g)
    lengths[0] = length
    mask = (torch.arange(length)[None] < lengths[:, None]).long()

    def near(values, by):
        noise = by * torch.randn(n, length, generator=g, dtype=torch.float64)
        return torch.where(mask.bool(), values + noise, torch.full_like(values, torch.nan))

    sampler = near(-2 * torch.ones(n, length, dtype=torch.float64), 0.5)
    old = near(sampler, 0.3)
    rewards = torch.randint(0, 4, (prompts, group_size), generator=g).double() / 2 - 0.5
    rewards[0] = 1.0  # a group without a signal
    batch = GroupBatch(
        prompt_ids=torch.zeros(prompts, 2, dtype=torch.long),
        prompt_mask=torch.ones(prompts, 2, dtype=torch.long),
        completion_ids=torch.zeros(n, length, dtype=torch.long),
        completion_mask=mask,
        action_mask=mask,
        sampler_logprobs=sampler,
        old_logprobs=old,
        ref_logprobs=near(old, 0.3),
        rewards=rewards,
        advantages=torch.zeros_like(rewards),
        total_sequences=n,
        total_tokens=int(mask.sum()),
        token_limit=10,
    )
    batch = replace(batch, advantages=objective.advantages(objective.shape_rewards(batch)))
    return batch, near(old, spread).requires_grad_(True)


TWINS = {
    "grpo": twins.grpo,
    "dr-grpo": partial(twins.dr_grpo, length=10),
    "dapo": twins.dapo,
    "rloo": twins.rloo,
    "reinforce++": twins.reinforce_plus_plus,
    "gspo": twins.gspo,
    "cispo": twins.cispo,
    "sapo": twins.sapo,
    "luspo": twins.luspo,
    "vespo": twins.vespo,
    "weighted-linear": twins.weighted,
    "weighted-softmax": twins.weighted,
    "weighted-rank": twins.weighted,
    "rejection": twins.weighted,
}
ADVANTAGES = {
    "grpo": twins.standardized,
    "dr-grpo": twins.centred,
    "dapo": twins.standardized,
    "rloo": twins.leave_one_out,
    "reinforce++": twins.batch_baseline,
    "gspo": twins.standardized,
    "cispo": twins.standardized,
    "sapo": twins.standardized,
    "luspo": twins.standardized,
    "vespo": twins.standardized,
}
VARIANTS = {
    **{name: preset() for name, preset in PRESETS.items()},
    "dual clip": PolicyGradient(dual_clip=1.5),
    "kl k1": PolicyGradient(kl_coef=0.5, kl_estimator="k1"),
    "unbiased kl": PolicyGradient(kl_coef=0.5, kl_unbiased=True),
    "entropy": PolicyGradient(entropy_coef=0.1),
    "token weights": PolicyGradient(sampler_correction="token_truncate", sampler_cap=1.2),
    "sequence mask": PolicyGradient(sampler_correction="sequence_mask", aggregation="token_mean"),
    "token mask": PolicyGradient(sampler_correction="token_mask", sampler_floor=0.8, sampler_cap=1.3),
    "no advantage": PolicyGradient(advantage="none"),
    "batch": PolicyGradient(advantage="batch"),
    "weighted clip": WeightedLikelihood(clip_range=0.2, kl_coef=0.1, likelihood="mean"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TWINS)
def test_loss_and_gradient_equal_the_papers_formula_in_loops(name, seed):
    objective = PRESETS[name]()
    batch, logprobs = make_batch(objective, seed=seed)
    loss, figures = objective.loss(batch, logprobs)
    expected = TWINS[name](batch, logprobs)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    assert figures["loss"].item() == loss.item()
    gradient, expected_gradient = (torch.autograd.grad(value, logprobs)[0] for value in (loss, expected))
    assert torch.allclose(gradient, expected_gradient.nan_to_num(0.0), rtol=1e-9, atol=1e-12)
    assert gradient.abs().sum() > 0


def test_every_preset_has_a_twin():
    assert set(TWINS) == set(PRESETS)


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_equal_the_formula_in_loops(name):
    objective = PRESETS[name]()
    rewards = make_batch(objective)[0].rewards
    expected = torch.tensor(ADVANTAGES[name](rewards.tolist()), dtype=torch.float64)
    assert torch.allclose(objective.advantages(rewards), expected, atol=1e-12)


def test_clipping_is_exercised():
    objective = PRESETS["dapo"]()
    assert 0 < objective.loss(*make_batch(objective))[1]["clip_fraction"].item() < 1


# cispo and vespo detach their weight on purpose; their gradients are checked against the twins'
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("cispo", "vespo")])
def test_gradients_are_those_of_the_value(name):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective, prompts=2, length=3, seed=1)
    logprobs = torch.where(batch.action_mask.bool(), logprobs, 0.0).detach().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: objective.loss(batch, x)[0], (logprobs,), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("name", VARIANTS)
def test_micro_batches_of_any_size_give_the_gradient_and_the_figures_of_the_whole(name, size):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective)
    loss, figures = objective.loss(batch, logprobs)
    whole = torch.autograd.grad(loss, logprobs)[0]
    parts, sums = torch.zeros_like(logprobs), dict.fromkeys(figures, 0.0)
    for groups in torch.randperm(4, generator=torch.Generator().manual_seed(size)).split(size):
        part = batch.select_groups(groups, of_step=batch)
        loss, part_figures = objective.loss(part, logprobs[batch.rows_of(groups), : part.completion_ids.shape[1]])
        parts += torch.autograd.grad(loss, logprobs)[0]
        for figure, value in part_figures.items():
            sums[figure] += value.item()
    assert torch.allclose(parts, whole, atol=1e-14)
    assert sums == pytest.approx({figure: value.item() for figure, value in figures.items()})


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_in_the_padding_counts(name):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective)  # its padding is NaN
    loss, figures = objective.loss(batch, logprobs)
    gradient = torch.autograd.grad(loss, logprobs)[0]
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert all(torch.isfinite(value) for value in figures.values())
    assert gradient[batch.action_mask == 0].eq(0).all()

    def wider(values):
        return torch.cat([values, torch.ones(len(values), 3, dtype=values.dtype)], dim=1)

    masks = {
        name: torch.cat([getattr(batch, name), torch.zeros(16, 3, dtype=torch.long)], dim=1)
        for name in ("completion_mask", "action_mask")
    }
    values = {name: wider(getattr(batch, name)) for name in ("sampler_logprobs", "old_logprobs", "ref_logprobs")}
    padded, _ = objective.loss(replace(batch, **masks, **values), wider(logprobs))
    assert padded.item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_order_of_a_group_does_not_matter(name):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective)
    order = torch.tensor([2, 0, 3, 1])
    rows = batch.rows_of(torch.arange(4)).view(4, 4)[:, order].flatten()
    fields = ("completion_mask", "action_mask", "sampler_logprobs", "old_logprobs", "ref_logprobs")
    shuffled = replace(
        batch, rewards=batch.rewards[:, order], **{field: getattr(batch, field)[rows] for field in fields}
    )
    shuffled = replace(shuffled, advantages=objective.advantages(objective.shape_rewards(shuffled)))
    assert torch.allclose(shuffled.advantages, batch.advantages[:, order], atol=1e-12)
    expected = objective.loss(batch, logprobs)[0].item()
    assert objective.loss(shuffled, logprobs[rows])[0].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", [*ADVANTAGES, "batch", "weighted-softmax", "weighted-rank"])
def test_a_constant_added_to_all_rewards_changes_nothing(name):
    objective = VARIANTS[name]
    rewards = make_batch(objective)[0].rewards
    assert torch.allclose(objective.advantages(rewards), objective.advantages(rewards + 7), atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_said_of_groups_without_a_signal_is_true(name):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective)
    batch = replace(batch, advantages=torch.zeros_like(batch.advantages))
    gradient = torch.autograd.grad(objective.loss(batch, logprobs)[0], logprobs)[0]
    assert gradient.eq(0).all() == objective.ignores_zero_advantages


@pytest.mark.parametrize("name", ["dr-grpo", "dapo", "rloo", "gspo", "dual clip"])
def test_clip_fraction_is_the_share_of_tokens_without_gradient(name):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective, spread=1.0)
    batch = replace(batch, advantages=torch.where(batch.advantages < 0.1, -1.0, 1.0).double())
    loss, figures = objective.loss(batch, logprobs)
    cut = (torch.autograd.grad(loss, logprobs)[0] == 0) & batch.action_mask.bool()
    assert figures["clip_fraction"].item() == pytest.approx(cut.sum().item() / batch.total_tokens)
    assert cut.any()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_reference_is_asked_for_exactly_where_it_is_read(name):
    objective = VARIANTS[name]
    batch, logprobs = make_batch(objective)
    without = replace(batch, ref_logprobs=None)
    if objective.needs_reference:
        with pytest.raises(ValueError, match="ref_logprobs"):
            objective.loss(without, logprobs)
    else:
        assert objective.loss(without, logprobs)[0].item() == objective.loss(batch, logprobs)[0].item()
        assert objective.shape_rewards(without) is batch.rewards


def test_kl_in_the_reward_is_the_sum_over_the_completion():
    objective = RLOO(kl_coef=0.5)
    batch, _ = make_batch(objective)
    shaped = objective.shape_rewards(batch).flatten()
    for i, (_, tokens) in enumerate(twins.rows(batch, batch.old_logprobs)):
        kl = sum((old - ref).item() for _, old, _, ref in tokens)
        assert shaped[i].item() == pytest.approx(batch.rewards.flatten()[i].item() - 0.5 * kl)


def test_rloo_on_policy_is_reinforce_with_the_mean_of_the_others_as_baseline():
    batch, _ = make_batch(RLOO())
    logprobs = torch.where(batch.action_mask.bool(), batch.old_logprobs, 0.0).requires_grad_(True)
    gradient = torch.autograd.grad(RLOO().loss(batch, logprobs)[0], logprobs)[0]
    expected = -batch.advantages.flatten()[:, None] * batch.action_mask / 16
    assert torch.allclose(gradient, expected, atol=1e-12)


def test_a_truncated_completion_that_is_masked_adds_nothing():
    for objective in VARIANTS.values():
        batch, logprobs = make_batch(objective)
        mask = batch.action_mask.clone()
        mask[5] = 0
        batch = replace(batch, action_mask=mask, total_tokens=int(mask.sum()))
        loss, _ = objective.loss(batch, logprobs)
        assert torch.isfinite(loss)
        assert torch.autograd.grad(loss, logprobs)[0][5].eq(0).all()
        nothing = replace(batch, action_mask=torch.zeros_like(mask), total_tokens=0)
        loss, _ = objective.loss(nothing, logprobs)
        assert loss.item() == 0.0


@pytest.mark.parametrize(
    "field",
    [
        {"clip_range": 0}, {"clip_range": 1}, {"clip_high": 0}, {"dual_clip": 1.1}, {"kl_coef": -1},
        {"entropy_coef": -1}, {"eps": 0}, {"constant_length": 0}, {"tau_pos": 0}, {"tau_neg": -1},
        {"sampler_cap": 0}, {"min_ratio": -1}, {"max_ratio": 0}, {"deviation": "x"}, {"advantage": "x"},
        {"ratio": "x"}, {"surrogate": "x"}, {"aggregation": "x"}, {"kl_estimator": "k4"}, {"kl_in": "x"},
        {"sampler_correction": "x"}, {"sampler_floor": -0.1},
        {"sampler_floor": 2.0, "sampler_correction": "token_mask"},
        {"kl_unbiased": True, "kl_in": "reward"}, {"kl_coef": float("nan")},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        GRPO(**field)


def test_constant_length_must_be_known():
    objective = PRESETS["dr-grpo"]()
    batch, logprobs = make_batch(objective)
    with pytest.raises(ValueError, match="constant_length"):
        objective.loss(replace(batch, token_limit=None), logprobs)


@pytest.mark.parametrize("kl_estimator", ["k1", "k3"])
def test_an_unbiased_kl_takes_each_tokens_ratio_whatever_the_surrogate_takes(kl_estimator):
    """With the completion's ratio, as TRL has it in GSPO, the gradient would not be that of the KL divergence."""
    with_kl = PRESETS["gspo"](kl_coef=0.3, kl_unbiased=True, kl_estimator=kl_estimator)
    batch, logprobs = make_batch(with_kl)
    penalty = with_kl.loss(batch, logprobs)[0] - PRESETS["gspo"]().loss(batch, logprobs)[0]
    expected = 0.0
    for i, mask in enumerate(batch.action_mask):
        tokens = [t for t in range(len(mask)) if mask[t]]
        for t in tokens:
            d = logprobs[i, t] - batch.ref_logprobs[i, t]
            estimate = d if kl_estimator == "k1" else torch.exp(-d) - 1 + d
            expected += estimate * torch.exp(logprobs[i, t] - batch.old_logprobs[i, t]) / len(tokens)
    assert torch.allclose(penalty, 0.3 * expected / len(batch.action_mask))


@pytest.mark.parametrize("name", PRESETS)
def test_an_objective_has_the_name_of_its_preset(name):
    assert name_of(PRESETS[name](kl_coef=0.5)) == name


def test_an_objective_without_a_preset_has_the_name_of_its_class():
    class Mine(GRPO):
        pass

    assert (name_of(PolicyGradient()), name_of(Mine())) == ("PolicyGradient", "Mine")
