"""`StaticCacheEngine`: lean decoding with the fast form of a Llama-like model and a cache that stays where it is."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.decoders import LlamaLikeDecoder
from agents.engines.base import GenerativePolicy
from agents.engines.completions import GrowingCompletions
from agents.engines.prompt_cache import SharedPromptCache, without_gaps
from agents.engines.sampling import draw_uniforms, sample
from agents.rollout import Completion, SamplingParams

# with fewer tokens to come, preparing the weights costs more than it saves
_PREPARE_FROM = 8


class StaticCacheEngine:
    """Generates with the modules of the policy's model: its weights are always the current ones.

    Args:
        policy: Whose model generates.
        max_rows: How many completions are decoded side by side at most, a bound on memory; more prompts are taken in
            turns.

    Raises:
        ValueError: The policy's model has no fast form, or `max_rows` is not positive.
    """

    def __init__(self, policy: GenerativePolicy, max_rows: int = 1024) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        self._max_rows = max_rows
        self.sync_weights(policy)

    def sync_weights(self, policy: GenerativePolicy) -> None:
        """Use this policy's model from now on."""
        if policy.decoder is None:
            raise ValueError(
                f"{type(policy.model).__name__} has no fast form (agents.decoders.FAMILIES lists those that have); "
                "use CachedEngine, which runs any model with a key-value cache"
            )
        self._policy = policy
        self._decoder = policy.decoder

    @torch.no_grad()
    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, generator: torch.Generator
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`.

        Raises:
            ValueError: There are no prompts, an empty prompt, or `group_size` is not positive.
        """
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {group_size}")
        if not prompt_ids or not all(prompt_ids):
            raise ValueError("there must be at least one prompt, and each must have at least one token")
        at_once = max(1, self._max_rows // group_size)
        uniforms = draw_uniforms(len(prompt_ids) * group_size, sampling, generator)
        groups: list[list[Completion]] = []
        # one autocast for all steps: it casts each weight once, not once a step
        with self._policy.autocast():
            few = sampling.max_completion_tokens < _PREPARE_FROM
            decoder = self._decoder if few else self._decoder.for_rollout()
            for start in range(0, len(prompt_ids), at_once):
                rows = slice(start * group_size, (start + at_once) * group_size)
                part = None if uniforms is None else uniforms[rows]
                groups += self._generate(decoder, prompt_ids[start : start + at_once], group_size, sampling, part)
        return groups

    def _generate(
        self,
        decoder: LlamaLikeDecoder,
        prompt_ids: list[list[int]],
        group_size: int,
        sampling: SamplingParams,
        uniforms: Tensor | None,
    ) -> list[list[Completion]]:
        n = len(prompt_ids) * group_size
        rows = GrowingCompletions(n, sampling, self._policy.end_token_ids, self._policy.decode)
        cache = SharedPromptCache(decoder, prompt_ids, group_size, sampling.max_completion_tokens, self._policy.device)
        hidden = cache.prefill()
        logits = decoder.logits(hidden).float().repeat_interleave(group_size, dim=0)
        # what each line needs of its row, in the order of the lines
        positions = torch.tensor([len(prompt) for prompt in prompt_ids], device=logits.device)
        positions = positions.repeat_interleave(group_size)
        for step in range(sampling.max_completion_tokens):
            ids, logprobs = sample(logits, sampling, None if uniforms is None else uniforms[:, step])
            kept = rows.append(ids.tolist(), logprobs.tolist())
            if not kept:
                break
            if len(kept) < len(ids):
                order = without_gaps(kept)
                rows.keep(order)
                cache.keep(order)
                index = torch.tensor(order, device=ids.device)
                ids, positions = ids[index], positions[index]
                uniforms = None if uniforms is None else uniforms[index]
            hidden = cache.step(ids, positions)
            positions = positions + 1
            logits = decoder.logits(hidden).float()
        return rows.groups(group_size)
