"""Attention for packed tokens inside transformers' own forward pass.

transformers lets a model's attention layers call a registered function (`AttentionInterface`). The one registered here
gives each layer's queries, keys and values to an `AttentionContext`, which knows what sequences the tokens belong to:
groups of completions that share a prompt in an update (`agents.forward.shared_prefix`), and a cache in a rollout
(`agents.engines.prompt_cache`). Without a context it is `scaled_dot_product_attention`, as in any other call.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION = "llm_envs"
"""The name under which the attention function and its mask function are registered in transformers."""
KEYWORD = "llm_envs_context"
"""The keyword that carries the context from the model's forward pass to the attention function."""

# for models whose layers drop keywords that they do not know
_context: contextvars.ContextVar[AttentionContext | None] = contextvars.ContextVar(KEYWORD, default=None)

# cuDNN's kernels, which PyTorch prefers on Hopper GPUs, are planned anew for every shape, by its sources; here the
# shapes change with the lengths of every batch. What that costs was not measured.
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class UnsupportedModel(ValueError):
    """A model cannot compute packed tokens; the message says why."""


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """What a layer's attention is, beside its queries, keys and values.

    Attributes:
        index: The layer's number, from 0.
        scale: What products of queries and keys are multiplied by.
        window: How many tokens back a token sees, its own included; None for all.
        softcap: Scores `s` become `softcap * tanh(s / softcap)` (Gemma 2, arXiv:2408.00118, section 2); None for none.
        sinks: (Hq,) scores of a key that every query sees and whose value is 0 (gpt-oss); None for none.
    """

    index: int
    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


class AttentionContext(Protocol):
    """Computes the attention of packed tokens, layer by layer."""

    def attend(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The outputs (S, Hq, Dv) of one layer for queries (S, Hq, D), keys (S, Hkv, D) and values (S, Hkv, Dv)."""
        ...


@contextlib.contextmanager
def context_for_models_that_drop_keywords(context: AttentionContext) -> Iterator[None]:
    """Let attention find the context although the model does not hand on the keyword.

    A layer that gradient checkpointing computes again in the backward pass does not see it.
    """
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, layer: AttentionLayer) -> Tensor:
    """Attention of padded sequences.

    Args:
        query: (N, Hq, L, D).
        key: (N, Hkv, L', D), Hkv a divisor of Hq.
        value: (N, Hkv, L', Dv).
        mask: Broadcastable to (N, Hq, L, L'), true where a query sees a key. None: L' is L, and each token sees those
            before it and itself.
        layer: Scale, soft cap and sinks; the window is in the mask.

    Returns:
        (N, Hq, L, Dv).
    """
    repeats = query.shape[1] // key.shape[1]
    on_cpu = query.device.type == "cpu"
    if on_cpu and query.dtype == torch.bfloat16:
        # measured: the backward pass of the CPU's kernels takes four times as long in bfloat16
        with torch.autocast("cpu", enabled=False):
            return attention(query.float(), key.float(), value.float(), mask, layer).to(value.dtype)
    is_plain = layer.softcap is None and layer.sinks is None
    if repeats > 1 and not (is_plain and on_cpu):  # elsewhere, kernels for grouped queries take no mask
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
        repeats = 1
    if not is_plain:
        return _weighted_values(query, key, value, mask, layer)
    kernels = contextlib.nullcontext() if on_cpu else sdpa_kernel(_KERNELS)
    with kernels:
        return scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None, scale=layer.scale, enable_gqa=repeats > 1
        )


def weights_of(scores: Tensor, unseen: Tensor | None, layer: AttentionLayer) -> Tensor:
    """Softmax over the keys, with the layer's soft cap and sinks.

    Args:
        scores: (N, Hq, L, L'), scaled products of queries and keys, in float32 at least.
        unseen: Broadcastable to the scores, true where a query does not see a key; None where it sees all.
        layer: Soft cap and sinks.

    Returns:
        (N, Hq, L, L'), of the scores' type; with sinks, rows add up to less than 1.
    """
    if layer.softcap is not None:
        scores = torch.tanh(scores / layer.softcap) * layer.softcap
    if unseen is not None:
        # not minus infinity: a padding row that sees no key would be NaN, and reach others through products with 0
        scores = scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
    if layer.sinks is None:
        return scores.softmax(-1)
    sinks = layer.sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]


def _weighted_values(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, layer: AttentionLayer) -> Tensor:
    scores = (query @ key.transpose(2, 3)).to(torch.promote_types(query.dtype, torch.float32)) * layer.scale
    if mask is None:
        length, keys = scores.shape[2:]
        mask = torch.ones(length, keys, dtype=torch.bool, device=scores.device).tril(keys - length)
    return weights_of(scores, ~mask, layer).to(value.dtype) @ value


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers' attention layers call, with transformers' signature; `kwargs` carry the context.

    Queries are (1, Hq, S, D) with a context and (N, Hq, L, D) without; outputs (1, S, Hq, Dv) and (N, L, Hq, Dv).
    """
    context = kwargs.pop(KEYWORD, None) or _context.get()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer = AttentionLayer(getattr(module, "layer_idx", -1), scale, sliding_window, softcap, s_aux)
    if context is not None:
        if attention_mask is not None and attention_mask.numel() > 1:
            raise UnsupportedModel("its layers make attention masks of their own")
        # under autocast rotary embeddings leave queries and keys in float32, which takes the slow kernels
        query, key = query.to(value.dtype), key.to(value.dtype)
        out = context.attend(layer, *(x[0].transpose(0, 1) for x in (query, key, value)))
        return out[None], None
    if softcap is None and s_aux is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    mask = attention_mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask == 0
    query, key = query.to(value.dtype), key.to(value.dtype)
    return attention(query, key, value, mask, layer).transpose(1, 2).contiguous(), None


AttentionInterface.register(IMPLEMENTATION, _attend)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
