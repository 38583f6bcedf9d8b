from __future__ import annotations

import math

import pytest
import torch

from agents.objectives import ops
from agents.objectives.ops import clipped_surrogate, group_advantages, kl_k3, masked_sum, mean_of_sequence_means


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# -- advantages ------------------------------------------------------------------------------------------------------


def test_worked_example_eight_completions_four_right():
    rewards = tensor([1, 0, 0, 1, 1, 0, 1, 0])
    assert rewards.mean().item() == 0.5
    assert rewards.std().item() == pytest.approx(0.53, abs=0.005)
    expected = [0.94 if r else -0.94 for r in rewards[0].tolist()]
    assert group_advantages(rewards).flatten().tolist() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("deviation", "size"), [("sample", 0.866), ("population", 1.0)])
def test_the_two_deviations(deviation, size):
    advantages = group_advantages(tensor([1, 0, 0, 1]), deviation)
    assert advantages.flatten().tolist() == pytest.approx([size, -size, -size, size], abs=5e-4)


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1e6])
@pytest.mark.parametrize("deviation", ["sample", "population"])
def test_equal_rewards_have_zero_advantage_and_no_nan(reward, deviation):
    advantages = group_advantages(tensor([reward] * 8), deviation)
    assert advantages.abs().max().item() < 1e-6


def test_groups_are_standardized_each_by_itself():
    together = group_advantages(tensor([1, 0, 0, 1], [5, 9, 5, 5]))
    apart = torch.cat([group_advantages(tensor([1, 0, 0, 1])), group_advantages(tensor([5, 9, 5, 5]))])
    assert torch.equal(together, apart)
    assert together.mean(dim=1).abs().max().item() < 1e-12


def test_eps_is_added_to_the_deviation():
    rewards = tensor([0.0, 2.0])  # population deviation 1
    assert group_advantages(rewards, "population", eps=1.0).flatten().tolist() == [-0.5, 0.5]


def test_a_group_of_one_has_no_sample_deviation():
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(tensor([1.0]))
    assert group_advantages(tensor([1.0]), "population").item() == 0.0


# -- the clipped surrogate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "old", "clipped_ratio"), [(0.9, 0.5, 1.2), (0.2, 0.5, 0.8), (0.7, 0.5, 1.2), (0.55, 0.5, 1.1)]
)
def test_worked_example_ratios(new, old, clipped_ratio):
    """0.9/0.5 = 1.8 clips to 1.2, 0.2/0.5 = 0.4 to 0.8, 0.7/0.5 = 1.4 to 1.2; 1.1 stays."""
    ratio = tensor(new / old)
    # where the clipped ratio is the pessimistic one, the surrogate is that ratio times the advantage
    advantage = 1.0 if new > old else -1.0
    assert clipped_surrogate(ratio, tensor(advantage), 0.2).item() == pytest.approx(clipped_ratio * advantage)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.8, 1.0, 1.2),  # a gain beyond the range stops counting
        (0.4, 1.0, 0.4),  # a good action that became rarer counts in full
        (1.8, -1.0, -1.8),  # a bad action that became more frequent counts in full: the pessimistic bound
        (0.4, -1.0, -0.8),  # a bad action that became rare stops counting
        (1.0, 1.0, 1.0),
        (1.0, -1.0, -1.0),
        (1.8, 0.0, 0.0),
    ],
)
def test_the_pessimistic_bound_counts(ratio, advantage, expected):
    assert clipped_surrogate(tensor(ratio), tensor(advantage), 0.2).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "flows"),
    [(1.1, 1.0, True), (1.3, 1.0, False), (0.7, 1.0, True), (1.3, -1.0, True), (0.7, -1.0, False)],
)
def test_gradient_stops_only_where_the_gain_is_clipped(ratio, advantage, flows):
    logprob = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    clipped_surrogate(logprob.exp(), tensor(advantage), 0.2).sum().backward()
    assert logprob.grad.item() == pytest.approx(ratio * advantage if flows else 0.0)


# -- KL --------------------------------------------------------------------------------------------------------------


def test_k3_by_hand():
    # pi = 0.5, ref = 0.25: r = 0.5, r - log r - 1 = 0.5 + 0.6931 - 1
    value = kl_k3(tensor(0.5).log(), tensor(0.25).log())
    assert value.item() == pytest.approx(0.5 + math.log(2) - 1)
    assert kl_k3(tensor(0.3).log(), tensor(0.3).log()).item() == 0.0


