"""Updates in which no reward says anything: they leave the weights bit for bit as they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agents import Callback, GRPOAgent, GRPOConfig
from agents.objectives import GRPO, PRESETS, RLOO, DrGRPO, PolicyGradient

CONFIG = GRPOConfig(
    prompts_per_update=4, group_size=4, max_completion_tokens=8, learning_rate=1e-2, warmup_updates=0, weight_decay=0.1
)
EQUAL_WITHIN = [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]
MIXED = [[1, 0, 0, 0]] * 4
GROUP_RELATIVE = ("grpo", "dr-grpo", "dapo", "rloo", "reinforce++", "gspo", "cispo", "sapo", "luspo", "vespo")


class Recorder(Callback):
    def __init__(self):
        self.records = []

    def on_update(self, record):
        self.records.append(record)


def agent_with(objective, rounds, **changes):
    """An agent whose groups get these rewards, update by update."""
    agent = GRPOAgent(
        "builtin/tiny", "llm_envs/Arithmetic-v0", objective=objective, config=replace(CONFIG, **changes), device="cpu"
    )
    sample, rounds = agent._sample, iter(rounds)

    def next_round():
        rewards = [reward for group in next(rounds) for reward in group]
        return [replace(rollout, reward=float(reward)) for rollout, reward in zip(sample(), rewards, strict=True)]

    agent._sample = next_round
    return agent


def weights(agent):
    return torch.cat([parameter.detach().flatten().clone() for parameter in agent.policy.model.parameters()])


@pytest.mark.parametrize("reward", [0, 0.1])
@pytest.mark.parametrize("preset", PRESETS)
def test_equal_rewards_move_nothing_with_any_objective(preset, reward):
    agent = agent_with(PRESETS[preset](), [[[reward] * 4] * 4])
    before = weights(agent)
    recorder = Recorder()
    agent.learn(16, recorder)
    assert torch.equal(weights(agent), before)
    assert recorder.records[0].metrics["optimizer_steps"] == 0
    assert not agent.optimizer.state


@pytest.mark.parametrize("preset", GROUP_RELATIVE)
def test_groups_that_agree_within_themselves_move_nothing_where_groups_are_the_baseline(preset):
    agent = agent_with(PRESETS[preset](), [EQUAL_WITHIN])
    before = weights(agent)
    agent.learn(16)
    assert torch.equal(weights(agent), before)


def test_they_do_where_other_prompts_are_the_baseline():
    for objective in (PolicyGradient(advantage="batch"), PRESETS["rejection"](), PRESETS["weighted-linear"]()):
        agent = agent_with(objective, [EQUAL_WITHIN])
        before = weights(agent)
        agent.learn(16)
        assert not torch.equal(weights(agent), before)


@pytest.mark.parametrize("objective", [GRPO(), RLOO(), DrGRPO(), GRPO(entropy_coef=0.01), GRPO(kl_coef=10.0)])
def test_momentum_weight_decay_and_penalties_alone_move_nothing(objective):
    """After updates that have moved the policy away from its reference and filled AdamW's moments."""
    agent = agent_with(objective, [MIXED, [[1] * 4] * 4, EQUAL_WITHIN, MIXED])
    agent.learn(16)
    moved = weights(agent)
    agent.learn(48)
    assert torch.equal(weights(agent), moved)
    agent.learn(64)
    assert not torch.equal(weights(agent), moved)


def test_minibatches_before_the_first_signal_take_no_step():
    """One of four groups differs, and each is a minibatch. Until its turn comes, the policy is the reference."""
    steps = set()
    for place in range(4):
        rewards = [MIXED[0] if group == place else [0] * 4 for group in range(4)]
        recorder = Recorder()
        agent_with(GRPO(), [rewards], minibatches=4, epochs=1).learn(16, recorder)
        steps.add(recorder.records[0].metrics["optimizer_steps"])
    assert steps == {1, 2, 3, 4}  # equal seeds: the groups come in one order


def test_rewards_of_truncated_completions_alone_are_nothing_to_learn():
    """They differ, but are masked; what is left is a KL penalty."""
    agent = agent_with(GRPO(), [MIXED], mask_truncated=True, max_completion_tokens=1)
    before = weights(agent)
    agent.learn(16)
    assert torch.equal(weights(agent), before)


def test_a_reward_that_differs_by_rounding_is_no_signal():
    agent = agent_with(DrGRPO(), [[[0.1, 0.1, 0.1, 0.1 + 1e-8]] * 4])
    before = weights(agent)
    agent.learn(16)
    assert torch.equal(weights(agent), before)
