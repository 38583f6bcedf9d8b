"""Pure tensor functions that objectives are made of: no model, no state, no randomness.

Shapes: `P` prompts, `G` completions per prompt, `N = P * G` sequences, `T` tokens. A mask is (N, T), 1 on the tokens
that count. Log-probabilities and KL are in nats. Where padding may hold NaN, `fill_padding` makes arguments finite.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agents.objectives.choices import Deviation, KLEstimator

Level = Literal["token", "sequence"]

DEVIATION_FLOOR = 1e-6
"""Times the larger of 1 and the largest reward: a deviation at or below this is rounding, and gives zeros."""
MAX_LOG_RATIO = 20.0
"""Where `bounded_exp` stops growing, in nats: beyond every clip, and far from float32's largest number (e^88.7)."""


# -- advantages ------------------------------------------------------------------------------------------------------


def group_advantages(
    rewards: Tensor, deviation: Deviation = "sample", eps: float = 1e-4, floor: float = DEVIATION_FLOOR
) -> Tensor:
    """Standardize each prompt's rewards: `(r - mean) / (std + eps)` (DeepSeekMath, arXiv:2402.03300, section 4.1.2).

    The paper does not say which deviation. Rewards `[1, 0, 0, 1]` give +-0.866 with the sample deviation (divisor
    G - 1, torch's default and TRL's) and +-1 with the population's (divisor G).

    Args:
        rewards: (P, G).
        deviation: Divisor of the variance, G - 1 (`"sample"`) or G (`"population"`).
        eps: Added to the deviation.
        floor: A group whose deviation is at most `floor * max(1, max |r|)` gets zeros, so that rounding between equal
            rewards is never blown up.

    Returns:
        (P, G).

    Raises:
        ValueError: The sample deviation of a group of one is undefined.
    """
    if deviation == "sample" and rewards.shape[1] < 2:
        raise ValueError("the sample deviation needs groups of at least 2 completions; use a larger group_size")
    std = rewards.std(dim=1, keepdim=True, correction=1 if deviation == "sample" else 0)
    scale = rewards.abs().amax(dim=1, keepdim=True).clamp(min=1)
    return torch.where(std > floor * scale, centred_advantages(rewards, floor) / (std + eps), 0.0)


def centred_advantages(rewards: Tensor, floor: float = DEVIATION_FLOOR) -> Tensor:
    """`r - mean` of each prompt's rewards (Dr. GRPO, arXiv:2503.20783, section 3.2); (P, G) to (P, G).

    A group whose rewards all lie within `floor * max(1, max |r|)` of their mean gets zeros: what is left there is the
    rounding of the mean, which an optimizer that normalizes gradients would make a step of.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    scale = rewards.abs().amax(dim=1, keepdim=True).clamp(min=1)
    return torch.where(centred.abs().amax(dim=1, keepdim=True) > floor * scale, centred, 0.0)


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Reward minus the mean of the *other* rewards of the prompt (RLOO, arXiv:2402.14740, section 2.3).

    Equals `G / (G - 1) * (r - mean)`.

    Args:
        rewards: (P, G).

    Returns:
        (P, G).

    Raises:
        ValueError: A group of one has no others.
    """
    size = rewards.shape[1]
    if size < 2:
        raise ValueError("leaving one out needs groups of at least 2 completions; use a larger group_size")
    return centred_advantages(rewards) * (size / (size - 1))


def batch_advantages(
    rewards: Tensor,
    group_baseline: bool = True,
    deviation: Deviation = "sample",
    eps: float = 1e-4,
    floor: float = DEVIATION_FLOOR,
) -> Tensor:
    """Advantages standardized over the whole batch (REINFORCE++, arXiv:2501.03262).

    With the group baseline this is the paper's "REINFORCE++ w/ baseline": each prompt's mean is subtracted, then
    `(A - mean(A)) / (std(A) + eps)` over all N. Without it, it is plain REINFORCE++: only the second step.

    Args:
        rewards: (P, G), the whole batch: a part of it would have another mean and deviation.
        group_baseline: Whether each prompt's mean is subtracted first.
        deviation: Divisor of the variance, N - 1 or N.
        eps: Added to the deviation.
        floor: As in `group_advantages`, for the deviation of the batch.

    Returns:
        (P, G).

    Raises:
        ValueError: The sample deviation of a single reward is undefined.
    """
    if deviation == "sample" and rewards.numel() < 2:
        raise ValueError("the sample deviation needs a batch of at least 2 completions")
    values = centred_advantages(rewards, floor) if group_baseline else rewards
    std = values.std(correction=1 if deviation == "sample" else 0)
    scale = rewards.abs().max().clamp(min=1)
    return torch.where(std > floor * scale, (values - values.mean()) / (std + eps), 0.0)


