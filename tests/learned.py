"""Learning that must have moved the weights: a comparison of weights afterwards says nothing if no update did."""

from __future__ import annotations

from typing import Any

import torch


def weights_of(agent: Any) -> torch.Tensor:
    """A copy of all parameters of an agent's policy, in one row."""
    return torch.cat([parameter.detach().flatten().clone() for parameter in agent.policy.model.parameters()])


def weights_learned(agent: Any, total_episodes: int, callbacks: Any = None) -> torch.Tensor:
    """Let the agent learn, and return its weights.

    Raises:
        AssertionError: They are what they were.
    """
    before = weights_of(agent)
    agent.learn(total_episodes, callbacks)
    after = weights_of(agent)
    assert not torch.equal(after, before), "no update moved the weights, so that a comparison of them tests nothing"
    return after
