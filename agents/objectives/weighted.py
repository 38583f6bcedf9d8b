"""Reward-weighted likelihood: imitate what was sampled, the better the more.

The methods import the tensor functions when they are called: the help of the command line reads the fields without
loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agents.validation import check_at_least, check_between, check_positive, check_types

if TYPE_CHECKING:
    from torch import Tensor

    from agents.rollout import GroupBatch

Weights = Literal["linear", "softmax", "rank", "rejection"]


@dataclass(frozen=True, slots=True)
class WeightedLikelihood:
    """`L = -mean over prompts of sum_i w_i log pi(y_i | x)`; no critic, no baseline, no negative weight.

    `w` are a group's weights, between 0 and 1 with sum 1, or all 0 where there is nothing to imitate:

    - linear: `R_i / sum R`, negative rewards counting as 0.
    - softmax: `exp(alpha R_i) / sum exp(alpha R)` (reward-weighted regression, Peters and Schaal 2007; on language
      models AWR, arXiv:1910.00177, without its critic).
    - rank: in proportion to how many others of the group a completion beats, a tie counting half.
    - rejection: equal among the kept ones (RAFT, arXiv:2304.06767; ReST, arXiv:2308.08998).

    Equal rewards: equal weights 1 / G with softmax and rank, and with the other two where the reward is above 0 (or the
    threshold); zeros otherwise. So softmax and rank imitate a group that is wrong throughout, linear and rejection
    leave it out.
    """

    weights: Weights = "linear"
    """How rewards become weights: in proportion (linear), by exp(alpha R) (softmax), by rank,
    or equal among the best (rejection)."""
    alpha: float = 1.0
    """The inverse temperature of softmax weights."""
    keep: int | None = None
    """How many of a group rejection keeps; ties at the edge share what is left. None: all above the threshold."""
    threshold: float | None = 0.0
    """Rejection keeps only completions with a reward above it. None: no threshold."""
    likelihood: Literal["sum", "mean"] = "sum"
    """Whether a completion's log-likelihood is the sum or the mean over its tokens."""
    clip_range: float | None = None
    """Half-width of PPO's clipping around ratio 1;
    where it is given, the log-likelihood gives way to the clipped ratio of each token."""
    kl_coef: float = 0.0
    """Weight of the KL penalty (k3, mean over each completion's tokens) to the frozen reference; at 0 none is kept."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "alpha")
        check_at_least(self, 1, "keep")
        check_at_least(self, 0, "kl_coef")
        check_between(self, "clip_range")
        if self.weights == "rejection" and self.keep is None and self.threshold is None:
            raise ValueError("rejection needs keep or threshold: with neither it rejects nothing")

    @property
    def needs_reference(self) -> bool:
        """Whether there is a KL penalty."""
        return self.kl_coef > 0

    @property
    def ignores_zero_advantages(self) -> bool:
        """Whether there is no KL penalty, which pulls at groups without weights as well."""
        return self.kl_coef == 0

    @property
    def shapes_rewards(self) -> bool:
        """False."""
        return False

    def shape_rewards(self, batch: GroupBatch) -> Tensor:
        """(P, G) rewards, unchanged."""
        return batch.rewards

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards to (P, G) weights."""
        from agents.objectives import weights

        if self.weights == "linear":
            return weights.linear_weights(rewards)
        if self.weights == "softmax":
            return (self.alpha * rewards).softmax(dim=1)
        if self.weights == "rank":
            return weights.rank_weights(rewards)
        return weights.rejection_weights(rewards, self.keep, self.threshold)

    def loss(self, batch: GroupBatch, logprobs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of (part of) an optimizer step, and its figures, as `Objective.loss` defines them.

        Raises:
            ValueError: There is a KL penalty and the batch has no reference log-probabilities.
        """
        from agents.objectives import ops

        weights = batch.advantages.flatten()[:, None]  # (N, 1)
        mask = batch.action_mask
        logprobs = ops.fill_padding(logprobs, mask)
        figures = {}
        if self.clip_range is None:
            per_token = -weights * logprobs
        else:
            ratio = ops.bounded_exp(logprobs - ops.fill_padding(batch.old_logprobs, mask))
            per_token = -ops.clipped_surrogate(ratio, weights, self.clip_range)
            cut = (ratio - 1).gt(self.clip_range) & weights.gt(0)
            figures["clip_fraction"] = ops.token_mean(cut.float(), mask, batch.total_tokens)
        if self.likelihood == "sum":
            loss = ops.masked_sum(per_token, mask) / batch.total_sequences
        else:
            loss = ops.mean_of_sequence_means(per_token, mask, batch.total_sequences)
        loss = loss * batch.group_size  # weights add up to 1 in a group: the mean is over prompts
        if self.needs_reference:
            if batch.ref_logprobs is None:
                raise ValueError("kl_coef is positive, but the batch has no ref_logprobs")
            kl = ops.kl_estimate(logprobs, ops.fill_padding(batch.ref_logprobs, mask))
            loss = loss + self.kl_coef * ops.mean_of_sequence_means(kl, mask, batch.total_sequences)
            figures["kl"] = ops.token_mean(kl.detach(), mask, batch.total_tokens)
        figures["loss"] = loss.detach()
        return loss, figures
