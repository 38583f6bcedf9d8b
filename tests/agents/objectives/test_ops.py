from __future__ import annotations

import math

import pytest
import torch

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