def test_k3_is_never_negative_and_its_mean_is_the_kl_divergence():
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(torch.randn(6, generator=generator, dtype=torch.float64), 0)
    q = torch.softmax(torch.randn(6, generator=generator, dtype=torch.float64), 0)
    k3 = kl_k3(p.log(), q.log())
    assert (k3 >= 0).all()
    assert (p * k3).sum().item() == pytest.approx((p * (p / q).log()).sum().item())


# -- aggregation -----------------------------------------------------------------------------------------------------


def test_mean_of_sequence_means_weighs_sequences_equally():
    values = tensor([1, 1, 1, 1], [9, 100, 100, 100])
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert mean_of_sequence_means(values, mask, total_sequences=2).item() == pytest.approx((1 + 9) / 2)
    assert mean_of_sequence_means(values, mask, total_sequences=4).item() == pytest.approx((1 + 9) / 4)
    assert masked_sum(values, mask).item() == 4 + 9


def test_a_sequence_without_actions_counts_as_zero():
    assert mean_of_sequence_means(tensor([7.0, 7.0]), torch.tensor([[0, 0]]), 1).item() == 0.0


# -- the other parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewards", [[0.3] * 3 + [0.3 + 1e-7], [1e6] * 3 + [1e6 + 0.06]])
@pytest.mark.parametrize("function", [ops.group_advantages, ops.batch_advantages])
def test_rounding_between_equal_rewards_is_not_blown_up(function, rewards):
    rewards = torch.tensor([rewards])  # float32
    assert function(rewards, eps=1e-12).eq(0).all()
    assert function(rewards, eps=1e-12, floor=0.0).abs().max() > 0.5


def test_leave_one_out_by_hand():
    assert ops.leave_one_out_advantages(tensor([1, 0, 0, 1])).flatten().tolist() == pytest.approx(
        [2 / 3, -2 / 3, -2 / 3, 2 / 3]
    )
    with pytest.raises(ValueError, match="at least 2"):
        ops.leave_one_out_advantages(tensor([1.0]))


def test_batch_advantages_have_mean_zero_and_deviation_one_over_the_batch():
    rewards = tensor([1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 8])
    for baseline in (True, False):
        advantages = ops.batch_advantages(rewards, baseline)
        assert advantages.mean().item() == pytest.approx(0, abs=1e-12)
        assert advantages.std().item() == pytest.approx(1, abs=1e-3)
        assert advantages[1].eq(0).all() == baseline


def test_soft_overlong_penalty_by_hand():
    # DAPO section 4.1: 16384 tokens without penalty, a buffer of 4096 beyond them
    lengths = torch.tensor([1, 16384, 16384 + 1024, 16384 + 2048, 20480, 30000])
    assert ops.soft_overlong_penalty(lengths, 20480, 4096).tolist() == [0, 0, -0.25, -0.5, -1, -1]
    for buffer in (0, 20481):
        with pytest.raises(ValueError, match="buffer"):
            ops.soft_overlong_penalty(lengths, 20480, buffer)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.27, 1.0, 1.27), (1.5, 1.0, 1.28), (0.7, -1.0, -0.8), (2.9, -1.0, -2.9), (7.0, -1.0, -3.0), (7.0, 1.0, 1.28)],
)
def test_clipping_higher_and_dual(ratio, advantage, expected):
    value = clipped_surrogate(tensor(ratio), tensor(advantage), 0.2, 0.28, dual_clip=3.0)
    assert value.item() == pytest.approx(expected)


def test_the_soft_gate_has_the_slope_of_the_ratio_at_one_and_fades():
    ratio = torch.tensor([1.0, 1.0, 30.0], dtype=torch.float64, requires_grad=True)
    advantages = tensor(2.0, -3.0, 2.0)
    ops.soft_gate_surrogate(ratio, advantages, 1.0, 1.05).sum().backward()
    assert ratio.grad.tolist() == pytest.approx([2.0, -3.0, 0.0], abs=1e-9)


def test_cispo_keeps_the_gradient_of_clipped_tokens():
    logprobs = torch.tensor([[math.log(0.9)]], dtype=torch.float64, requires_grad=True)
    ratio = logprobs.exp() / 0.1
    ops.cispo_surrogate(logprobs, ratio, tensor([2.0]), max_ratio=5.0).sum().backward()
    assert logprobs.grad.item() == 10.0


