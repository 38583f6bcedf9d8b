from __future__ import annotations

import pytest
import torch

from agents.rollout import Completion, GroupBatch, Rollout, SamplingParams, position_ids


def rollout(prompt_ids, ids, reward=0.0, outcome="wrong", seed=0):
    completion = Completion(ids, [-0.5] * len(ids), truncated=False)
    return Rollout(seed, "p", prompt_ids, completion, "t", reward, outcome, None, None)


def batch():
    rollouts = [
        rollout([1, 2, 3], [4, 5], 1.0),
        rollout([1, 2, 3], [6], 0.0),
        rollout([7], [8, 9, 10], 0.0),
        rollout([7], [11, 12], 1.0),
    ]
    return GroupBatch.from_rollouts(rollouts, group_size=2, pad_token_id=0)


def test_prompts_are_padded_left_and_completions_right():
    b = batch()
    assert b.prompt_ids.tolist() == [[1, 2, 3], [0, 0, 7]]
    assert b.prompt_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert b.completion_ids.tolist() == [[4, 5, 0], [6, 0, 0], [8, 9, 10], [11, 12, 0]]
    assert b.completion_mask.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert b.action_mask.tolist() == b.completion_mask.tolist()
    assert b.rewards.tolist() == [[1, 0], [0, 1]]
    assert (b.total_sequences, b.total_tokens, b.group_size) == (4, 8, 2)
    assert b.old_logprobs[1].tolist() == [-0.5, 0, 0]


def test_selecting_groups_trims_padding_and_sets_divisors():
    part = batch().select_groups(torch.tensor([1]))
    assert part.prompt_ids.tolist() == [[7]]
    assert part.completion_ids.tolist() == [[8, 9, 10], [11, 12, 0]]
    assert (part.total_sequences, part.total_tokens) == (2, 5)
    whole = batch()
    part = whole.select_groups(torch.tensor([0]), of_step=whole)
    assert part.prompt_ids.tolist() == [[1, 2, 3]]
    assert part.completion_ids.tolist() == [[4, 5], [6, 0]]
    assert (part.total_sequences, part.total_tokens) == (4, 8)


def test_groups_are_kept_in_the_order_asked_for():
    part = batch().select_groups(torch.tensor([1, 0]))
    assert part.rewards.tolist() == [[0, 1], [1, 0]]
    assert part.completion_ids[:, 0].tolist() == [8, 11, 4, 6]


@pytest.mark.parametrize("count", [0, 3])
def test_incomplete_groups_are_refused(count):
    with pytest.raises(ValueError, match=f"got {count} rollouts"):
        GroupBatch.from_rollouts([rollout([1], [2])] * count, group_size=2, pad_token_id=0)


def test_a_group_has_one_prompt():
    with pytest.raises(ValueError, match="rollout 1"):
        GroupBatch.from_rollouts([rollout([1], [2]), rollout([3], [2])], group_size=2, pad_token_id=0)


def test_positions_count_real_tokens():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]]


@pytest.mark.parametrize(("outcome", "reward", "correct"), [("correct", 0.5, True), ("wrong", 1.0, False)])
def test_correct_goes_by_the_outcome(outcome, reward, correct):
    assert rollout([1], [2], reward, outcome).correct is correct


@pytest.mark.parametrize(("reward", "correct"), [(1.0, True), (0.9, False)])
def test_without_an_outcome_full_reward_is_correct(reward, correct):
    assert rollout([1], [2], reward, "").correct is correct


@pytest.mark.parametrize("field", [{"temperature": -0.1}, {"temperature": float("nan")}, {"max_completion_tokens": 0}])
def test_bad_sampling_is_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        SamplingParams(**field)
