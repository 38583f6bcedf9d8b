"""Rows of token ids in observations and actions: from numbers to lists, masks and padded batches.

Shapes: N rows, L columns of an observation (ids, then `NOTHING`), T tokens of an action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.rollout import Completion


def row_lengths(rows: Tensor) -> Tensor:
    """(N,) how many ids each of (N, L) rows holds."""
    return (rows >= 0).sum(dim=1)


def as_lists(rows: Tensor) -> list[list[int]]:
    """The ids of each of (N, L) rows."""
    return [row[:length] for row, length in zip(rows.tolist(), row_lengths(rows).tolist(), strict=True)]


def left_padded(rows: Tensor, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Rows moved to the right and cut to the longest.

    Args:
        rows: (N, L), filled up with `NOTHING`.
        pad_token_id: What padding becomes.

    Returns:
        Ids and mask, both (N, longest) int64.
    """
    lengths = row_lengths(rows)
    longest = int(lengths.max())
    columns = torch.arange(longest, device=rows.device) - (longest - lengths)[:, None]
    mask = columns >= 0
    ids = rows.gather(1, columns.clamp(min=0)).masked_fill(~mask, pad_token_id)
    return ids, mask.long()


def completion_mask(actions: Tensor, end_token_ids: Tensor) -> Tensor:
    """(N, T) int64, 1 through the first end token of each action, or everywhere where there is none."""
    is_end = torch.isin(actions, end_token_ids).long()
    return (is_end.cumsum(dim=1) - is_end == 0).long()


def as_actions(completions: list[Completion], length: int, pad_token_id: int, device: torch.device) -> Tensor:
    """(N, length) ids of completions; behind the end token stands padding, always the same one."""
    rows = [completion.ids + [pad_token_id] * (length - len(completion.ids)) for completion in completions]
    return torch.tensor(rows, device=device)
