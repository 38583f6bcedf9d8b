"""`SB3Config`, apart from the agent so that the command line can show it without loading stable-baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.validation import check_at_least, check_positive, check_types, checked

View = Literal["completion", "token"]
"""What one step of the environment is, as stable-baselines3 sees it."""


@dataclass(frozen=True, slots=True)
class SB3Config:
    """How an `SB3Agent` collects, and what its algorithm is told.

    An update learns from `num_envs * n_steps` steps: completions in the completion view, tokens in the token view.
    """

    num_envs: int | None = None
    """Episodes side by side; by default 128 in the completion view, 64 in the token view."""
    n_steps: int | None = None
    """Steps of each environment per update; by default 1 in the completion view, 64 in the token view."""
    learning_rate: float = 3e-4
    """Peak learning rate, of the language model and the value head."""
    warmup_updates: int = 5
    """Updates over which the learning rate rises linearly from 0."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up, over all updates of the run."""
    final_lr_fraction: float = 0.1
    """The learning rate at the end, as a fraction of the peak (not used by `constant`)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this Euclidean norm."""
    temperature: float = 1.0
    """Sampling temperature of training; log-probabilities are taken at the same one."""
    max_completion_tokens: int = 64
    """A completion is cut at this length and counts as truncated; for the algorithm it is over."""
    max_prompt_tokens: int = 256
    """The longest prompt that fits into an observation."""
    too_long: Literal["error", "skip", "truncate"] = "error"
    """Of a prompt that is longer, or leaves no room for a completion in the model's context:
    it ends the run, of a finite set before it begins (error),
    gives way to another problem (skip),
    or loses its beginning (truncate)."""
    kl_coef: float = 0.0
    """How much `log(pi / pi_ref)` of each token takes off its reward; at 0 no reference is kept."""
    micro_batch_size: int = 256
    """Completions per forward pass outside the optimizer steps, whose size is the algorithm's own `batch_size`."""
    algorithm_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the algorithm under its own names, such as `{"n_epochs": 4}`; they replace our defaults."""

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "num_envs", "n_steps", "max_completion_tokens", "max_prompt_tokens", "micro_batch_size")
        check_at_least(self, 0, "warmup_updates", "kl_coef")
        check_positive(self, "learning_rate", "max_grad_norm", "temperature")
        if not 0 <= self.final_lr_fraction <= 1:
            raise ValueError(f"final_lr_fraction must be between 0 and 1, got {self.final_lr_fraction}")
        for name, least in (("n_epochs", 1), ("batch_size", 1)):
            if name in self.algorithm_kwargs and checked(name, self.algorithm_kwargs[name], int) < least:
                raise ValueError(f"{name} must be at least {least}, got {self.algorithm_kwargs[name]}")
        if taken := set(self.algorithm_kwargs) & OURS:
            raise ValueError(f"algorithm_kwargs must not have {', '.join(sorted(taken))}: the agent sets them itself")


OURS = frozenset(
    {
        "policy",
        "env",
        "n_steps",
        "learning_rate",
        "max_grad_norm",
        "policy_kwargs",
        "seed",
        "device",
        "gamma",
        "verbose",
    }
)
"""Arguments of an algorithm that the agent sets. An episode is one answer: its reward is not discounted, gamma is 1."""
