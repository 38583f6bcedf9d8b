"""Policy gradients with clipped ratios: one dataclass that picks the parts, and a preset per paper.

docs/objectives.md has the formulas side by side. The methods import the tensor functions when they are called: the help
of the command line reads the fields without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agents.objectives.choices import Deviation, KLEstimator
from agents.validation import check_at_least, check_between, check_positive, check_types

if TYPE_CHECKING:
    from torch import Tensor

    from agents.rollout import GroupBatch

Advantages = Literal["group", "centred", "leave_one_out", "batch", "batch_baseline", "none"]
Ratio = Literal["token", "sequence_mean", "sequence"]
Surrogate = Literal["clip", "cispo", "soft_gate", "gamma"]
Aggregation = Literal["sequence_mean", "token_mean", "constant_length", "sequence_sum"]
SamplerCorrection = Literal["auto", "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True, slots=True)
class PolicyGradient:
    """A surrogate of the probability ratio times an advantage, with a KL penalty; every part is a field.

    Per token `surrogate(ratio, A) - kl_coef * kl + entropy_coef * entropy`, aggregated over the batch. The presets are
    this class with other defaults. Left as it is, it is DeepSeekMath's GRPO without the KL penalty.
    """

    clip_range: float = 0.2
    """How far the probability ratio may fall below 1 and still count; above 1 too, where clip_high is not given."""
    kl_coef: float = 0.0
    """Weight of the KL penalty to the frozen reference; at 0 no reference is kept or evaluated."""
    deviation: Deviation = "sample"
    """Whether rewards are divided by their sample (G - 1) or population (G) deviation."""
    eps: float = 1e-4
    """Added to that deviation."""
    clip_high: float | None = None
    """How far the ratio may rise above 1 and still count; None: clip_range."""
    dual_clip: float | None = None
    """The largest ratio that counts where the advantage is negative; None: no bound."""
    advantage: Advantages = "group"
    """What is made of the rewards: standardized in the group, its mean subtracted (centred),
    the mean of the others subtracted (leave_one_out),
    standardized over the batch without or with the group's mean as baseline (batch, batch_baseline),
    or used unchanged (none)."""
    ratio: Ratio = "token"
    """The probability ratio of each token, the geometric mean of a completion's (sequence_mean),
    or their product (sequence)."""
    surrogate: Surrogate = "clip"
    """PPO's clipped bound; CISPO's clipped and detached weight on the log-probability; SAPO's sigmoid gate;
    VESPO's detached gamma weight of the ratio on the log-probability."""
    aggregation: Aggregation = "sequence_mean"
    """Mean of each completion's mean; mean over all tokens of the step; sum divided by a constant length;
    mean of each completion's sum."""
    constant_length: int | None = None
    """That length, in tokens; None: the longest completion allowed."""
    max_ratio: float = 5.0
    """The ratio at which CISPO's weight is capped."""
    min_ratio: float = 0.0
    """CISPO's smallest weight."""
    tau_pos: float = 1.0
    """Temperature of SAPO's gate where the advantage is positive."""
    tau_neg: float = 1.05
    """Temperature of SAPO's gate elsewhere."""
    k_pos: float = 2.0
    """Power of VESPO's weight where the advantage is not negative."""
    lambda_pos: float = 3.0
    """Decay of VESPO's weight where the advantage is not negative."""
    k_neg: float = 3.0
    """Power of VESPO's weight where the advantage is negative."""
    lambda_neg: float = 2.0
    """Decay of VESPO's weight where the advantage is negative."""
    kl_estimator: KLEstimator = "k3"
    """Which estimate of the KL divergence."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Whether it is a term of the loss, or its sum over the completion is subtracted from the reward."""
    kl_unbiased: bool = False
    """Whether the estimate in the loss is multiplied by the token's probability ratio,
    which makes its gradient that of the KL divergence (DeepSeek-V3.2, arXiv:2512.02556, section 3.1)."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus, estimated from the sampled tokens."""
    sampler_correction: SamplerCorrection = "auto"
    """Importance weights for a sampler that differs from the trainer:
    of each token (TIS, IcePop) or completion,
    truncated at sampler_cap, or masked outside sampler_floor and sampler_cap.
    auto is token_truncate where the engine computes other probabilities than the policy,
    or is one update behind, else none."""
    sampler_cap: float = 2.0
    """The largest of these weights."""
    sampler_floor: float = 0.5
    """The smallest of these weights that a mask lets pass (IcePop has 0.5 with a cap of 5)."""

    def __post_init__(self) -> None:
        check_types(self)
        check_between(self, "clip_range")
        check_at_least(self, 0, "kl_coef", "entropy_coef", "sampler_floor")
        check_positive(self, "eps", "clip_high", "constant_length", "tau_pos", "tau_neg", "sampler_cap")
        check_positive(self, "k_pos", "lambda_pos", "k_neg", "lambda_neg")
        if self.dual_clip is not None and not self.dual_clip > 1 + (self.clip_high or self.clip_range):
            raise ValueError(f"dual_clip must be more than 1 + the upper clipping range, got {self.dual_clip}")
        if self.sampler_correction.endswith("mask") and not self.sampler_floor < self.sampler_cap:
            raise ValueError(
                f"sampler_floor must be below sampler_cap, got {self.sampler_floor} and {self.sampler_cap}"
            )
        if not 0 <= self.min_ratio < self.max_ratio:
            raise ValueError(f"min_ratio must be from 0 to below max_ratio, got {self.min_ratio} and {self.max_ratio}")
        if self.kl_unbiased and self.kl_in == "reward":
            raise ValueError("kl_unbiased needs kl_in='loss': a KL penalty in the reward has no gradient")

    @property
    def needs_reference(self) -> bool:
        """Whether there is a KL penalty."""
        return self.kl_coef > 0

    @property
    def ignores_zero_advantages(self) -> bool:
        """Whether no KL or entropy term is in the loss, which would pull at such groups as well."""
        return self.entropy_coef == 0 and (self.kl_coef == 0 or self.kl_in == "reward")

    @property
    def shapes_rewards(self) -> bool:
        """Whether the KL penalty is part of the rewards."""
        return self.needs_reference and self.kl_in == "reward"

    def shape_rewards(self, batch: GroupBatch) -> Tensor:
        """(P, G) rewards, less the KL penalty where it is part of them."""
        if not self.shapes_rewards:
            return batch.rewards
        from agents.objectives import ops

        old = ops.fill_padding(batch.old_logprobs, batch.action_mask)
        kl = ops.kl_estimate(old, ops.fill_padding(_reference(batch), batch.action_mask), self.kl_estimator)
        per_sequence = (kl * batch.action_mask.to(kl.dtype)).sum(dim=1)
        return batch.rewards - self.kl_coef * per_sequence.view_as(batch.rewards).to(batch.rewards.dtype)

    def advantages(self, rewards: Tensor) -> Tensor:
        """(P, G) rewards of a whole batch to (P, G) advantages."""
        from agents.objectives import ops

        if self.advantage == "group":
            return ops.group_advantages(rewards, self.deviation, self.eps)
        if self.advantage == "centred":
            return ops.centred_advantages(rewards)
        if self.advantage == "leave_one_out":
            return ops.leave_one_out_advantages(rewards)
        if self.advantage == "none":
            return rewards
        return ops.batch_advantages(rewards, self.advantage == "batch_baseline", self.deviation, self.eps)

    def loss(self, batch: GroupBatch, logprobs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of (part of) an optimizer step, and its figures, as `Objective.loss` defines them.

        Raises:
            ValueError: There is a KL penalty and the batch has no reference log-probabilities, or the constant length
                is neither given nor known from the batch.
        """
        from agents.objectives import ops

        advantages = batch.advantages.flatten()[:, None]  # (N, 1)
        mask = batch.action_mask
        # padding holds arbitrary numbers; made equal here so that no inf or NaN of theirs survives the mask
        logprobs = ops.fill_padding(logprobs, mask)
        old_logprobs = ops.fill_padding(batch.old_logprobs, mask)
        log_ratio = self._log_ratio(logprobs - old_logprobs, mask)  # (N, T) or (N, 1)
        surrogate, cut = self._surrogate(logprobs, log_ratio, advantages)
        per_token = -surrogate.expand_as(logprobs)
        figures = {"clip_fraction": ops.token_mean(cut.expand_as(logprobs).float(), mask, batch.total_tokens)}
        correction = self.sampler_correction
        if correction == "auto":
            correction = "none" if batch.sampler_is_exact else "token_truncate"
        if correction != "none":
            level, _, kind = correction.partition("_")
            sampler_logprobs = ops.fill_padding(batch.sampler_logprobs, mask)
            weights = ops.sampler_weights(
                old_logprobs,
                sampler_logprobs,
                mask,
                level,  # type: ignore[arg-type]
                self.sampler_cap,
                masked=kind == "mask",
                floor=self.sampler_floor,
            )
            per_token = per_token * weights
            weights = weights.expand_as(logprobs)
            figures["sampler_weight"] = ops.token_mean(weights, mask, batch.total_tokens)
            name, bound = ("sampler_masked", 0.0) if kind == "mask" else ("sampler_truncated", self.sampler_cap)
            figures[name] = ops.token_mean(weights.eq(bound).float(), mask, batch.total_tokens)
        if self.needs_reference:
            kl = ops.kl_estimate(logprobs, ops.fill_padding(_reference(batch), mask), self.kl_estimator)
            figures["kl"] = ops.token_mean(kl.detach(), mask, batch.total_tokens)
            if self.kl_unbiased:
                kl = kl * ops.bounded_exp(logprobs - old_logprobs)
            if self.kl_in == "loss":
                per_token = per_token + self.kl_coef * kl
        if self.entropy_coef > 0:
            per_token = per_token - self.entropy_coef * ops.entropy_estimate(logprobs, old_logprobs)
        loss = self._aggregate(per_token, mask, batch)
        figures["loss"] = loss.detach()
        return loss, figures

    def _log_ratio(self, log_ratio: Tensor, mask: Tensor) -> Tensor:
        from agents.objectives import ops

        if self.ratio == "sequence_mean":
            return ops.mean_log_ratio(log_ratio, mask)
        if self.ratio == "sequence":
            return ops.sum_log_ratio(log_ratio, mask)
        return log_ratio

    def _surrogate(self, logprobs: Tensor, log_ratio: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """The surrogate, and where clipping has cut it."""
        import torch

        from agents.objectives import ops

        nowhere = torch.zeros_like(log_ratio, dtype=torch.bool)
        if self.surrogate == "gamma":
            weight = ops.gamma_weight(log_ratio, advantages, self.k_pos, self.lambda_pos, self.k_neg, self.lambda_neg)
            return weight * advantages * logprobs, nowhere
        ratio = ops.bounded_exp(log_ratio)
        if self.surrogate == "soft_gate":
            return ops.soft_gate_surrogate(ratio, advantages, self.tau_pos, self.tau_neg), nowhere
        if self.surrogate == "cispo":
            surrogate = ops.cispo_surrogate(logprobs, ratio, advantages, self.max_ratio, self.min_ratio)
            return surrogate, (ratio > self.max_ratio) | (ratio < self.min_ratio)
        high = self.clip_range if self.clip_high is None else self.clip_high
        cut = (ratio - 1).gt(high) & advantages.gt(0) | (1 - ratio).gt(self.clip_range) & advantages.lt(0)
        if self.dual_clip is not None:
            cut = cut | (ratio.gt(self.dual_clip) & advantages.lt(0))
        return ops.clipped_surrogate(ratio, advantages, self.clip_range, high, self.dual_clip), cut

    def _aggregate(self, per_token: Tensor, mask: Tensor, batch: GroupBatch) -> Tensor:
        from agents.objectives import ops

        if self.aggregation == "token_mean":
            return ops.token_mean(per_token, mask, batch.total_tokens)
        if self.aggregation == "sequence_mean":
            return ops.mean_of_sequence_means(per_token, mask, batch.total_sequences)
        if self.aggregation == "sequence_sum":
            return ops.mean_of_sequence_sums(per_token, mask, batch.total_sequences)
        length = self.constant_length or batch.token_limit
        if length is None:
            raise ValueError("constant_length is not given, and the batch does not say how long completions may be")
        return ops.constant_length_mean(per_token, mask, batch.total_sequences, length)


def _reference(batch: GroupBatch) -> Tensor:
    if batch.ref_logprobs is None:
        raise ValueError("kl_coef is positive, but the batch has no ref_logprobs")
    return batch.ref_logprobs


@dataclass(frozen=True, slots=True)
class GRPO(PolicyGradient):
    """Group relative policy optimization (DeepSeekMath, arXiv:2402.03300, eq. 3 and 4).

    Per token `min(ratio A, clip(ratio, 1 - eps, 1 + eps) A) - kl_coef * k3`, averaged over each completion's tokens and
    then over completions. `A` is the completion's standardized reward within its group.

    Departures from the paper: none in the formula; it leaves open how far the ratio may go, and which deviation (sample
    or population) with which epsilon.
    """

    kl_coef: float = 0.04


@dataclass(frozen=True, slots=True)
class DrGRPO(PolicyGradient):
    """GRPO done right (arXiv:2503.20783, section 3.2): `A = r - mean`, and tokens are summed over a constant length.

    Departures from the paper: none known. Its constant is the generation budget, which is what `constant_length=None`
    takes from the agent.
    """

    advantage: Advantages = "centred"
    aggregation: Aggregation = "constant_length"


@dataclass(frozen=True, slots=True)
class DAPO(PolicyGradient):
    """Decoupled clip and dynamic sampling (arXiv:2503.14476, eq. 8): a wider upper clip, token mean, no KL.

    Departures from the paper: the token mean is over the optimizer step, not over each group. Dynamic sampling (eq. 11)
    and the soft overlong penalty (eq. 13) belong to the agent: `GRPOConfig.max_refills` and `overlong_buffer`.
    """

    clip_high: float | None = 0.28
    aggregation: Aggregation = "token_mean"


@dataclass(frozen=True, slots=True)
class RLOO(PolicyGradient):
    """REINFORCE leave-one-out (arXiv:2402.14740, section 2.3): a completion is one action, KL is in the reward.

    `(R_i - mean of the other R) grad log pi(y_i)`, with `R = r - kl_coef * log(pi / pi_ref)` of the whole completion.

    Departures from the paper: the loss is a clipped ratio of whole completions, as in TRL's RLOOTrainer, so that
    several steps on a batch are defined; on the first step its gradient is the paper's. kl_coef is that of its
    appendix C for TL;DR; for the dialogues of Anthropic it has 0.1.
    """

    kl_coef: float = 0.03
    advantage: Advantages = "leave_one_out"
    ratio: Ratio = "sequence"
    kl_estimator: KLEstimator = "k1"
    kl_in: Literal["loss", "reward"] = "reward"


@dataclass(frozen=True, slots=True)
class REINFORCEPlusPlus(PolicyGradient):
    """REINFORCE++ with group baseline (arXiv:2501.03262): advantages are standardized over the batch, k2 in the loss.

    `A = r - mean of the group`, then `(A - mean) / std` over the batch. `advantage="batch"` leaves the baseline out.

    Departures from the paper: its plain variant, without baseline, gives each token the KL penalty of the tokens that
    follow; here a penalty in the reward is one sum per completion. Its advantages are standardized over all tokens, so
    that a long completion weighs more; here over completions. The loss is a token mean over the optimizer step.
    kl_coef is ours: the paper's first version has 0.01, and 0.001 for mathematics, in the reward.
    """

    kl_coef: float = 0.01
    advantage: Advantages = "batch_baseline"
    aggregation: Aggregation = "token_mean"
    kl_estimator: KLEstimator = "k2"


@dataclass(frozen=True, slots=True)
class GSPO(PolicyGradient):
    """Group sequence policy optimization (arXiv:2507.18071, eq. 5 to 7): the ratio is a completion's geometric mean.

    Departures from the paper: none in the formula. With kl_unbiased, the KL estimate of a token is multiplied by that
    token's ratio (DeepSeek-V3.2); TRL takes the completion's.
    """

    clip_range: float = 3e-4
    clip_high: float | None = 4e-4
    ratio: Ratio = "sequence_mean"


@dataclass(frozen=True, slots=True)
class CISPO(PolicyGradient):
    """Clipped importance weights (MiniMax-M1, arXiv:2506.13585, eq. 4 and 5): no token loses its gradient.

    `sg(min(ratio, max_ratio)) A log pi`, a mean over tokens, without KL.

    Departures from the paper: the token mean is over the optimizer step, not over each group; max_ratio, which the
    paper leaves open, is from ScaleRL (arXiv:2510.13786), where 4, 5 and 8 did equally well.
    """

    surrogate: Surrogate = "cispo"
    aggregation: Aggregation = "token_mean"


@dataclass(frozen=True, slots=True)
class SAPO(PolicyGradient):
    """Soft adaptive policy optimization (arXiv:2511.20347, eq. 5 and 6): a sigmoid gate instead of clipping.

    `sigmoid(tau (ratio - 1)) * 4 / tau * A`, steeper (tau_neg) where the advantage is not positive.

    Departures from the paper: none in the formula.
    """

    surrogate: Surrogate = "soft_gate"


@dataclass(frozen=True, slots=True)
class LUSPO(PolicyGradient):
    """Length-unbiased sequence policy optimization (arXiv:2602.05261, eq. 7): GSPO, each completion times its length.

    The geometric mean of a completion's ratios, clipped, summed over its tokens and averaged over completions, so that
    a long completion does not count less for each of its tokens.

    Departures from the paper: none known.
    """

    clip_range: float = 2e-3
    clip_high: float | None = 2.5e-3
    ratio: Ratio = "sequence_mean"
    aggregation: Aggregation = "sequence_sum"


@dataclass(frozen=True, slots=True)
class VESPO(PolicyGradient):
    """Variational sequence-level soft policy optimization (arXiv:2602.10693, eq. 20): a gamma weight, no clipping.

    `sg(exp(lambda) w^k exp(-lambda w)) A log pi` with `w` the product of a completion's ratios, a mean over tokens.

    Departures from the paper: its eq. 20 has `A = r - mean` and the sum over a completion's tokens; as in TRL, `A` is
    also divided by the deviation, and the mean is over the step's tokens. A sampler correction multiplies the weight,
    where TRL multiplies `w` itself. Sections and equations are those of the third version.
    """

    surrogate: Surrogate = "gamma"
    ratio: Ratio = "sequence"
    aggregation: Aggregation = "token_mean"
