"""Clipped surrogates: GRPO."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.objectives.ops import (
    Deviation,
    clipped_surrogate,
    group_advantages,
    kl_k3,
    masked_sum,
    mean_of_sequence_means,
)
from agents.rollout import GroupBatch


@dataclass(frozen=True, slots=True)
class GRPO:
    """Group relative policy optimization (DeepSeekMath, arXiv:2402.03300, eq. 3 and 4).

    Per token `min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) - kl_coef * k3`, averaged over each completion's tokens and
    then over completions. `A` is the completion's standardized reward within its group.

    Departures from the paper: none in the formula; it leaves the deviation (sample or population) and its epsilon open.
    """

    clip_range: float = 0.2
    """Half-width of the interval around 1 in which the probability ratio counts."""
    kl_coef: float = 0.04
    """Weight of the KL penalty to the frozen reference (the paper's beta); at 0 no reference is kept."""
    deviation: Deviation = "sample"
    """Whether a group's rewards are divided by their sample (G - 1) or population (G) deviation."""
    eps: float = 1e-4
    """Added to that deviation."""

    def __post_init__(self) -> None:
        if not 0 < self.clip_range < 1:
            raise ValueError(f"clip_range must be between 0 and 1, got {self.clip_range}")
        if not self.kl_coef >= 0:
            raise ValueError(f"kl_coef must not be negative, got {self.kl_coef}")
        if self.deviation not in ("sample", "population"):
            raise ValueError(f"deviation must be 'sample' or 'population', got {self.deviation!r}")
        if not self.eps > 0:
            raise ValueError(f"eps must be positive, got {self.eps}")

    @property
    def needs_reference(self) -> bool:
        """Whether there is a KL penalty."""
        return self.kl_coef > 0

    @property
    def ignores_zero_advantages(self) -> bool:
        """Whether there is no KL penalty, which pulls at such groups as well."""
        return self.kl_coef == 0

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards, standardized within each row."""
        return group_advantages(rewards, self.deviation, self.eps)

    def loss(self, batch: GroupBatch, logprobs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """See `agents.objectives.Objective.loss`.

        Raises:
            ValueError: There is a KL penalty and the batch has no reference log-probabilities.
        """
        advantages = batch.advantages.flatten()[:, None]  # (N, 1)
        mask = batch.action_mask
        # padding holds arbitrary numbers; made equal here so that no inf or NaN of theirs survives the mask
        log_ratio = torch.where(mask.bool(), logprobs - batch.old_logprobs, 0.0)
        ratio = log_ratio.exp()
        per_token = -clipped_surrogate(ratio, advantages, self.clip_range)  # (N, T)
        acts = (ratio - 1).abs().gt(self.clip_range) & ((ratio - 1) * advantages).gt(0)
        figures = {"clip_fraction": masked_sum(acts.float(), mask) / batch.total_tokens}
        if self.needs_reference:
            if batch.ref_logprobs is None:
                raise ValueError("kl_coef is positive, but the batch has no ref_logprobs")
            kl = kl_k3(torch.where(mask.bool(), logprobs, 0.0), torch.where(mask.bool(), batch.ref_logprobs, 0.0))
            per_token = per_token + self.kl_coef * kl
            figures["kl"] = masked_sum(kl.detach(), mask) / batch.total_tokens
        loss = mean_of_sequence_means(per_token, mask, batch.total_sequences)
        figures["loss"] = loss.detach()
        return loss, figures
