"""A transformers model of the Llama family as a list of layers, run by its own modules: no weight is copied.

The decoder leaves attention to its caller, because rollout (a cache) and update (a shared prompt) do it in ways
of their own. Tokens are packed: one dimension of S tokens, whatever sequences they belong to.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from agents.decoders import functions
from agents.decoders.functions import Pieces, gating
from agents.decoders.linear_layers import Apart, call, with_adapters, without_adapters
from agents.decoders.packed import can_pack, packed
from agents.decoders.streamed import can_stream, streamed
from agents.decoders.whole_step import whole_step
from agents.kernels import FEW_ROWS, decoding

# parameters; of smaller models a rollout takes less time than compiling what would make it faster
_LARGE = 2**22
# weights are their distance from 1
_OFFSET_NORMS = ("gemma", "gemma3_text")

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, queries (S, Hq, D), keys and values (S, Hkv, D), to outputs (S, Hq, D)."""


@dataclass(frozen=True, slots=True)
class _Norm:
    """A norm's module, and what it does with its weight."""

    module: nn.Module
    eps: float
    offset: float

    def __call__(self, pieces: Pieces, x: Tensor) -> Tensor:
        return pieces.rms_norm(x, self.module.weight, self.eps, self.offset)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class _Layer:
    """The modules of one layer; None where the family has no such norm."""

    attention_inputs: Any
    """To queries, keys and values."""
    output: Any
    mlp_inputs: Any
    """To gate and up."""
    down: Any
    activation: nn.Module
    before_attention: _Norm
    after_attention: _Norm | None
    before_mlp: _Norm
    after_mlp: _Norm | None
    query_norm: _Norm | None
    key_norm: _Norm | None
    rope: str | None
    window: int | None
    checkpointed: Callable[[], bool]


