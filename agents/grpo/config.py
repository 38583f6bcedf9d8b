"""`GRPOConfig`, apart from the agent so that the command line can show it without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.validation import check_at_least, check_fraction, check_positive, check_types


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """How a GRPO agent collects and updates; what it optimizes is the objective's."""

    prompts_per_update: int = 32
    """P: how many problems are drawn for each update."""
    group_size: int = 8
    """G: how many completions are sampled for each problem."""
    epochs: int = 2
    """How many times an update goes through its batch."""
    minibatches: int = 2
    """Into how many optimizer steps each epoch is split (whole groups each).
    With one epoch of one minibatch the probability ratio is 1 everywhere and clipping never acts."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW.
    3e-4 suits builtin/tiny; models of 100 million parameters and more want 1e-6 to 1e-5, adapters about 1e-4."""
    warmup_updates: int = 5
    """Updates over which the learning rate rises linearly from 0."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """How the learning rate falls after the warm-up, over all updates of the run."""
    final_lr_fraction: float = 0.1
    """The learning rate at the end, as a fraction of the peak (not used by `constant`)."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw, or adamw8bit, whose moments take 8 bits each (needs bitsandbytes)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this Euclidean norm."""
    temperature: float = 1.0
    """Sampling temperature of training; log-probabilities are taken at the same one."""
    top_k: int | None = None
    """Sample only from the k most probable tokens.
    As in other trainers, the update sees log-probabilities of the whole distribution;
    the old ones are then the policy's own and not the sampler's."""
    top_p: float = 1.0
    """Sample only from the most probable tokens that have this probability together (nucleus sampling).
    The update treats it as top_k."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; they are part of it."""
    max_completion_tokens: int = 64
    """A completion is cut at this length and counts as truncated."""
    too_long: Literal["error", "skip", "truncate"] = "error"
    """Of a prompt that leaves no room for a completion in the model's context:
    it ends the run, of a finite set before it begins (error),
    gives way to another problem (skip),
    or loses its beginning (truncate)."""
    micro_batch_size: int = 256
    """Completions per forward and backward pass (at least one group).
    It bounds memory and does not change the gradient, with bfloat16 weights up to the rounding of its sums."""
    micro_batch_tokens: int | None = None
    """Tokens per forward and backward pass (at least one group), in place of micro_batch_size:
    prompts once for each group, completions, and padding where the model computes it.
    None: micro_batch_size counts."""
    reference_device: Literal["policy", "cpu"] = "policy"
    """Where the frozen reference of a KL penalty is kept and computes: beside the policy, or on the CPU,
    which saves a GPU the room of a second model and takes longer. Adapters need no second model."""
    max_refills: int = 0
    """Dynamic sampling (DAPO, arXiv:2503.14476, eq. 11):
    how often an update may sample another P problems until it has P groups whose rewards differ;
    what is missing after that is made up of the other groups.
    Only episodes that are learned from count. 0: no more are sampled."""
    max_staleness: Literal[0, 1] = 0
    """1: the next batch is generated while this one is learned from, by weights that are then one update old.
    Importance weights correct for that (sampler_correction), so it is for objectives that have them,
    and for engines in another process (a vLLM server)."""
    mask_truncated: bool = False
    """Overlong filtering (DAPO, section 3.4): completions that were cut at the token limit stay out of the loss."""
    overlong_buffer: int = 0
    """Soft overlong penalty (DAPO, eq. 13):
    over this many tokens below the limit the reward that is learned from falls by up to 1; 0 is no penalty.
    The paper's own rewards are 1 and -1: on rewards of 1 and 0 it weighs twice as much."""
    kl_target: float | None = None
    """Adaptive KL penalty (arXiv:1909.08593, section 2.2): after each update the objective's kl_coef rises or falls,
    so that the estimated KL divergence to the reference comes to this, in nats per token. None: it stays."""
    kl_gain: float = 0.1
    """How fast it adapts: an update changes kl_coef by at most 0.2 times this."""

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "prompts_per_update", "epochs", "minibatches", "max_completion_tokens")
        check_at_least(self, 1, "micro_batch_size", "micro_batch_tokens", "top_k")
        check_at_least(self, 0, "warmup_updates", "weight_decay", "max_refills", "overlong_buffer")
        check_positive(self, "learning_rate", "max_grad_norm", "temperature", "kl_target")
        check_fraction(self, "top_p", "kl_gain")
        if self.group_size < 2:
            raise ValueError(
                f"group_size must be at least 2, got {self.group_size}: a group of one has nothing to be compared with"
            )
        if self.max_staleness > 0 and (self.top_k is not None or self.top_p < 1):
            raise ValueError(
                f"max_staleness={self.max_staleness} weighs tokens by what two policies say of them, and top_k and "
                f"top_p leave the sampler a part of its distribution: leave them out, got top_k={self.top_k} and "
                f"top_p={self.top_p}"
            )
        if self.minibatches > self.prompts_per_update:
            raise ValueError(
                f"minibatches ({self.minibatches}) must not exceed prompts_per_update ({self.prompts_per_update}): "
                "a minibatch holds whole groups"
            )
        if not all(self.stop):
            raise ValueError(f"stop must be a tuple of texts that are not empty, got {self.stop!r}")
        if not 0 <= self.final_lr_fraction <= 1:
            raise ValueError(f"final_lr_fraction must be between 0 and 1, got {self.final_lr_fraction}")
        if self.overlong_buffer > self.max_completion_tokens:
            raise ValueError(
                f"overlong_buffer ({self.overlong_buffer}) must not exceed max_completion_tokens "
                f"({self.max_completion_tokens}): it is the last part of it"
            )

    @property
    def episodes_per_update(self) -> int:
        """N = P * G."""
        return self.prompts_per_update * self.group_size