def soft_overlong_penalty(lengths: Tensor, limit: int, buffer: int) -> Tensor:
    """What is added to the reward of a long completion (DAPO, arXiv:2503.14476, eq. 13).

    0 up to `limit - buffer` tokens, then falling linearly to -1 at `limit`, and -1 beyond.

    Args:
        lengths: Tokens of each completion, any shape.
        limit: L_max.
        buffer: L_cache, from 1 to `limit`.

    Returns:
        Between -1 and 0, in the shape of `lengths`.

    Raises:
        ValueError: The buffer is not between 1 and the limit.
    """
    if not 1 <= buffer <= limit:
        raise ValueError(f"the buffer must be between 1 and the limit of {limit} tokens, got {buffer}")
    return ((limit - buffer - lengths) / buffer).clamp(-1, 0)


# -- ratios ----------------------------------------------------------------------------------------------------------


def bounded_exp(log_ratio: Tensor) -> Tensor:
    """`exp(log_ratio)`, and `exp(MAX_LOG_RATIO)` above that, with the gradient of a factor of that size.

    Without the bound the ratio is infinite in float32 beyond e^88.7, and its gradient NaN where clipping multiplies it
    by 0. A ratio of e^20 is beyond every clip, so a clipped term is the same; one that nothing clips (A < 0, a KL
    penalty) stays finite, and its gradient still pushes the way it did. verl bounds log-ratios at the same value.
    """
    excess = (log_ratio - MAX_LOG_RATIO).clamp(min=0).detach()
    return (log_ratio - excess).exp()


