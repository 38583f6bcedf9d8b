"""The protocol of a rollout engine, and what engines need of a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from agents.forward import PackedModel
from agents.rollout import Completion, SamplingParams


class GenerativePolicy(Protocol):
    """What an engine uses of a policy."""

    model: Any
    """A transformers model with a language-model head."""
    packed_model: PackedModel | None
    """The model for packed tokens, or None where it cannot take them."""
    device: torch.device

    @property
    def computes_in_float32(self) -> bool:
        """Whether all weights and products are float32."""
        ...

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a completion."""
        ...

    @property
    def pad_token_id(self) -> int:
        """What padding is filled with."""
        ...

    def decode(self, ids: Sequence[int], *, with_all_special_tokens: bool = False) -> str:
        """The text of tokens; stop strings are looked for in that with all special tokens."""
        ...

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        ...


def check_request(prompt_ids: list[list[int]], group_size: int) -> None:
    """Refuse what no engine can generate.

    Raises:
        ValueError: There are no prompts, an empty prompt, or `group_size` is not positive.
    """
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    if not prompt_ids or not all(prompt_ids):
        raise ValueError("there must be at least one prompt, and each must have at least one token")


class RolloutEngine(Protocol):
    """Generates groups of completions from token ids.

    An agent calls `sync_weights` when it is made, also from a checkpoint, and after each update.

    An engine may have more. `sleep()` is called at the end of a rollout phase (all turns of a batch, an evaluation),
    and gives back memory that the update needs; `generate` and `sync_weights` take it again. `has_own_weights = True`
    says that it generates with a copy of the weights, and `generates_elsewhere = True` that it does so in another
    process, while this one computes (see `GRPOConfig.max_staleness`).
    """

    @property
    def exact_logprobs(self) -> bool:
        """Whether log-probabilities of completions are the policy's own up to the rounding of float32.

        Where they are not, agents compute those that an update starts from anew.
        """
        ...

    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, seed: int
    ) -> list[list[Completion]]:
        """Draw `group_size` completions for each prompt.

        Args:
            prompt_ids: P prompts.
            group_size: G.
            sampling: How to draw.
            seed: Names the noise, from 0 to 2**63 - 1: equal calls with equal seeds give equal completions.

        Returns:
            P lists of G completions.
        """
        ...

    def sync_weights(self, policy: Any) -> None:
        """Take over the policy's weights; an engine that runs the policy's own model has them.

        Args:
            policy: A `LanguageModelPolicy`; engines of this package ask for no more than `GenerativePolicy`.
        """
        ...
