"""The protocol of a rollout engine, and what it needs of a policy."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from agents.decoders import LlamaLikeDecoder
from agents.rollout import Completion, SamplingParams


class GenerativePolicy(Protocol):
    """What an engine uses of a policy."""

    model: Any
    """A transformers model with a language-model head."""
    device: torch.device
    decoder: LlamaLikeDecoder | None
    """The fast form of the model, or None."""

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a completion."""
        ...

    @property
    def pad_token_id(self) -> int:
        """What padding is filled with."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; what stop strings are looked for in."""
        ...

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        ...


class RolloutEngine(Protocol):
    """Generates groups of completions from token ids."""

    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, generator: torch.Generator
    ) -> list[list[Completion]]:
        """Draw `group_size` completions for each prompt.

        Args:
            prompt_ids: P prompts.
            group_size: G.
            sampling: How to draw.
            generator: The only source of randomness, on the engine's device.

        Returns:
            P lists of G completions.
        """
        ...

    def sync_weights(self, policy: GenerativePolicy) -> None:
        """Take over the policy's weights after an update; nothing to do where the engine runs its model itself."""
        ...
