"""What a batch of episodes says about the policy that sampled them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from agents.rollout import Rollout


def rollout_metrics(rollouts: Sequence[Rollout], group_size: int) -> dict[str, float]:
    """What a batch of episodes, the G of one prompt next to each other, says about the policy that sampled them."""
    n = len(rollouts)
    rewards = torch.tensor([rollout.reward for rollout in rollouts]).view(-1, group_size)
    tokens = sum(rollout.num_tokens for rollout in rollouts)
    metrics = {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(correction=0).item(),
        "accuracy": sum(rollout.correct for rollout in rollouts) / n,
        # the groups that a group-relative advantage can learn from
        "informative_groups": (rewards != rewards[:, :1]).any(dim=1).float().mean().item(),
        "entropy": -sum(sum(rollout.completion.logprobs) for rollout in rollouts) / tokens,
        "completion_tokens": tokens / n,
        "truncated": sum(rollout.completion.truncated for rollout in rollouts) / n,
    }
    if any(rollout.turns > 1 for rollout in rollouts):
        metrics["turns"] = sum(rollout.turns for rollout in rollouts) / n
    outcomes = Counter(rollout.outcome for rollout in rollouts if rollout.outcome)
    metrics |= {f"outcome/{outcome}": count / n for outcome, count in sorted(outcomes.items())}
    for name in sorted({name for rollout in rollouts for name in rollout.metrics}):
        values = [rollout.metrics[name] for rollout in rollouts if name in rollout.metrics]
        metrics[f"metric/{name}"] = sum(values) / len(values)
    return metrics
