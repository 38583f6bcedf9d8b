"""`CachedEngine`: decoding with the policy's own model, as transformers runs it, and a key-value cache.

Each prompt is computed once and its cache expanded to the group; rows that have ended leave the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache

from agents.engines.completions import GrowingCompletions
from agents.engines.rollout_engine import GenerativePolicy, check_request
from agents.engines.sampling import draw_uniforms, sample
from agents.rollout import Completion, SamplingParams, position_ids


class CachedEngine:
    """Generates with the policy's model itself: its weights are always the current ones.

    Args:
        policy: Whose model generates.
        max_rows: How many completions are decoded side by side at most, a bound on memory; more prompts are taken in
            turns.
    """

    def __init__(self, policy: GenerativePolicy, max_rows: int = 1024) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        self._policy = policy
        self._max_rows = max_rows

    @property
    def exact_logprobs(self) -> bool:
        """Whether the policy computes in float32; with less, an update rounds differently than a rollout."""
        return self._policy.computes_in_float32

    def sync_weights(self, policy: GenerativePolicy) -> None:
        """Use this policy's model from now on."""
        self._policy = policy

    @torch.no_grad()
    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, seed: int
    ) -> list[list[Completion]]:
        """Draw `group_size` completions for each prompt; see `RolloutEngine.generate` for the arguments.

        Raises:
            ValueError: There are no prompts, an empty prompt, or `group_size` is not positive.
            NotImplementedError: The model has layers with a recurrent state instead of attention.
        """
        check_request(prompt_ids, group_size)
        at_once = max(1, self._max_rows // group_size)
        uniforms = draw_uniforms(len(prompt_ids) * group_size, sampling, seed, self._policy.device)
        groups: list[list[Completion]] = []
        for start in range(0, len(prompt_ids), at_once):
            rows = slice(start * group_size, (start + at_once) * group_size)
            part = None if uniforms is None else uniforms[rows]
            groups += self._generate(prompt_ids[start : start + at_once], group_size, sampling, part)
        return groups

    def _generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, uniforms: Tensor | None
    ) -> list[list[Completion]]:
        n = len(prompt_ids) * group_size
        rows = GrowingCompletions(n, sampling, self._policy.end_token_ids, self._policy.decode)
        logits, cache, mask = self._prefill(prompt_ids, group_size)
        for step in range(sampling.max_completion_tokens):
            ids, logprobs = sample(logits, sampling, None if uniforms is None else uniforms[:, step])
            kept = rows.append(ids.tolist(), logprobs.tolist())
            if not kept:
                break
            if len(kept) < len(ids):
                rows.keep(kept)
                index = torch.tensor(kept, device=ids.device)
                cache.batch_select_indices(index)
                ids, mask = ids[index], mask[index]
                uniforms = None if uniforms is None else uniforms[index]
            mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
            logits = self._forward(ids[:, None], mask, cache)
        return rows.groups(group_size)

    def _prefill(self, prompt_ids: list[list[int]], group_size: int) -> tuple[Tensor, DynamicCache, Tensor]:
        """Run the prompts once; logits (N, V), cache and mask (N, Tp) are those of the expanded groups."""
        longest = max(map(len, prompt_ids))
        pad = self._policy.pad_token_id
        device = self._policy.device
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompt_ids], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompt_ids], device=device)
        cache = DynamicCache(config=self._policy.model.config)
        logits = self._forward(ids, mask, cache)
        # a recurrent layer has no such method; models of some versions of transformers leave the cache empty instead
        if any(not hasattr(layer, "batch_repeat_interleave") for layer in cache.layers) or not cache.get_seq_length():
            raise NotImplementedError(
                f"{type(self._policy.model).__name__} does not keep its state in a key-value cache, which is what this "
                "engine expands to a group; use a model of attention layers, or an engine of your own"
            )
        cache.batch_repeat_interleave(group_size)
        return logits.repeat_interleave(group_size, dim=0), cache, mask.repeat_interleave(group_size, dim=0)

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        """Next-token logits (N, V) in float32; `ids` are the tokens that the cache does not hold yet."""
        with self._policy.autocast():
            output = self._policy.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position_ids(mask)[:, -ids.shape[1] :],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return output.logits[:, -1].float()