def fill_padding(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with zeros where the mask is 0, so that no inf or NaN of the padding reaches a sum or a gradient."""
    return torch.where(mask.bool(), values, 0.0)


def mean_log_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Log of GSPO's length-normalized sequence ratio (arXiv:2507.18071, eq. 7): the mean over a sequence's tokens.

    Args:
        log_ratio: (N, T), log pi - log pi_old, finite.
        mask: (N, T).

    Returns:
        (N, 1).
    """
    mask = mask.to(log_ratio.dtype)
    return (log_ratio * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def sum_log_ratio(log_ratio: Tensor, mask: Tensor) -> Tensor:
    """Log of the ratio of the whole sequences' probabilities; (N, T) to (N, 1)."""
    return (log_ratio * mask.to(log_ratio.dtype)).sum(dim=1, keepdim=True)


def sampler_weights(
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    mask: Tensor,
    level: Level,
    cap: float,
    masked: bool,
    floor: float = 0.0,
) -> Tensor:
    """Importance weights `w = pi_old / pi_sampler` for a sampler whose probabilities differ from the trainer's.

    - Truncated, by token: `min(w_t, cap)` (TIS; Yao et al. 2025, "Your efficient RL framework secretly brings you
      off-policy RL training"; truncated importance sampling is Ionides 2008).
    - Masked, by token: `w_t` where `floor <= w_t <= cap`, else 0 (IcePop; Ling team 2025, arXiv:2510.18855, there with
      0.5 and 5).
    - By sequence: the same of `w = prod_t w_t`, one weight for all tokens of a completion (Liu et al. 2025, "When speed
      kills stability: demystifying RL collapse from the training-inference mismatch").

    Without a bound the weight of a sequence makes the expected gradient that of the trainer's policy, and its variance
    grows with the length. The weight of a token leaves out how probable the tokens before it were, so it makes the
    expectation right for completions of one token and closer for longer ones. Bounds trade bias for variance.

    Args:
        old_logprobs: (N, T) of the policy that the update starts from, finite.
        sampler_logprobs: (N, T) that the engine reported, finite.
        mask: (N, T).
        level: One weight for each token, or the product over a sequence's tokens.
        cap: The largest weight.
        masked: Whether larger weights become 0, not the cap.
        floor: The smallest weight that a mask lets pass; truncation has none.

    Returns:
        (N, T) or, at sequence level, (N, 1); without gradient.
    """
    log_weight = old_logprobs - sampler_logprobs
    if level == "sequence":
        log_weight = sum_log_ratio(log_weight, mask)
    weight = bounded_exp(log_weight.detach())
    return torch.where((weight > cap) | (weight < floor), 0.0, weight) if masked else weight.clamp(max=cap)


# -- surrogates, all to be maximized ---------------------------------------------------------------------------------


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    clip_range: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> Tensor:
    """PPO's pessimistic bound `min(ratio A, clip(ratio, 1 - low, 1 + high) A)` (arXiv:1707.06347, eq. 7), elementwise.

    The minimum makes clipping one-sided: a gain beyond the range stops counting, a loss beyond it counts in full. Dual
    clipping bounds that loss, where A < 0, by `dual_clip * A` (Ye et al. 2020, arXiv:1912.09729).

    Args:
        ratio: pi / pi_old.
        advantages: Broadcastable to `ratio`.
        clip_range: low, and high as well where `clip_high` is None.
        clip_high: high (DAPO, arXiv:2503.14476, eq. 10).
        dual_clip: The largest ratio that counts where A < 0, more than 1 + high; None bounds nothing.

    Returns:
        The objective to maximize, in the shape of `ratio`.
    """
    high = clip_range if clip_high is None else clip_high
    clipped = ratio.clamp(1 - clip_range, 1 + high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is None:
        return surrogate
    return torch.where(advantages < 0, torch.maximum(surrogate, dual_clip * advantages), surrogate)


def cispo_surrogate(
    logprobs: Tensor, ratio: Tensor, advantages: Tensor, max_ratio: float, min_ratio: float = 0.0
) -> Tensor:
    """`sg(clip(ratio)) A log pi` (CISPO, MiniMax-M1, arXiv:2506.13585, eq. 4 and 5): clipping never stops a gradient.

    Args:
        logprobs: (N, T), with gradient, finite.
        ratio: pi / pi_old; its gradient is not used.
        advantages: Broadcastable to `ratio`.
        max_ratio: The paper's 1 + eps_high.
        min_ratio: The paper's 1 - eps_low; at 0 there is no lower bound, as in the paper's runs.
    """
    return ratio.detach().clamp(min_ratio, max_ratio) * advantages * logprobs


def soft_gate_surrogate(ratio: Tensor, advantages: Tensor, tau_pos: float, tau_neg: float) -> Tensor:
    """`sigmoid(tau (ratio - 1)) * 4 / tau * A` (SAPO, arXiv:2511.20347, eq. 5 and 6), elementwise.

    At ratio 1 its slope in the ratio is A, that of the unclipped surrogate; it fades smoothly on both sides.

    Args:
        ratio: pi / pi_old.
        advantages: Broadcastable to `ratio`.
        tau_pos: Temperature where A > 0.
        tau_neg: Temperature elsewhere.
    """
    # two numbers would make float32 of it, for every ratio
    tau = torch.where(advantages > 0, torch.full_like(advantages, tau_pos), tau_neg)
    return torch.sigmoid(tau * (ratio - 1)) * 4 / tau * advantages


def gamma_weight(
    log_ratio: Tensor, advantages: Tensor, k_pos: float, lambda_pos: float, k_neg: float, lambda_neg: float
) -> Tensor:
    """VESPO's weight of a completion, `exp(lambda) w^k exp(-lambda w)` (arXiv:2602.10693, section 3.3), 1 at ratio 1.

    It is largest at `w = k / lambda` and falls to 0 on both sides, faster than any power of `w` above.

    Args:
        log_ratio: log w, the log of pi / pi_old of whole completions.
        advantages: Broadcastable to `log_ratio`.
        k_pos: k where A >= 0.
        lambda_pos: lambda where A >= 0.
        k_neg: k elsewhere.
        lambda_neg: lambda elsewhere.

    Returns:
        In the shape of `log_ratio`; without gradient.
    """
    log_ratio = log_ratio.detach()
    positive = advantages >= 0
    k = torch.where(positive, torch.full_like(advantages, k_pos), k_neg)
    lam = torch.where(positive, torch.full_like(advantages, lambda_pos), lambda_neg)
    return torch.exp(lam + k * log_ratio - lam * bounded_exp(log_ratio))


# -- KL and entropy --------------------------------------------------------------------------------------------------


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """Per-token estimates of KL(pi || pi_ref) from tokens drawn from pi (Schulman 2020, "Approximating KL divergence").

    With `d = log pi - log pi_ref`: k1 is `d`, k2 is `d^2 / 2`, k3 is `exp(-d) - 1 + d` (DeepSeekMath, arXiv:2402.03300,
    eq. 4). k1 and k3 are unbiased as values. As losses, differentiated through `logprobs` alone, only k2 has the
    gradient of the KL divergence; k1's is zero in expectation, k3's that of KL(pi_ref || pi). Multiplied by
    `pi / pi_old`, with its gradient, k1 and k3 have the right one.

    Returns:
        In the shape of the arguments.
    """
    difference = logprobs - ref_logprobs
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    # expm1 is exact near 0; its argument is bounded as that of `bounded_exp`
    excess = (-difference - MAX_LOG_RATIO).clamp(min=0).detach()
    return torch.expm1(-difference - excess) + difference


def kl_k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """`kl_estimate` with k3: unbiased for tokens drawn from pi, and never negative."""
    return kl_estimate(logprobs, ref_logprobs, "k3")


def adapted_kl_coef(kl_coef: float, kl: float, target: float, gain: float = 0.1) -> float:
    """The next coefficient of the KL penalty: `kl_coef (1 + gain clip(kl / target - 1, -0.2, 0.2))`.

    Proportional control in log space (Ziegler et al. 2019, arXiv:1909.08593, section 2.2, whose gain is 0.1).

    Args:
        kl_coef: The present one, in reward per nat.
        kl: What the divergence was, in nats.
        target: What it should be, in the same unit.
        gain: K_beta: with 0.1, one update changes the coefficient by at most 2 %.
    """
    return kl_coef * (1 + gain * min(max(kl / target - 1, -0.2), 0.2))


def entropy_estimate(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """Per-token estimate `-(pi / pi_old) log pi` of the entropy of pi, from tokens drawn from pi_old.

    Unbiased as a value and, because of the ratio, in its gradient: `-log pi` alone has a gradient of zero in
    expectation. Noisier than the entropy of the whole distribution, which an objective does not see.
    """
    return -bounded_exp(logprobs - old_logprobs) * logprobs


# -- aggregation -----------------------------------------------------------------------------------------------------


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


def token_mean(values: Tensor, mask: Tensor, total_tokens: int) -> Tensor:
    """Average over all tokens, each weighing the same (DAPO, arXiv:2503.14476, eq. 8); (N, T) to a scalar.

    `total_tokens` is the divisor: the tokens of the whole step. A step without tokens gives 0.
    """
    return masked_sum(values, mask) / max(total_tokens, 1)


def constant_length_mean(values: Tensor, mask: Tensor, total_sequences: int, length: int) -> Tensor:
    """Sum over tokens, divided by `total_sequences * length` (Dr. GRPO, arXiv:2503.20783, section 3.2); a scalar.

    The divisor does not depend on what was written, so that neither short nor long completions are favoured.
    """
    return masked_sum(values, mask) / (total_sequences * length)


def mean_of_sequence_sums(values: Tensor, mask: Tensor, total_sequences: int) -> Tensor:
    """Sum over each sequence's tokens, mean over sequences (LUSPO, arXiv:2602.05261, eq. 7); (N, T) to a scalar."""
    return masked_sum(values, mask) / total_sequences


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the tokens where the mask is 1; a scalar."""
    return (values * mask.to(values.dtype)).sum()
