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

from agents.forward import PackedModel
from agents.forward.attention import AttentionLayer, attention, weights_of

# columns that the cache grows by; few enough that a high token limit that nobody reaches costs no memory
_GROWTH = 64


def without_gaps(kept: list[int]) -> list[int]:
    """The kept slots in the order that moves the fewest: those behind the new end fill the gaps before it.

    >>> without_gaps([0, 2, 3, 6, 7])
    [0, 7, 2, 3, 6]
    """
    behind = [slot for slot in kept if slot >= len(kept)]
    stay = {slot for slot in kept if slot < len(kept)}
    return [slot if slot in stay else behind.pop() for slot in range(len(kept))]


class SharedPromptCache:
    """A slot for each live completion. All completions are as long as each other; prompts are left-padded.

    Args:
        model: Whose keys and values these are.
        prompt_ids: P prompts.
        group_size: G; the slots at first are the G of the first prompt, then those of the next.
        max_completion_tokens: How many tokens a completion can have.
        device: Where everything is.
    """

    def __init__(
        self,
        model: PackedModel,
        prompt_ids: list[list[int]],
        group_size: int,
        max_completion_tokens: int,
        device: torch.device,
    ) -> None:
        self._model = model
        self._prompt_ids = prompt_ids
        self._limit = max_completion_tokens
        self._device = device
        self._longest = max(map(len, prompt_ids))
        self._padding = torch.tensor([self._longest - len(prompt) for prompt in prompt_ids], device=device)
        self._is_padded = len(set(map(len, prompt_ids))) > 1
        self._order = torch.arange(self._longest, device=device)
        # of each layer, keys and values: the prompts' (P, Hkv, Lp, D), and the completions' (slots, Hkv, columns, D)
        self._prompts: list[tuple[Tensor, Tensor]] = []
        self._completions: list[tuple[Tensor, Tensor]] = []
        self._columns = 0  # of completions that there is room for
        self._filled = 0  # and how many are in use
        self._set_slots([prompt for prompt in range(len(prompt_ids)) for _ in range(group_size)])

    def prefill(self) -> Tensor:
        """Compute the prompts, each once; (P, H) hidden states of their last tokens."""
        device = self._device
        lengths = [len(prompt) for prompt in self._prompt_ids]
        packed = torch.tensor([token for prompt in self._prompt_ids for token in prompt], device=device)
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        hidden = self._model.hidden(packed, positions, _Prefill(self._order, self._padding, self._prompts))
        return hidden[torch.tensor(lengths, device=device).cumsum(0) - 1]

    def reserve(self) -> bool:
        """Make room for one more token a slot; returns whether that moved the cache."""
        self._filled += 1
        if self._columns >= self._filled:
            return False
        self._columns = min(self._limit, self._filled + max(_GROWTH, self._filled // 2))
        n, before = len(self._prompt_of), self._completions
        self._completions = []
        for layer, of_prompts in enumerate(self._prompts):
            # zeros, because a step of constant size multiplies what is not filled by weights of 0
            grown = [x.new_zeros(n, x.shape[1], self._columns, x.shape[3]) for x in of_prompts]
            if before:
                for new, old in zip(grown, before[layer], strict=True):
                    new[:, :, : old.shape[2]] = old[:n]
            self._completions.append((grown[0], grown[1]))
        return True

    def step(self, ids: Tensor, positions: Tensor, column: Tensor | None = None) -> Tensor:
        """Add a token (slots,) to each slot, in the room that was reserved; (slots, H) hidden states.

        Args:
            ids: (slots,).
            positions: (slots,), each counted from the start of its own sequence.
            column: (1,), how many tokens each completion has; given where the operations may not depend on it.
                It then looks at all columns, and leaves out those that are not filled.
        """
        columns = self._filled if column is None else self._columns
        unseen = {window: self._unseen(window, columns, column) for window in self._model.windows}
        return self._model.hidden(ids, positions, _Step(self, unseen, columns, column))

    def keep(self, slots: list[int]) -> None:
        """Let the slots be these, by their numbers so far and in this order; those that keep theirs are not copied."""
        moved = [(to, slot) for to, slot in enumerate(slots) if to != slot]
        if moved and self._completions:
            to, slot = torch.tensor(moved, device=self._device).unbind(1)
            for x in (x for layer in self._completions for x in layer):
                filled = x[:, :, : self._filled]
                filled[to] = filled[slot]
        prompts = [self._prompt_of[slot] for slot in slots]
        live = sorted(set(prompts))
        if len(live) < len(self._padding):
            order = without_gaps(live)
            moved = [(to, prompt) for to, prompt in enumerate(order) if to != prompt]
            if moved:
                to, prompt = torch.tensor(moved, device=self._device).unbind(1)
                for x in (x for layer in self._prompts for x in layer):
                    x[to] = x[prompt]
            self._padding = self._padding[torch.tensor(order, device=self._device)]
            place = {prompt: to for to, prompt in enumerate(order)}
            prompts = [place[prompt] for prompt in prompts]
        self._set_slots(prompts)

    def _set_slots(self, prompts: list[int]) -> None:
        """Let the slots belong to these prompts."""
        self._prompt_of = prompts
        seen: Counter[int] = Counter()
        ranks = []
        for prompt in prompts:
            ranks.append(seen[prompt])
            seen[prompt] += 1
        self._width = max(seen.values())
        places = [prompt * self._width + rank for prompt, rank in zip(prompts, ranks, strict=True)]
        # where in (prompts, width) each slot stands; None where that is the order of the slots
        in_order = places == list(range(len(self._padding) * self._width))
        self._places = None if in_order else torch.tensor(places, device=self._device)
        self._slot_padding = self._padding[torch.tensor(prompts, device=self._device)] if self._is_padded else None

    def _unseen(self, window: int | None, columns: int, column: Tensor | None) -> Tensor | None:
        """(slots or 1, 1, 1, Lp + columns), what the newest token does not see; None where it sees all."""
        sees_all = window is None or window >= self._longest + columns
        if self._slot_padding is None and column is None and sees_all:
            return None
        order = torch.arange(self._longest + columns, device=self._device)
        newest = self._longest + (columns - 1 if column is None else column)
        unseen = (order > newest)[None]
        if self._slot_padding is not None:
            unseen = unseen | (order < self._slot_padding[:, None])
        if window is not None:
            unseen = unseen | (order <= newest - window)
        return unseen[:, None, None, :]

    def attend_newest(
        self, layer: AttentionLayer, query: Tensor, own: tuple[Tensor, Tensor], unseen: Tensor | None
    ) -> Tensor:
        """Outputs of the newest tokens' queries over their prompts and over the completions' own columns.

        Args:
            layer: Scale, soft cap and sinks.
            query: (slots, Hq, D).
            own: Keys and values of the completions, (slots, Hkv, columns, D).
            unseen: See `_unseen`.

        Returns:
            (slots, Hq, Dv).
        """
        p = len(self._padding)
        keys, values = (x[:p].flatten(0, 1) for x in self._prompts[layer.index])  # (P * Hkv, Lp, D)
        own_keys, own_values = (x.flatten(0, 1) for x in own)  # (slots * Hkv, columns, D)
        n, heads = own[0].shape[:2]
        # queries that share keys stand in the place of a sequence
        grouped = (query * layer.scale).to(keys.dtype).view(n, heads, -1, query.shape[-1])
        of_prompt = self._by_slot(_product(self._by_prompt(grouped), keys.transpose(1, 2)), heads)
        of_own = _product(grouped.flatten(0, 1), own_keys.transpose(1, 2)).view(*grouped.shape[:3], -1)
        scores = torch.cat([of_prompt, of_own], dim=-1)  # (slots, Hkv, Hq / Hkv, Lp + columns)
        weights = weights_of(scores.view(n, query.shape[1], 1, -1), unseen, layer).view_as(scores).to(keys.dtype)
        out = self._by_slot(torch.bmm(self._by_prompt(weights[..., : self._longest]), values), heads)
        out = out + torch.bmm(weights[..., self._longest :].flatten(0, 1), own_values).view_as(out)
        return out.flatten(1, 2).to(query.dtype)

    def _by_prompt(self, x: Tensor) -> Tensor:
        """(slots, Hkv, R, D) to (prompts * Hkv, width * R, D)."""
        p, (_, heads, repeats, d) = len(self._padding), x.shape
        if self._places is not None:
            x = x.new_zeros(p * self._width, heads, repeats, d).index_copy_(0, self._places, x)
        return x.view(p, self._width, heads, repeats, d).transpose(1, 2).reshape(p * heads, self._width * repeats, d)

    def _by_slot(self, x: Tensor, heads: int) -> Tensor:
        """(prompts * Hkv, width * R, D) to (slots, Hkv, R, D)."""
        x = x.view(len(self._padding), heads, self._width, -1, x.shape[-1]).transpose(1, 2).flatten(0, 1)
        return x if self._places is None else x[self._places]

    def own_columns(self, layer: int, columns: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values (slots, Hkv, columns, D) of the completions' first columns."""
        n = len(self._prompt_of)
        keys, values = self._completions[layer]
        return keys[:n, :, :columns], values[:n, :, :columns]


class _Prefill:
    """The attention of packed prompts, whose keys and values it keeps; an `AttentionContext`."""

    def __init__(self, order: Tensor, padding: Tensor, kept: list[tuple[Tensor, Tensor]]) -> None:
        self._real = order >= padding[:, None]  # (P, Lp)
        self._places = self._real.flatten().nonzero().squeeze(1)
        self._distance = order[:, None] - order
        self._kept = kept

    def attend(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        p, longest = self._real.shape
        seen = self._distance.ge(0)
        if layer.window is not None:
            seen = seen & self._distance.lt(layer.window)
        mask = (seen & self._real[:, None, None, :]) | self._distance.eq(0)  # padding sees itself, or it would be NaN
        q, k, v = (
            x.new_zeros(p * longest, *x.shape[1:])
            .index_copy_(0, self._places, x)
            .view(p, longest, *x.shape[1:])
            .transpose(1, 2)
            for x in (query, key, value)
        )
        self._kept.append((k.to(_kept_dtype(k)).contiguous(), v.to(_kept_dtype(v)).contiguous()))
        return attention(q, k, v, mask, layer).transpose(1, 2).flatten(0, 1)[self._places]


class _Step:
    """The attention of one new token for each slot, whose keys and values it adds; an `AttentionContext`."""

    def __init__(
        self, cache: SharedPromptCache, unseen: dict[int | None, Tensor | None], columns: int, column: Tensor | None
    ) -> None:
        self._cache, self._unseen, self._columns, self._column = cache, unseen, columns, column

    def attend(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        own = self._cache.own_columns(layer.index, self._columns)
        for kept, new in zip(own, (key, value), strict=True):
            if self._column is None:
                kept[:, :, -1] = new
            else:
                kept.index_copy_(2, self._column, new[:, :, None].to(kept.dtype))
        with torch.autocast(query.device.type, enabled=False):
            return self._cache.attend_newest(layer, query, own, self._unseen[layer.window])


def _kept_dtype(x: Tensor) -> torch.dtype:
    """What keys and values are kept in: float32 on CPUs, as in the update, where it is as fast as bfloat16."""
    return torch.promote_types(x.dtype, torch.float32) if x.device.type == "cpu" else x.dtype


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix products, float32 at least."""
    if a.dtype in (torch.float32, torch.float64):
        return torch.bmm(a, b)
    return torch.bmm(a, b, out_dtype=torch.float32)
