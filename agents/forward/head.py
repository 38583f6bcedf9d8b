"""Log-probabilities of tokens from hidden states, a chunk of rows at a time: (M, V) logits are never all there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.forward.products import product

# logits of one chunk; large enough for a matrix product to run at full speed
_CHUNK_BYTES = 2**26
# tokens of the vocabulary whose exponentials are added up at a time
_BLOCK = 256
# softmax values kept for the backward pass; chunks beyond it are computed again there
_KEPT_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class LogitTransform:
    """What a model does to the product of hidden states and its head's weight.

    Attributes:
        scale: What it is multiplied by.
        softcap: Then logits `z` become `softcap * tanh(z / softcap)` (Gemma 2, arXiv:2408.00118, section 2); None for
            none.
    """

    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of_config(cls, config: Any) -> LogitTransform:
        """By the names that transformers' configs have for it: Granite's, Cohere's, Gemma's and nanochat's."""
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        """The model's logits, of the same shape."""
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def token_logprobs_of_hidden(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: float,
    transform: LogitTransform | None = None,
) -> Tensor:
    """Log-probability of each target under `softmax(transform(hidden @ weight.T + bias) / temperature)`.

    Args:
        hidden: (M, H).
        weight: (V, H).
        bias: (V,), or None.
        targets: (M,) token ids.
        temperature: Positive.
        transform: What the model does to the products; None for nothing.

    Returns:
        (M,) nats, float32 at least.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    transform = transform or LogitTransform()
    with torch.autocast(device, enabled=False):
        return _TokenLogprobs.apply(hidden, weight, bias, targets, temperature, transform, torch.is_grad_enabled())


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Log-probability of each token under `softmax(logits / temperature)`.

    Args:
        logits: (N, T, V); cast to float32 where they are less.
        ids: (N, T).
        temperature: Positive.

    Returns:
        (N, T) nats, float32 at least.
    """
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    chosen = scaled.gather(2, ids.unsqueeze(2)).squeeze(2)
    return chosen - scaled.logsumexp(dim=2)


def exponentiate(logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Let logits be their exponentials, the largest of a row 1, in place.

    Args:
        logits: (N, V), float32 or float64.
        size: Of the blocks that are added up.

    Returns:
        (N, V / size rounded up), the sums of blocks of a row; (N, 1), the largest logits, which were subtracted.
    """
    n, v = logits.shape
    largest = logits.amax(dim=1, keepdim=True)
    logits -= largest
    logits.exp_()
    whole = v // size * size
    sums = logits[:, :whole].view(n, v // size, size).sum(2)
    if whole < v:
        sums = torch.cat([sums, logits[:, whole:].sum(1, keepdim=True)], dim=1)
    return sums, largest


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        transform: LogitTransform,
        has_backward: bool,
    ) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        out = torch.empty(len(targets), dtype=dtype, device=hidden.device)
        row_bytes = weight.shape[0] * dtype.itemsize
        size = max(1, _CHUNK_BYTES // row_bytes)
        # rows; the derivative of a soft cap needs the logits themselves
        budget = _KEPT_BYTES // row_bytes if has_backward and transform.softcap is None else 0
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        for start in range(0, len(targets), size):
            rows = slice(start, start + size)
            logits = _logits(hidden[rows], weight, bias)
            chosen, exponentials, total = _softmax(logits, targets[rows], temperature, transform)
            out[rows] = chosen - total.log()
            if start + size <= budget or len(targets) <= budget:
                kept[start] = (exponentials, total)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.temperature, ctx.transform, ctx.size, ctx.kept = temperature, transform, size, kept
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
            slope: Tensor | None = None
            if values is None:
                logits = _logits(hidden[rows], weight, bias)
                if ctx.transform.softcap is not None:
                    slope = _slope(logits, ctx.transform)
                values = _softmax(logits, targets[rows], ctx.temperature, ctx.transform)[1:]
            exponentials, total = values
            scale = gradient[rows] / ctx.temperature
            # d logprob / d logits = (one-hot - softmax) / temperature
            of_logits = exponentials.mul_((-scale / total)[:, None])
            of_logits[torch.arange(len(scale), device=scale.device), targets[rows]] += scale
            if slope is not None:
                of_logits *= slope
            elif ctx.transform.scale != 1:
                of_logits *= ctx.transform.scale
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = of_logits.to(hidden.dtype)
            if of_hidden is not None:
                product(of_logits, weight, out=of_hidden[rows])
            if ctx.needs_input_grad[1]:
                if of_weight is None:
                    of_weight = product(of_logits.t(), hidden[rows])
                else:
                    product(of_logits.t(), hidden[rows], out=of_weight, add=True)
        if of_bias is not None:
            of_bias = of_bias.to(bias.dtype)
        return of_hidden, of_weight, of_bias, None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(C, V) in float32 at least, before the transform."""
    logits = product(hidden, weight.t())
    if bias is not None:
        logits += bias
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _slope(logits: Tensor, transform: LogitTransform) -> Tensor:
    """(C, V), the derivative of a transform with a soft cap."""
    assert transform.softcap is not None
    return (1 - torch.tanh(logits * (transform.scale / transform.softcap)).square_()) * transform.scale


def _softmax(
    logits: Tensor, targets: Tensor, temperature: float, transform: LogitTransform
) -> tuple[Tensor, Tensor, Tensor]:
    """The targets' scaled logits less the row's largest (C,), exp of all such (C, V), and their sum (C,).

    The logits (C, V), before the transform, may be overwritten.
    """
    logits = transform(logits)
    if temperature != 1:
        logits /= temperature
    chosen = logits.gather(1, targets[:, None])
    sums, largest = exponentiate(logits, _BLOCK)
    return (chosen - largest).squeeze(1), logits, sums.sum(dim=1)
