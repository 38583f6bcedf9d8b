"""Log-probabilities of tokens from hidden states, a chunk of rows at a time: (M, V) logits are never all there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.kernels import add_product, linear, product
from agents.kernels.decoding import exponentiate

# logits of one chunk; large enough for a matrix product to run at full speed
_CHUNK_BYTES = 2**26
# tokens of the vocabulary whose exponentials are added up at a time
_BLOCK = 256
# softmax values kept for the backward pass; chunks beyond it are computed again there
_KEPT_BYTES = 2**29


def token_logprobs_of_hidden(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
) -> Tensor:
    """Log-probability of each target under `softmax((hidden @ weight.T + bias) / temperature)`.

    Args:
        hidden: (M, H).
        weight: (V, H).
        bias: (V,), or None.
        targets: (M,) token ids.
        temperature: Positive.

    Returns:
        (M,) nats, float32 at least.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    with torch.autocast(device, enabled=False):
        return _TokenLogprobs.apply(hidden, weight, bias, targets, temperature, torch.is_grad_enabled())


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        has_backward: bool,
    ) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        out = torch.empty(len(targets), dtype=dtype, device=hidden.device)
        row_bytes = weight.shape[0] * dtype.itemsize
        size = max(1, _CHUNK_BYTES // row_bytes)
        budget = _KEPT_BYTES // row_bytes if has_backward else 0  # rows
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        for start in range(0, len(targets), size):
            rows = slice(start, start + size)
            chosen, exponentials, total = _softmax(hidden[rows], weight, bias, targets[rows], temperature)
            out[rows] = chosen - total.log()
            if start + size <= budget or len(targets) <= budget:
                kept[start] = (exponentials, total)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.temperature, ctx.size, ctx.kept = temperature, size, kept
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        of_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        of_weight: Tensor | None = None
        of_bias = torch.zeros_like(bias, dtype=gradient.dtype) if ctx.needs_input_grad[2] else None
        for start in range(0, len(targets), ctx.size):
            rows = slice(start, start + ctx.size)
            # taken out of what was kept, because it is overwritten: a second backward pass computes it again
            values = ctx.kept.pop(start, None)
            if values is None:
                values = _softmax(hidden[rows], weight, bias, targets[rows], ctx.temperature)[1:]
            exponentials, total = values
            scale = gradient[rows] / ctx.temperature
            # d logprob / d logits = (one-hot - softmax) / temperature
            of_logits = exponentials.mul_((-scale / total)[:, None])
            of_logits[torch.arange(len(scale), device=scale.device), targets[rows]] += scale
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = of_logits.to(hidden.dtype)
            if of_hidden is not None:
                product(of_logits, weight, out=of_hidden[rows])
            if ctx.needs_input_grad[1]:
                if of_weight is None:
                    of_weight = product(of_logits.t(), hidden[rows])
                else:
                    add_product(of_weight, of_logits.t(), hidden[rows])
        if of_bias is not None:
            of_bias = of_bias.to(bias.dtype)
        return of_hidden, of_weight, of_bias, None, None, None


def _softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The targets' scaled logits less the row's largest (C,), exp of all such (C, V), and their sum (C,)."""
    logits = linear(hidden, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1:
        logits /= temperature
    chosen = logits.gather(1, targets[:, None])
    sums, largest = exponentiate(logits, _BLOCK)
    return (chosen - largest).squeeze(1), logits, sums.sum(dim=1)
