"""What a language model's head reads after each of many prefixes: with a key-value cache, or each episode once.

Rows are observations of the token view: (N, L) ids, filled up with `NOTHING`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from agents.forward.packed_model import trunk
from agents.policies import LanguageModelPolicy
from agents.rollout import position_ids
from agents.sb3.token_rows import left_padded, row_lengths


def last_hidden(policy: LanguageModelPolicy, model: Any, rows: Tensor) -> Tensor:
    """(N, H) what the head reads at the end of each row: the plain way, every row from its start."""
    ids, mask = left_padded(rows, policy.pad_token_id)
    return _hidden(policy, model, ids, mask, kept=1)[:, -1]


def _hidden(
    policy: LanguageModelPolicy, model: Any, ids: Tensor, mask: Tensor, kept: int, cache: DynamicCache | None = None
) -> Tensor:
    """(N, kept, H) in float32, of the last columns."""
    with policy.autocast():
        output = trunk(model)(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position_ids(mask)[:, -ids.shape[1] :],
            past_key_values=cache,
            use_cache=cache is not None,
        )
    return output.last_hidden_state[:, -kept:].float()


def hidden_of_prefixes(policy: LanguageModelPolicy, model: Any, rows: Tensor) -> Tensor:
    """As `last_hidden`, but rows that begin alike are computed once.

    The steps of an episode are prefixes of its last one, and a causal model computes all of them with it. A minibatch
    of steps so costs as much as its episodes, and not the square of their length.
    """
    lengths = row_lengths(rows).tolist()
    texts = [tuple(row[:length]) for row, length in zip(rows.tolist(), lengths, strict=True)]
    # in this order a row is followed by what extends it, if there is any
    order = sorted(range(len(texts)), key=texts.__getitem__, reverse=True)
    whole: list[int] = []
    where = [0] * len(texts)
    for row in order:
        if not whole or texts[whole[-1]][: len(texts[row])] != texts[row]:
            whole.append(row)
        where[row] = len(whole) - 1
    ids, mask = left_padded(rows[whole], policy.pad_token_id)
    shortest = min(lengths)
    kept = ids.shape[1] - shortest + 1
    hidden = _hidden(policy, model, ids, mask, kept)
    # the row's last token stands as far from the right as the whole is longer
    back = [lengths[whole[where[row]]] - lengths[row] for row in range(len(texts))]
    return hidden[where, [kept - 1 - steps for steps in back]]


class PrefixCache:
    """Follows rows that grow by a token a call, and computes only that token.

    A row that is not the one of the last call with one token more (an episode that has just begun) is computed from
    its start, together with others of its kind. Every row's tokens stand at the right end of the cache, so that all go
    on in the same column; masks say where a row begins. A change of any weight empties the cache.

    Args:
        policy: Whose tokens and precision these are.
    """

    def __init__(self, policy: LanguageModelPolicy) -> None:
        self._policy = policy
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._rows: Tensor | None = None
        self._cache: DynamicCache | None = None
        self._mask = torch.empty(0)
        self._last = torch.empty(0)
        self._weights: list[tuple[int, int]] = []

    @torch.no_grad()
    def last_hidden(self, model: Any, rows: Tensor) -> Tensor:
        """(N, H) what the head of the model reads at the end of each row.

        Raises:
            NotImplementedError: The model's state is not a key-value cache.
        """
        weights = [(parameter._version, parameter.data_ptr()) for parameter in model.parameters()]
        if weights != self._weights:
            self.clear()
            self._weights = weights
        if self._rows is None or self._rows.shape != rows.shape:
            self._last, self._cache, self._mask = self._compute(model, rows)
        elif not torch.equal(self._rows, rows):
            grown = self._grown(rows)
            self._step(model, rows, grown)
        self._rows = rows.clone()
        return self._last

    def _grown(self, rows: Tensor) -> Tensor:
        """(N,) bool: the row is that of the last call and one token."""
        assert self._rows is not None
        before = row_lengths(self._rows)
        same = (self._rows == rows) | (self._rows < 0)
        return same.all(dim=1) & (row_lengths(rows) == before + 1)

    def _compute(self, model: Any, rows: Tensor) -> tuple[Tensor, DynamicCache, Tensor]:
        """Rows from their start."""
        ids, mask = left_padded(rows, self._policy.pad_token_id)
        cache = DynamicCache()
        last = _hidden(self._policy, model, ids, mask, kept=1, cache=cache)[:, -1]
        if not cache.layers or not all(type(layer) is DynamicLayer for layer in cache.layers):
            raise NotImplementedError(
                f"{type(model).__name__} does not keep its state in a plain key-value cache; use view='completion'"
            )
        return last, cache, mask

    def _step(self, model: Any, rows: Tensor, grown: Tensor) -> None:
        """Go on with the rows that grew, compute the others, and put them together again."""
        assert self._cache is not None
        parts: list[tuple[Tensor, Tensor, DynamicCache, Tensor]] = []
        going = grown.nonzero().flatten()
        if len(going) > 0:
            cache, mask = self._cache, self._mask
            if len(going) < len(rows):
                cache.batch_select_indices(going)
                mask = mask[going]
            mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=1)
            new = rows[going].gather(1, row_lengths(rows[going])[:, None] - 1)
            last = _hidden(self._policy, model, new, mask, kept=1, cache=cache)[:, -1]
            parts.append((going, last, cache, mask))
        begun = (~grown).nonzero().flatten()
        if len(begun) > 0:
            parts.append((begun, *self._compute(model, rows[begun])))
        if len(parts) == 1:
            _, self._last, self._cache, self._mask = parts[0]
        else:
            self._merge(len(rows), parts)
        self._trim()

    def _merge(self, n: int, parts: list[tuple[Tensor, Tensor, DynamicCache, Tensor]]) -> None:
        columns = max(mask.shape[1] for *_, mask in parts)
        _, last, cache, mask = parts[0]
        self._last = last.new_empty(n, last.shape[1])
        self._mask = mask.new_zeros(n, columns)
        for index, last, _, mask in parts:
            self._last[index] = last
            self._mask[index, columns - mask.shape[1] :] = mask
        for i, layer in enumerate(cache.layers):
            for name in ("keys", "values"):
                old = getattr(layer, name)
                whole = old.new_zeros(n, old.shape[1], columns, old.shape[3])
                for index, _, of_part, mask in parts:
                    whole[index, :, columns - mask.shape[1] :] = getattr(of_part.layers[i], name)
                setattr(layer, name, whole)
        self._cache = cache

    def _trim(self) -> None:
        """Drop columns that hold nothing of any row: the longest episode has ended."""
        assert self._cache is not None
        empty = int(self._mask.shape[1] - self._mask.sum(dim=1).max())
        if empty > 0:
            self._mask = self._mask[:, empty:]
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]
