"""`SharedPrefix`: groups of completions as packed tokens, each prompt once for all completions of its group.

Only real tokens are computed (no padding), and of a completion only those that something is predicted from. Attention
has no other way than padded blocks; where prompts differ in length and blocks would be large, each group is a block of
its own. Autograd adds up the gradients that the completions of a group send into its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.forward.attention import AttentionLayer, attention
from agents.rollout import GroupBatch

# entries of a block's attention mask; beyond it a mask for every completion costs more than a pass for every group
_MASK_ENTRIES = 2**22

_Parts = tuple[Tensor, Tensor]
"""What the prompts' tokens have of something, and what the completions' tokens have."""


class SharedPrefix:
    """The tokens of whole groups, packed, and the attention between them.

    Args:
        batch: P prompts and N = P * G completions.
        windows: The windows that the model's layers have, see `AttentionLayer`.

    Attributes:
        tokens: What is computed, and what is predicted from it.
    """

    def __init__(self, batch: GroupBatch, windows: set[int | None]) -> None:
        self.tokens = _pack(batch)
        self._blocks = _blocks(batch, self.tokens, windows)
        self._sizes = [block.tokens[0] for block in self._blocks] + [block.tokens[1] for block in self._blocks]

    def attend(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The outputs (S, Hq, Dv) of one layer, see `AttentionContext`."""
        # split and not sliced: the backward pass of each slice would fill a tensor of all tokens
        q, k, v = (x.split(self._sizes) for x in (query, key, value))
        n = len(self._blocks)
        parts = [
            block.attend(layer, (q[i], q[n + i]), (k[i], k[n + i]), (v[i], v[n + i]))
            for i, block in enumerate(self._blocks)
        ]
        return torch.cat([part[0] for part in parts] + [part[1] for part in parts])


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """S tokens: those of all prompts, then those of all completions but each one's last, which predicts nothing.

    Attributes:
        ids: (S,).
        positions: (S,).
        is_input: (N, T), whether a completion token is one of the S.
        prompt_lengths: (P,).
        input_lengths: (N,), how many tokens of each completion are among the S.
        sources: (M,), the tokens among the S that predict the M completion tokens.
        targets: (M,), what is to be predicted.
        target_slots: (M,), where in the flattened (N, T) that is.
    """

    ids: Tensor
    positions: Tensor
    is_input: Tensor
    prompt_lengths: Tensor
    input_lengths: Tensor
    sources: Tensor
    targets: Tensor
    target_slots: Tensor