def test_sequence_ratios_by_hand():
    log_ratio = tensor([0.1, 0.3, 9.0])
    mask = torch.tensor([[1, 1, 0]])
    assert ops.mean_log_ratio(log_ratio, mask).item() == pytest.approx(0.2)
    assert ops.sum_log_ratio(log_ratio, mask).item() == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("level", "masked", "expected"),
    [("token", False, [0.5, 2.0]), ("token", True, [0.5, 0.0]), ("sequence", False, [1.5]), ("sequence", True, [1.5])],
)
def test_sampler_weights_by_hand(level, masked, expected):
    old, sampler = tensor([0.2, 0.6]).log(), tensor([0.4, 0.2]).log()  # weights 0.5 and 3, their product 1.5
    weights = ops.sampler_weights(old, sampler, torch.ones(1, 2), level, 2.0, masked)
    assert weights.flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("level", "floor", "expected"),
    [("token", 0.5, [0.5, 3.0]), ("token", 0.6, [0.0, 3.0]), ("sequence", 1.4, [1.5]), ("sequence", 1.6, [0.0])],
)
def test_a_mask_has_a_lower_bound_and_truncation_has_none(level, floor, expected):
    old, sampler = tensor([0.2, 0.6]).log(), tensor([0.4, 0.2]).log()
    weights = ops.sampler_weights(old, sampler, torch.ones(1, 2), level, 5.0, True, floor)
    assert weights.flatten().tolist() == pytest.approx(expected)
    truncated = ops.sampler_weights(old, sampler, torch.ones(1, 2), level, 5.0, False, floor)
    assert truncated.flatten().tolist() == pytest.approx([0.5, 3.0] if level == "token" else [1.5])


def expected_gradient(p_logits, loss_of_logprobs):
    """The exact expectation over all actions of the gradient of a per-token loss at tokens drawn from p."""
    logprobs = torch.log_softmax(p_logits, 0)
    weights = logprobs.exp().detach()  # the probability with which each action is drawn
    return torch.autograd.grad((weights * loss_of_logprobs(logprobs)).sum(), p_logits)[0]


def test_which_kl_estimates_have_the_gradient_of_the_kl_divergence():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.randn(6, generator=generator, dtype=torch.float64), 0)
    p = torch.log_softmax(logits, 0)
    forward = torch.autograd.grad((p.exp() * (p - ref)).sum(), logits, retain_graph=True)[0]
    backward = torch.autograd.grad((ref.exp() * (ref - p)).sum(), logits)[0]
    plain = {k: expected_gradient(logits, lambda x, k=k: ops.kl_estimate(x, ref, k)) for k in ("k1", "k2", "k3")}
    weighted = {
        k: expected_gradient(logits, lambda x, k=k: (x - x.detach()).exp() * ops.kl_estimate(x, ref, k))
        for k in ("k1", "k3")
    }
    assert plain["k1"].abs().max() < 1e-12
    assert torch.allclose(plain["k2"], forward)
    assert torch.allclose(plain["k3"], backward)
    assert not torch.allclose(forward, backward, atol=1e-2)
    assert torch.allclose(weighted["k1"], forward)
    assert torch.allclose(weighted["k3"], forward)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(1.0, 0.5), (1.1, 0.5 * 1.01), (0.9, 0.5 * 0.99), (1.2, 0.5 * 1.02), (50.0, 0.5 * 1.02), (0.0, 0.5 * 0.98)],
)
def test_the_adapted_kl_coefficient_by_hand(kl, expected):
    assert ops.adapted_kl_coef(0.5, kl, target=1.0) == pytest.approx(expected)


def test_the_entropy_estimate_has_the_gradient_of_the_entropy():
    logits = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    p = torch.log_softmax(logits, 0)
    entropy = -(p.exp() * p).sum()
    assert (p.exp() * ops.entropy_estimate(p, p)).sum().item() == pytest.approx(entropy.item())
    exact = torch.autograd.grad(entropy, logits)[0]
    assert torch.allclose(expected_gradient(logits, lambda x: ops.entropy_estimate(x, x.detach())), exact)


def test_aggregations_weigh_tokens_differently():
    values = tensor([1, 1, 1, 1], [9, 100, 100, 100])
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert ops.token_mean(values, mask, 5).item() == pytest.approx(13 / 5)
    assert ops.constant_length_mean(values, mask, 2, 10).item() == pytest.approx(13 / 20)
    assert ops.token_mean(values, 0 * mask, 0).item() == 0.0


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1000.1, -1 / 7])
@pytest.mark.parametrize("size", [3, 7, 8])
@pytest.mark.parametrize("function", [ops.centred_advantages, ops.leave_one_out_advantages, ops.group_advantages])
def test_equal_rewards_have_no_advantage_at_all(function, value, size):
    """The mean of equal numbers is rounded; what is left of the difference would be a step of AdamW."""
    assert function(torch.full((2, size), value)).eq(0).all()
