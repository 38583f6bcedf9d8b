"""`StaticCacheEngine`: lean decoding with the fast form of a Llama-like model and a cache that stays where it is.

Each prompt is computed once and its keys and values expanded to the group. When rows end, live ones from the end of the
cache move into their places: the rest is not copied.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from agents.decoders import LlamaLikeDecoder
from agents.engines.base import GenerativePolicy
from agents.engines.completions import GrowingCompletions
from agents.engines.sampling import draw_uniforms, sample
from agents.rollout import Completion, SamplingParams

# columns that the cache grows by; few enough that a high token limit that nobody reaches costs no memory
_GROWTH = 64
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
        cache = _Cache(decoder, prompt_ids, group_size, sampling.max_completion_tokens, self._policy.device)
        hidden = cache.prefill(prompt_ids)
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
                order = _without_gaps(kept)
                rows.keep(order)
                cache.keep(order)
                index = torch.tensor(order, device=ids.device)
                ids, positions = ids[index], positions[index]
                uniforms = None if uniforms is None else uniforms[index]
            hidden = cache.step(ids, positions)
            positions = positions + 1
            logits = decoder.logits(hidden).float()
        return rows.groups(group_size)


def _without_gaps(kept: list[int]) -> list[int]:
    """The kept lines in the order that moves the fewest: those behind the new end fill the gaps before it.

    >>> _without_gaps([0, 2, 3, 6, 7])
    [0, 7, 2, 3, 6]
    """
    behind = [line for line in kept if line >= len(kept)]
    stay = {line for line in kept if line < len(kept)}
    return [line if line in stay else behind.pop() for line in range(len(kept))]


class _Cache:
    """Keys and values of all layers, one line per live completion; prompts are left-padded to end in one column."""

    def __init__(
        self,
        decoder: LlamaLikeDecoder,
        prompt_ids: list[list[int]],
        group_size: int,
        max_completion_tokens: int,
        device: torch.device,
    ) -> None:
        self._decoder = decoder
        self._group_size = group_size
        self._longest = max(map(len, prompt_ids))
        self._lines = len(prompt_ids) * group_size
        self._columns = self._longest  # how many are filled
        self._limit = self._longest + max_completion_tokens
        self._device = device
        self._data: Tensor | None = None  # (layers, 2, lines, Hkv, columns, D)
        lengths = torch.tensor([len(prompt) for prompt in prompt_ids], device=device)
        self._padding = self._longest - lengths.repeat_interleave(group_size)  # of each line
        self._padded = bool(self._padding.any())
        self._order = torch.arange(self._limit, device=device)

    def prefill(self, prompt_ids: list[list[int]]) -> Tensor:
        """Compute the prompts, each once; (P, H) hidden states of their last tokens."""
        device = self._device
        lengths = [len(prompt) for prompt in prompt_ids]
        packed = torch.tensor([token for prompt in prompt_ids for token in prompt], device=device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        p, longest = len(prompt_ids), self._longest
        padding = self._padding[:: self._group_size]
        real = self._order[:longest] >= padding[:, None]  # (P, Lp)
        slots = real.flatten().nonzero().squeeze(1)
        distance = self._order[:longest, None] - self._order[:longest]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            window = self._decoder.windows[layer]
            mask = distance.ge(0) if window is None else distance.ge(0) & distance.lt(window)
            mask = (mask & real[:, None, None, :]) | distance.eq(0)  # padding sees itself, or it would be NaN
            padded = [
                x.new_zeros(p * longest, *x.shape[1:]).index_copy_(0, slots, x).view(p, longest, *x.shape[1:])
                for x in (query, key.to(query.dtype), value.to(query.dtype))
            ]
            q, k, v = (x.transpose(1, 2) for x in padded)
            data = self._space(k.dtype)
            for index, x in enumerate((k, v)):
                data[layer, index, :, :, :longest] = x.repeat_interleave(self._group_size, dim=0)
            out = self._attention(q, k, v, mask)
            return out.transpose(1, 2).flatten(0, 1)[slots]

        hidden = self._decoder.hidden(packed, positions, attend)
        return hidden[torch.tensor(lengths, device=device).cumsum(0) - 1]

    def step(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Add a token (lines,) to each line; (lines, H) hidden states."""
        column = self._columns
        self._columns += 1
        lines, longest = len(ids), self._columns
        masks = {window: self._mask(window, lines, longest) for window in set(self._decoder.windows)}

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            data = self._space(key.dtype)
            data[layer, 0, :lines, :, column] = key
            data[layer, 1, :lines, :, column] = value
            # a line has one query a head: those that share a key stand in the place of a sequence
            query = query.view(lines, self._decoder.num_kv_heads, -1, query.shape[-1])
            keys, values = data[layer, :, :lines, :, :longest]
            mask = masks[self._decoder.windows[layer]]
            out = scaled_dot_product_attention(query, keys, values, mask, scale=self._decoder.scale)
            return out.flatten(1, 2)

        return self._decoder.hidden(ids, positions, attend)

    def keep(self, order: list[int]) -> None:
        """Let the lines be these; most stay in their place."""
        assert self._data is not None
        moved = [(to, line) for to, line in enumerate(order) if to != line]
        if moved:
            to, line = torch.tensor(moved, device=self._device).unbind(1)
            self._data[:, :, to, :, : self._columns] = self._data[:, :, line, :, : self._columns]
        self._padding = self._padding[torch.tensor(order, device=self._device)]
        self._lines = len(order)

    def _mask(self, window: int | None, lines: int, longest: int) -> Tensor | None:
        """(lines, 1, 1, longest), which columns the newest token sees; None for all."""
        first = self._padding
        if window is not None and longest > window:
            first = first.clamp(min=longest - window)
        elif not self._padded:
            return None
        return (self._order[:longest] >= first[:lines, None])[:, None, None, :]

    def _space(self, dtype: torch.dtype) -> Tensor:
        """The cache with room for the columns that are filled, or about to be."""
        data = self._data
        if data is None or data.shape[4] < self._columns:
            columns = min(self._limit, self._columns + max(_GROWTH, self._columns // 2))
            decoder = self._decoder
            shape = (decoder.num_layers, 2, self._lines, decoder.num_kv_heads, columns, decoder.head_dim)
            grown = torch.zeros(shape, dtype=dtype, device=self._device)
            if data is not None:
                grown[:, :, :, :, : data.shape[4]] = data[:, :, : self._lines]
            self._data = data = grown
        return data

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        repeats = self._decoder.num_heads // self._decoder.num_kv_heads
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
        return scaled_dot_product_attention(query, key, value, mask, scale=self._decoder.scale)
