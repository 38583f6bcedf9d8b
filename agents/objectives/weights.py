"""How the rewards of a group become the weights of its completions in a likelihood; pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_weights(rewards: Tensor) -> Tensor:
    """`R_i / sum R` of each prompt, negative rewards counting as 0; zeros where none is positive. (P, G) to (P, G)."""
    positive = rewards.clamp(min=0)
    total = positive.sum(dim=1, keepdim=True)
    return torch.where(total > 0, positive / torch.where(total > 0, total, 1.0), 0.0)


def rank_weights(rewards: Tensor) -> Tensor:
    """In proportion to the number of others in the group that are worse, a tie counting half; (P, G) to (P, G).

    The best of distinct rewards weighs `2 / G`, the worst 0; a group of one weighs 1.
    """
    size = rewards.shape[1]
    if size == 1:
        return torch.ones_like(rewards)
    difference = rewards[:, :, None] - rewards[:, None, :]
    beaten = difference.gt(0).to(rewards.dtype) + difference.eq(0).to(rewards.dtype) / 2
    return (beaten.sum(dim=2) - 0.5) / (size * (size - 1) / 2)  # without the tie with itself


def rejection_weights(rewards: Tensor, keep: int | None, threshold: float | None) -> Tensor:
    """Equal weights for the best `keep` of each prompt's completions above the threshold, 0 for the others.

    Equal rewards at the edge of the best `keep` share the places that are left, so that the order of the group does not
    matter. A group with fewer above the threshold keeps those; with none it gets zeros.

    Returns:
        (P, G).
    """
    allowed = torch.ones_like(rewards) if threshold is None else rewards.gt(threshold).to(rewards.dtype)
    if keep is not None:
        above = (rewards[:, None, :] > rewards[:, :, None]).sum(dim=2)  # how many are better
        tied = (rewards[:, None, :] == rewards[:, :, None]).sum(dim=2)  # itself included
        allowed = allowed * ((keep - above) / tied).clamp(0, 1)
    total = allowed.sum(dim=1, keepdim=True)
    return torch.where(total > 0, allowed / torch.where(total > 0, total, 1.0), 0.0)
