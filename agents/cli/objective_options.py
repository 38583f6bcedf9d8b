"""The objectives on the command line: a name, and options that replace the defaults of what has that name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from agents.objectives import PRESETS, Objective
from agents.objectives.clipped import Advantages, Aggregation, Ratio, SamplerCorrection, Surrogate
from agents.objectives.ops import Deviation, KLEstimator

ObjectiveName = Literal[
    "grpo",
    "dr-grpo",
    "dapo",
    "rloo",
    "reinforce++",
    "gspo",
    "cispo",
    "sapo",
    "luspo",
    "vespo",
    "weighted-linear",
    "weighted-softmax",
    "weighted-rank",
    "rejection",
]


@dataclass(frozen=True)
class ObjectiveOptions:
    """Fields of the objective; None stands for the objective's own default, which docs/objectives.md lists."""

    clip_range: float | None = None
    """How far the probability ratio may fall below 1 and still count; above 1 too, where --clip-high is not given."""
    clip_high: float | None = None
    """How far the ratio may rise above 1 and still count."""
    dual_clip: float | None = None
    """The largest ratio that counts where the advantage is negative."""
    kl_coef: float | None = None
    """Weight of the KL penalty to the frozen reference; at 0 no reference is kept or evaluated."""
    kl_estimator: KLEstimator | None = None
    """Which estimate of the KL divergence."""
    kl_in: Literal["loss", "reward"] | None = None
    """Whether the KL penalty is a term of the loss or part of the reward."""
    kl_unbiased: bool | None = None
    """Whether the KL term is multiplied by the probability ratio, which makes its gradient unbiased."""
    deviation: Deviation | None = None
    """Whether rewards are divided by their sample (G - 1) or population (G) deviation."""
    eps: float | None = None
    """Added to that deviation."""
    advantage: Advantages | None = None
    """What is made of the rewards."""
    ratio: Ratio | None = None
    """The probability ratio of tokens, or of whole completions: geometric mean or product."""
    surrogate: Surrogate | None = None
    """PPO's clipped bound, CISPO's detached weight, SAPO's gate, or VESPO's gamma weight."""
    aggregation: Aggregation | None = None
    """Mean of each completion's mean, mean over tokens, sum over a constant length, or each completion's sum."""
    constant_length: int | None = None
    """That length, in tokens; by default --max-completion-tokens."""
    max_ratio: float | None = None
    """The ratio at which CISPO's weight is capped."""
    min_ratio: float | None = None
    """CISPO's smallest weight."""
    tau_pos: float | None = None
    """Temperature of SAPO's gate where the advantage is positive."""
    tau_neg: float | None = None
    """Temperature of SAPO's gate elsewhere."""
    k_pos: float | None = None
    """Power of VESPO's weight where the advantage is not negative."""
    lambda_pos: float | None = None
    """Decay of VESPO's weight where the advantage is not negative."""
    k_neg: float | None = None
    """Power of VESPO's weight where the advantage is negative."""
    lambda_neg: float | None = None
    """Decay of VESPO's weight where the advantage is negative."""
    entropy_coef: float | None = None
    """Weight of the entropy bonus."""
    sampler_correction: SamplerCorrection | None = None
    """Importance weights for a sampler that differs from the trainer."""
    sampler_cap: float | None = None
    """The largest of these weights."""
    alpha: float | None = None
    """weighted-softmax: the inverse temperature."""
    keep: int | None = None
    """rejection: how many of a group are kept."""
    threshold: float | None = None
    """rejection: only rewards above it are kept."""
    likelihood: Literal["sum", "mean"] | None = None
    """weighted-*, rejection: log-likelihoods summed or averaged over tokens."""

    def make(self, name: ObjectiveName) -> Objective:
        """The objective of that name with these options.

        Raises:
            ValueError: It has no such option, or the value is not allowed.
        """
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        known = {field.name for field in fields(PRESETS[name]())}  # type: ignore[arg-type]
        if unknown := sorted(set(given) - known):
            options = ", ".join("--" + option.replace("_", "-") for option in unknown)
            raise ValueError(f"the objective {name} has no option {options}")
        return PRESETS[name](**given)
