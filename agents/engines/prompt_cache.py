"""`SharedPromptCache`: keys and values of a rollout, those of each prompt once for all completions of its group.

One attention over a prompt and a completion is two sets of scores under one softmax. The scores of a prompt are one
matrix product for all its completions (the idea of Hydragen, arXiv:2402.05099), so that a step reads a prompt once and
not once a completion, and a prompt takes the memory of one.

When rows end, live ones from the end of the cache move into their places: the rest is not copied.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from agents.decoders import LlamaLikeDecoder
from agents.decoders.attention import attention
from agents.kernels import decoding

# columns that the cache grows by; few enough that a high token limit that nobody reaches costs no memory
_GROWTH = 64


def without_gaps(kept: list[int]) -> list[int]:
    """The kept lines in the order that moves the fewest: those behind the new end fill the gaps before it.

    >>> without_gaps([0, 2, 3, 6, 7])
    [0, 7, 2, 3, 6]
    """
    behind = [line for line in kept if line >= len(kept)]
    stay = {line for line in kept if line < len(kept)}
    return [line if line in stay else behind.pop() for line in range(len(kept))]


class SharedPromptCache:
    """A line for each live completion. All completions are as long as each other; prompts are left-padded.

    Args:
        decoder: Whose keys and values these are.
        prompt_ids: P prompts.
        group_size: G; the lines at first are the G of the first prompt, then those of the next.
        max_completion_tokens: How many tokens a completion can have.
        device: Where everything is.
    """

    def __init__(
        self,
        decoder: LlamaLikeDecoder,
        prompt_ids: list[list[int]],
        group_size: int,
        max_completion_tokens: int,
        device: torch.device,
    ) -> None:
        self._decoder = decoder
        self._prompt_ids = prompt_ids
        self._limit = max_completion_tokens
        self._device = device
        self._longest = max(map(len, prompt_ids))
        self._padding = torch.tensor([self._longest - len(prompt) for prompt in prompt_ids], device=device)
        self._is_padded = len(set(map(len, prompt_ids))) > 1
        self._order = torch.arange(self._longest, device=device)
        self._prompts: Tensor | None = None  # (layers, 2, P, Hkv, Lp, D)
        self._completions: Tensor | None = None  # (layers, 2, lines, Hkv, columns, D)
        self._filled = 0  # columns of completions
        self._set_lines([prompt for prompt in range(len(prompt_ids)) for _ in range(group_size)])

    def prefill(self) -> Tensor:
        """Compute the prompts, each once; (P, H) hidden states of their last tokens."""
        device, decoder = self._device, self._decoder
        lengths = [len(prompt) for prompt in self._prompt_ids]
        packed = torch.tensor([token for prompt in self._prompt_ids for token in prompt], device=device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        p, longest = len(lengths), self._longest
        real = self._order >= self._padding[:, None]  # (P, Lp)
        slots = real.flatten().nonzero().squeeze(1)
        distance = self._order[:, None] - self._order
        repeats = decoder.num_heads // decoder.num_kv_heads

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            window = decoder.windows[layer]
            mask = distance.ge(0) if window is None else distance.ge(0) & distance.lt(window)
            mask = (mask & real[:, None, None, :]) | distance.eq(0)  # padding sees itself, or it would be NaN
            padded = [
                x.new_zeros(p * longest, *x.shape[1:]).index_copy_(0, slots, x).view(p, longest, *x.shape[1:])
                for x in (query, key.to(query.dtype), value.to(query.dtype))
            ]
            q, k, v = (x.transpose(1, 2) for x in padded)
            if self._prompts is None:
                shape = (decoder.num_layers, 2, p, decoder.num_kv_heads, longest, decoder.head_dim)
                self._prompts = torch.empty(shape, dtype=self._dtype(k.dtype), device=device)
            self._prompts[layer, 0], self._prompts[layer, 1] = k, v
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
            out = attention(q, k, v, mask, decoder.scale)
            return out.transpose(1, 2).flatten(0, 1)[slots]

        hidden = decoder.hidden(packed, positions, attend)
        return hidden[torch.tensor(lengths, device=device).cumsum(0) - 1]

    def reserve(self) -> bool:
        """Make room for one more token a line; returns whether that moved the cache."""
        self._filled += 1
        data, decoder = self._completions, self._decoder
        if data is not None and data.shape[4] >= self._filled:
            return False
        assert self._prompts is not None
        columns = min(self._limit, self._filled + max(_GROWTH, self._filled // 2))
        shape = (decoder.num_layers, 2, len(self._prompt_of), decoder.num_kv_heads, columns, decoder.head_dim)
        # zeros, because a step of constant size multiplies what is not filled by weights of 0
        grown = torch.zeros(shape, dtype=self._prompts.dtype, device=self._device)
        if data is not None:
            grown[:, :, :, :, : data.shape[4]] = data[:, :, : len(self._prompt_of)]
        self._completions = grown
        return True

    def step(self, ids: Tensor, positions: Tensor, column: Tensor | None = None) -> Tensor:
        """Add a token (lines,) to each line, in the room that was reserved; (lines, H) hidden states.

        Args:
            ids: (lines,).
            positions: (lines,), each counted from the start of its own sequence.
            column: (1,), how many tokens of completions are there; given where the step must do the same whatever that
                is. It then looks at all columns, and leaves out those that are not filled.
        """
        assert self._completions is not None
        assert self._prompts is not None
        decoder, completions = self._decoder, self._completions
        if decoder.is_fused and column is None:
            padding = self._padding if self._is_padded else None
            prompts = self._prompts[:, :, : len(self._padding)]
            cache = decoding.Cache(prompts, completions, self._filled, self._prompt_index, padding)
            return decoder.decode(ids, positions, cache)
        columns = self._filled if column is None else completions.shape[4]
        unseen = {window: self._unseen(window, columns, column) for window in set(decoder.windows)}

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            own = completions[layer, :, : len(query), :, :columns]
            if column is None:
                own[0, :, :, -1], own[1, :, :, -1] = key, value
            else:
                for place, x in zip(own, (key, value), strict=True):
                    place.index_copy_(2, column, x[:, :, None].to(place.dtype))
            with torch.autocast(self._device.type, enabled=False):
                return self._attention(layer, query, own, unseen[decoder.windows[layer]])

        return decoder.hidden(ids, positions, attend)

    def keep(self, lines: list[int]) -> None:
        """Let the lines be these; most stay in their place."""
        moved = [(to, line) for to, line in enumerate(lines) if to != line]
        if moved and self._completions is not None:
            to, line = torch.tensor(moved, device=self._device).unbind(1)
            filled = slice(self._filled)
            self._completions[:, :, to, :, filled] = self._completions[:, :, line, :, filled]
        prompts = [self._prompt_of[line] for line in lines]
        live = sorted(set(prompts))
        if len(live) < len(self._padding):
            assert self._prompts is not None
            order = without_gaps(live)
            moved = [(to, prompt) for to, prompt in enumerate(order) if to != prompt]
            if moved:
                to, line = torch.tensor(moved, device=self._device).unbind(1)
                self._prompts[:, :, to] = self._prompts[:, :, line]
            self._padding = self._padding[torch.tensor(order, device=self._device)]
            place = {prompt: to for to, prompt in enumerate(order)}
            prompts = [place[prompt] for prompt in prompts]
        self._set_lines(prompts)

    def _set_lines(self, prompts: list[int]) -> None:
        """Let the lines belong to these prompts."""
        self._prompt_of = prompts
        self._prompt_index = torch.tensor(prompts, device=self._device)
        seen: Counter[int] = Counter()
        ranks = []
        for prompt in prompts:
            ranks.append(seen[prompt])
            seen[prompt] += 1
        self._width = max(seen.values())
        slots = [prompt * self._width + rank for prompt, rank in zip(prompts, ranks, strict=True)]
        # where in (prompts, width) each line stands; None where that is the order of the lines
        in_order = slots == list(range(len(self._padding) * self._width))
        self._slots = None if in_order else torch.tensor(slots, device=self._device)
        self._line_padding = self._padding[self._prompt_index] if self._is_padded else None

    def _unseen(self, window: int | None, columns: int, column: Tensor | None) -> Tensor | None:
        """(lines or 1, 1, 1, Lp + columns), what the newest token does not see; None where it sees all."""
        sees_all = window is None or window >= self._longest + columns
        if self._line_padding is None and column is None and sees_all:
            return None
        order = torch.arange(self._longest + columns, device=self._device)
        newest = self._longest + (columns - 1 if column is None else column)
        unseen = (order > newest)[None]
        if self._line_padding is not None:
            unseen = unseen | (order < self._line_padding[:, None])
        if window is not None:
            unseen = unseen | (order <= newest - window)
        return unseen[:, None, None, :]

    def _attention(self, layer: int, query: Tensor, own: Tensor, unseen: Tensor | None) -> Tensor:
        """Outputs (lines, Hq, D) of queries of that shape over the prompts and over the completions' own columns."""
        assert self._prompts is not None
        decoder, dtype = self._decoder, query.dtype
        n, heads, d = len(query), decoder.num_kv_heads, decoder.head_dim
        keys, values = self._prompts[layer, :, : len(self._padding)].flatten(1, 2)  # (P * Hkv, Lp, D)
        own_keys, own_values = own.flatten(1, 2)  # (lines * Hkv, columns, D)
        # queries that share keys stand in the place of a sequence
        query = (query * decoder.scale).to(keys.dtype).view(n, heads, -1, d)
        of_prompt = self._by_line(_product(self._by_prompt(query), keys.transpose(1, 2)))
        of_own = _product(query.flatten(0, 1), own_keys.transpose(1, 2)).view(*query.shape[:3], -1)
        scores = torch.cat([of_prompt, of_own], dim=-1)
        if unseen is not None:
            scores.masked_fill_(unseen, -torch.inf)
        weights = scores.softmax(-1).to(keys.dtype)
        out = self._by_line(torch.bmm(self._by_prompt(weights[..., : self._longest]), values))
        out = out + torch.bmm(weights[..., self._longest :].flatten(0, 1), own_values).view_as(out)
        return out.flatten(1, 2).to(dtype)

    def _by_prompt(self, x: Tensor) -> Tensor:
        """(lines, Hkv, R, D) to (prompts * Hkv, width * R, D)."""
        p, (_, heads, repeats, d) = len(self._padding), x.shape
        if self._slots is not None:
            x = x.new_zeros(p * self._width, heads, repeats, d).index_copy_(0, self._slots, x)
        return x.view(p, self._width, heads, repeats, d).transpose(1, 2).reshape(p * heads, self._width * repeats, d)

    def _by_line(self, x: Tensor) -> Tensor:
        """(prompts * Hkv, width * R, D) to (lines, Hkv, R, D)."""
        p, heads = len(self._padding), self._decoder.num_kv_heads
        x = x.view(p, heads, self._width, -1, x.shape[-1]).transpose(1, 2).flatten(0, 1)
        return x if self._slots is None else x[self._slots]

    def _dtype(self, dtype: torch.dtype) -> torch.dtype:
        """What keys and values are kept in.

        Float32 on CPUs, as in the update (`agents.decoders.shared_prefix`), where it is as fast as bfloat16.
        """
        return torch.promote_types(dtype, torch.float32) if self._device.type == "cpu" else dtype


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix products, float32 at least."""
    if a.dtype in (torch.float32, torch.float64):
        return torch.bmm(a, b)
    return torch.bmm(a, b, out_dtype=torch.float32)
