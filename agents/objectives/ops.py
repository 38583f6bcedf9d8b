"""Pure tensor functions that objectives are made of: no model, no state, no randomness.

Shapes: `P` prompts, `G` completions per prompt, `N = P * G` sequences, `T` tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Deviation = Literal["sample", "population"]


def group_advantages(rewards: Tensor, deviation: Deviation = "sample", eps: float = 1e-4) -> Tensor:
    """Standardize each prompt's rewards: `(r - mean) / (std + eps)` (DeepSeekMath, arXiv:2402.03300, section 4.1.2).

    The paper does not say which deviation. Rewards `[1, 0, 0, 1]` give +-0.866 with the sample deviation (divisor
    G - 1, torch's default and TRL's) and +-1 with the population's (divisor G).

    Args:
        rewards: (P, G).
        deviation: Divisor of the variance, G - 1 (`"sample"`) or G (`"population"`).
        eps: Added to the deviation, so that a group of equal rewards gives zeros and no NaN.

    Returns:
        (P, G).

    Raises:
        ValueError: The sample deviation of a group of one is undefined.
    """
    if deviation == "sample" and rewards.shape[1] < 2:
        raise ValueError("the sample deviation needs groups of at least 2 completions; use a larger group_size")
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    std = rewards.std(dim=1, keepdim=True, correction=1 if deviation == "sample" else 0)
    return centred / (std + eps)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """PPO's pessimistic bound `min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)` (arXiv:1707.06347, eq. 7), elementwise.

    The minimum makes clipping one-sided: a gain beyond the range stops counting, a loss beyond it counts in full.

    Args:
        ratio: pi / pi_old.
        advantages: Broadcastable to `ratio`.
        clip_range: eps.

    Returns:
        The objective to maximize, in the shape of `ratio`.
    """
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return torch.minimum(ratio * advantages, clipped * advantages)


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Per-token estimate of KL(pi || pi_ref): `r - log r - 1`, r = pi_ref / pi (DeepSeekMath, arXiv:2402.03300, eq. 4).

    Unbiased for tokens drawn from pi, and never negative (Schulman 2020, "Approximating KL divergence", estimator k3).

    Returns:
        Nats, in the shape of the arguments.
    """
    log_ratio = ref_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def mean_of_sequence_means(values: Tensor, mask: Tensor, total_sequences: int) -> Tensor:
    """Average over the tokens of each sequence, then over sequences (DeepSeekMath, arXiv:2402.03300, eq. 3).

    Args:
        values: (N, T).
        mask: (N, T), 1 on the tokens that count; a sequence without any counts as 0.
        total_sequences: The divisor; N, or more where this is part of a larger step.

    Returns:
        A scalar.
    """
    mask = mask.to(values.dtype)
    per_sequence = (values * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return per_sequence.sum() / total_sequences


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the tokens where the mask is 1; a scalar."""
    return (values * mask.to(values.dtype)).sum()