def _pack(batch: GroupBatch) -> PackedTokens:
    prompt_mask, mask = batch.prompt_mask.bool(), batch.completion_mask.bool()
    prompt_lengths, lengths = prompt_mask.sum(1), mask.sum(1)
    order = mask.cumsum(1)  # 1 for the first token of a completion
    is_input = mask & (order < lengths[:, None])
    before = prompt_lengths.repeat_interleave(batch.group_size)
    prompt_positions = (prompt_mask.cumsum(1) - 1)[prompt_mask]
    positions = (before[:, None] + order - 1)[is_input]
    num_prompt_tokens = len(prompt_positions)
    # what predicts a completion's first token is its prompt's last; the others are predicted by the token before them
    last_of_prompt = (prompt_lengths.cumsum(0) - 1).repeat_interleave(batch.group_size)
    input_lengths = (lengths - 1).clamp(min=0)
    first_input = num_prompt_tokens + input_lengths.cumsum(0) - input_lengths
    sources = torch.where(order == 1, last_of_prompt[:, None], first_input[:, None] + order - 2)
    return PackedTokens(
        ids=torch.cat([batch.prompt_ids[prompt_mask], batch.completion_ids[is_input]]),
        positions=torch.cat([prompt_positions, positions]),
        is_input=is_input,
        prompt_lengths=prompt_lengths,
        input_lengths=input_lengths,
        sources=sources[mask],
        targets=batch.completion_ids[mask],
        target_slots=mask.flatten().nonzero().squeeze(1),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Some groups whose attention is computed side by side, padded among themselves.

    `K` of the prompts with `K * G` completions; `Lp` and `Lc` are the longest prompt and completion among them.

    Attributes:
        tokens: How many of the S tokens are of the prompts, and how many of the completions.
        prompt_slots: Their places in (K, Lp), left-padded; None where they fill it.
        completion_slots: Their places in (K * G, Lc), right-padded; None where they fill it.
        shape: K, G, Lp, Lc.
        masks: For each window, which keys the prompts see, (1 or K, 1, Lp, Lp), or None for those before; and which the
            completions see, (1 or K * G, 1, Lc, Lp + Lc).
    """

    tokens: tuple[int, int]
    prompt_slots: Tensor | None
    completion_slots: Tensor | None
    shape: tuple[int, int, int, int]
    masks: dict[int | None, tuple[Tensor | None, Tensor]]

    def attend(self, layer: AttentionLayer, query: _Parts, key: _Parts, value: _Parts) -> tuple[Tensor, Tensor]:
        """Outputs (., Hq, Dv) of the block's prompt tokens and of its completion tokens."""
        k, g, longest_prompt, longest_completion = self.shape
        prompt_mask, completion_mask = self.masks[layer.window]

        def of_prompts(x: _Parts) -> Tensor:
            return _padded(x[0], self.prompt_slots, k, longest_prompt)

        def of_completions(x: _Parts) -> Tensor:
            return _padded(x[1], self.completion_slots, k * g, longest_completion)

        prompt_key, prompt_value = of_prompts(key), of_prompts(value)
        out = attention(of_prompts(query), prompt_key, prompt_value, prompt_mask, layer)
        prompts = _unpadded(out, self.prompt_slots)
        if longest_completion == 0:  # every completion is one token, predicted from the prompt
            return prompts, prompts[:0]
        keys, values = (
            torch.cat([shared.repeat_interleave(g, dim=0), of_completions(own)], dim=2)
            for shared, own in ((prompt_key, key), (prompt_value, value))
        )
        out = attention(of_completions(query), keys, values, completion_mask, layer)
        return prompts, _unpadded(out, self.completion_slots)


def _padded(x: Tensor, slots: Tensor | None, rows: int, length: int) -> Tensor:
    """(tokens, heads, D) to (rows, heads, length, D)."""
    if slots is not None:
        x = x.new_zeros(rows * length, *x.shape[1:]).index_copy(0, slots, x)
    return x.view(rows, length, *x.shape[1:]).transpose(1, 2)


def _unpadded(x: Tensor, slots: Tensor | None) -> Tensor:
    """(rows, heads, length, D) to (tokens, heads, D)."""
    x = x.transpose(1, 2).flatten(0, 1)
    return x if slots is None else x[slots]


def _blocks(batch: GroupBatch, packed: PackedTokens, windows: set[int | None]) -> list[_Block]:
    g = batch.group_size
    prompts = packed.prompt_lengths.tolist()
    completions = packed.input_lengths.tolist()
    longest = max(completions)
    entries = len(completions) * longest * (max(prompts) + longest)
    at_once = len(prompts) if len(set(prompts)) == 1 or entries <= _MASK_ENTRIES else 1
    blocks = []
    for start in range(0, len(prompts), at_once):
        of_prompts = prompts[start : start + at_once]
        of_completions = completions[start * g : (start + at_once) * g]
        blocks.append(
            _block(
                packed.prompt_lengths[start : start + at_once],
                packed.input_lengths[start * g : (start + at_once) * g],
                (len(of_prompts), g, max(of_prompts), max(of_completions)),
                (sum(of_prompts), sum(of_completions)),
                windows,
            )
        )
    return blocks


def _block(
    prompts: Tensor,
    completions: Tensor,
    shape: tuple[int, int, int, int],
    tokens: tuple[int, int],
    windows: set[int | None],
) -> _Block:
    _, g, longest_prompt, longest_completion = shape
    device = prompts.device
    prompt_real = torch.arange(longest_prompt, device=device) >= (longest_prompt - prompts)[:, None]  # (K, Lp)
    completion_real = torch.arange(longest_completion, device=device) < completions[:, None]  # (K * G, Lc)
    whole_prompts, whole_completions = (
        shape[0] * longest_prompt == tokens[0],
        len(completions) * longest_completion == tokens[1],
    )
    # a distance in columns is one in positions, as prompts end where completions begin
    order = torch.arange(longest_prompt + longest_completion, device=device)
    distance = order[:, None] - order
    diagonal = distance == 0  # what is padding sees itself, because no key at all would be NaN
    masks: dict[int | None, tuple[Tensor | None, Tensor]] = {}
    for window in windows:
        seen = distance.ge(0) if window is None else distance.ge(0) & distance.lt(window)
        of_prompts: Tensor | None = seen[None, None, :longest_prompt, :longest_prompt]
        of_completions = seen[None, None, longest_prompt:]
        if not whole_prompts:
            real = prompt_real[:, None, None, :]
            of_prompts = (seen[:longest_prompt, :longest_prompt] & real) | diagonal[:longest_prompt, :longest_prompt]
            # padding on the right of a completion comes after its tokens, which do not see it
            real = torch.nn.functional.pad(prompt_real, (0, longest_completion), value=True)
            of_completions = of_completions & real.repeat_interleave(g, dim=0)[:, None, None, :]
        elif window is None or window >= longest_prompt:
            of_prompts = None
        masks[window] = (of_prompts, of_completions)
    return _Block(
        tokens,
        None if whole_prompts else prompt_real.flatten().nonzero().squeeze(1),
        None if whole_completions else completion_real.flatten().nonzero().squeeze(1),
        shape,
        masks,
    )