class LlamaLikeDecoder:
    """See the module. Made by `agents.decoders.support.decoder_of`.

    Attributes:
        head_dim: D.
        num_heads: Hq, of queries.
        num_kv_heads: Hkv, of keys and values.
        scale: What the products of queries and keys are multiplied by.
        windows: For each layer, how many tokens back it sees (its own included), or None for all.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self._embed = model.model.embed_tokens
        self._rotary = model.model.rotary_emb
        self._head = model.lm_head
        offset = 1.0 if config.model_type in _OFFSET_NORMS else 0.0
        self._layers = [_layer(layer, config, offset) for layer in model.model.layers]
        self._final_norm = _norm(model.model.norm, offset)
        attention = model.model.layers[0].self_attn
        self.head_dim: int = attention.head_dim
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = config.num_key_value_heads
        self.scale: float = attention.scaling
        self.windows = [layer.window for layer in self._layers]
        self._pieces: Pieces = functions
        self._whole_step: decoding.Layers | None = None
        self._rotation_kinds = sorted({layer.rope for layer in self._layers}, key=str)
        self._is_large = sum(parameter.numel() for parameter in model.parameters()) >= _LARGE

    @property
    def num_layers(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    @property
    def head(self) -> tuple[Tensor, Tensor | None]:
        """Weight (V, H) and bias (V,) or None of the map from hidden states to logits."""
        return self._head.weight, self._head.bias

    @property
    def is_fused(self) -> bool:
        """Whether `decode` can be called: prepared for passes without gradient, and the operators are there."""
        return self._pieces is decoding

    @property
    def dtype(self) -> torch.dtype:
        """Of the hidden states between layers."""
        return self._embed.weight.dtype

    def logits(self, hidden: Tensor) -> Tensor:
        """(S, H) final hidden states to (S, V) logits."""
        return call(self._head, hidden)

    def without_gradient(self) -> Self:
        """This decoder for passes without gradient; called where they will be, under autocast with its precision."""
        prepared = copy.copy(self)
        device = self._embed.weight.device
        is_float32 = self.dtype == torch.float32 and not torch.is_autocast_enabled(device.type)
        if device.type == "cpu" and is_float32 and self._is_large and decoding.has_fused_decoding():
            prepared._pieces = decoding
        return prepared

    def for_rollout(self) -> Self:
        """This decoder for many steps of few rows without gradient, with the weights as they are now.

        Called where the steps will be: under autocast, what is prepared has its precision.
        """
        device = self._embed.weight.device
        is_mixed = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if is_mixed else self.dtype
        names = ("attention_inputs", "output", "mlp_inputs", "down")  # in the order of their use
        stages = [getattr(layer, name) for layer in self._layers for name in names] + [self._head]
        split = [without_adapters(stage) for stage in stages]
        stages = [stage for stage, _ in split]
        prepared = self.without_gradient()
        if device.type == "cpu" and can_stream(stages, dtype):
            if prepared.is_fused:
                modules = (self._layers, self._final_norm, self._head)
                prepared._whole_step = whole_step(*modules, self._rotation_kinds, self.scale)
            stages = streamed(stages, dtype)
        elif can_pack(device, dtype):
            stages = [packed(stage, dtype) for stage in stages]
        stages = [with_adapters(stage, adapters, dtype) for stage, (_, adapters) in zip(stages, split, strict=True)]
        prepared._head = stages.pop()
        of_layers = zip(*[iter(stages)] * len(names), strict=True)
        prepared._layers = [
            replace(layer, **dict(zip(names, of_layer, strict=True)))
            for layer, of_layer in zip(self._layers, of_layers, strict=True)
        ]
        return prepared

    def rotations(self, positions: Tensor) -> dict[str | None, tuple[Tensor, Tensor]]:
        """Cosine and sine (S, 1, D / 2) of the positions (S,), for each kind of rotation that layers have."""
        probe = self._embed.weight[:0]  # says device and dtype
        found = {}
        for kind in self._rotation_kinds:
            arguments = () if kind is None else (kind,)
            cos, sin = self._rotary(probe, positions[None], *arguments)
            half = cos.shape[-1] // 2
            found[kind] = (cos[0, :, None, :half].contiguous(), sin[0, :, None, :half].contiguous())
        return found

    def hidden(self, ids: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Final hidden states.

        Args:
            ids: (S,) tokens.
            positions: (S,), each counted from the start of its own sequence.
            attend: Attention between the tokens.

        Returns:
            (S, H).
        """
        rotations = self.rotations(positions)
        x = self._embed(ids)
        for index, layer in enumerate(self._layers):
            cos, sin = rotations[layer.rope]
            if torch.is_grad_enabled() and layer.checkpointed():
                x = checkpoint(self._run, index, x, cos, sin, attend, use_reentrant=False)
            else:
                x = self._run(index, x, cos, sin, attend)
        return self._final_norm(self._pieces, x)

    def decode(self, ids: Tensor, positions: Tensor, cache: decoding.Cache) -> Tensor:
        """`hidden` of the newest token of each line, without gradient, its attention by `agents.kernels.decoding`.

        Args:
            ids: (lines,) tokens.
            positions: (lines,), each counted from the start of its own sequence.
            cache: Of all layers; the tokens' keys and values are written to it.

        Returns:
            (lines, H).
        """
        if self._whole_step is not None and len(ids) in FEW_ROWS:
            rotations = self.rotations(positions)
            cos, sin = zip(*(rotations[kind] for kind in self._rotation_kinds), strict=True)
            return decoding.decode(self._embed(ids), cos, sin, self._whole_step, cache)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return decoding.attend(query, key, value, cache.of_layer(layer), self.windows[layer], self.scale)

        return self.hidden(ids, positions, attend)

    def _run(self, index: int, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        layer, pieces = self._layers[index], self._pieces
        h = layer.before_attention(pieces, x)
        query, key, value = (out.view(len(x), -1, self.head_dim) for out in layer.attention_inputs(h))
        if layer.query_norm is not None and layer.key_norm is not None:
            query, key = layer.query_norm(pieces, query), layer.key_norm(pieces, key)
        query, key = pieces.rotate(query, cos, sin), pieces.rotate(key, cos, sin)
        h = call(layer.output, attend(index, query, key, value).reshape(len(x), -1))
        x = x + (h if layer.after_attention is None else layer.after_attention(pieces, h))
        h = layer.before_mlp(pieces, x)
        gate, up = layer.mlp_inputs(h)
        kind = gating(layer.activation)
        h = call(layer.down, getattr(pieces, kind)(gate, up) if kind else layer.activation(gate) * up)
        return x + (h if layer.after_mlp is None else layer.after_mlp(pieces, h))


def _layer(layer: Any, config: Any, offset: float) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    # Gemma 3 has four norms a layer, and its second one has the name that others give to the norm before the MLP
    sandwich = hasattr(layer, "pre_feedforward_layernorm")
    after_attention = _norm(layer.post_attention_layernorm, offset)
    has_query_norm = getattr(attention, "q_norm", None) is not None
    of_all_layers = config.sliding_window if config.model_type == "mistral" else None

    def checkpointed() -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return bool(getattr(layer, "gradient_checkpointing", False))

    return _Layer(
        attention_inputs=Apart(attention.q_proj, attention.k_proj, attention.v_proj),
        output=attention.o_proj,
        mlp_inputs=Apart(mlp.gate_proj, mlp.up_proj),
        down=mlp.down_proj,
        activation=mlp.act_fn,
        before_attention=_norm(layer.input_layernorm, offset),
        after_attention=after_attention if sandwich else None,
        before_mlp=_norm(layer.pre_feedforward_layernorm, offset) if sandwich else after_attention,
        after_mlp=_norm(layer.post_feedforward_layernorm, offset) if sandwich else None,
        query_norm=_norm(attention.q_norm, offset) if has_query_norm else None,
        key_norm=_norm(attention.k_norm, offset) if has_query_norm else None,
        rope=getattr(attention, "layer_type", None) if config.model_type == "gemma3_text" else None,
        window=getattr(attention, "sliding_window", None) or of_all_layers,
        checkpointed=checkpointed,
    )


def _norm(module: Any, offset: float) -> _Norm:
    eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
    return _Norm(module, eps, offset)
