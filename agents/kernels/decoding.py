"""What stands between the matrix products of a float32 decoder on a CPU, each as one operator (`decoding.cpp`).

For the few rows of a decode step PyTorch's operators take longer to start than to compute, and attention over a cache
is a dozen of them. These have no gradient, and take float32 alone; the pieces with a gradient are
`agents.decoders.functions`, with the same names and results.

They are compiled for AVX-512 or AVX2 where they are first needed, and used if what was compiled computes what it
should. `LLM_ENVS_FUSED_DECODING=0` in the environment turns them off.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from agents.kernels.build import CannotBuild
from agents.kernels.few_rows import parts_of_products
from agents.kernels.loading import load_operators, vector_flags

_SOURCE = Path(__file__).with_suffix(".cpp")
_VARIABLE = "LLM_ENVS_FUSED_DECODING"

# tokens; models with so many are not small, for which nothing is to be compiled
_LARGE_VOCABULARY = 2**14


@functools.cache
def has_fused_decoding() -> bool:
    """Whether this process has them. The first call may compile them, which takes some ten seconds once a machine."""
    flags = vector_flags()
    return flags is not None and load_operators("fused decoding", _SOURCE, flags, _VARIABLE, _check)


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """What `agents.decoders.functions.rms_norm` computes, for shapes (..., H) and (H,).

    Raises:
        RuntimeError: The shapes do not fit, or a tensor is not float32.
    """
    return torch.ops.llm_envs_decoding.rms_norm(x.contiguous(), weight, eps, offset)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """What `agents.decoders.functions.rotate` computes, for shapes (S, heads, D) and, twice, (S, 1, D / 2).

    Raises:
        RuntimeError: The shapes do not fit, or a tensor is not float32.
    """
    return torch.ops.llm_envs_decoding.rotate(x, cos, sin)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up` (arXiv:2002.05202, eq. 6), both (S, H); it overwrites `gate`.

    Raises:
        RuntimeError: The shapes do not fit, or a tensor is not float32.
    """
    torch.ops.llm_envs_decoding.swiglu(gate, up)
    return gate


def geglu(gate: Tensor, up: Tensor) -> Tensor:
    """What `agents.decoders.functions.geglu` computes, both (S, H); it overwrites `gate`.

    Raises:
        RuntimeError: The shapes do not fit, or a tensor is not float32.
    """
    torch.ops.llm_envs_decoding.geglu(gate, up)
    return gate


def exponentiate(logits: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Let logits be their exponentials, the largest of a row 1, in place; by an operator of ours where V is large.

    Args:
        logits: (N, V), float32 or float64, of any strides.
        size: Of the blocks that are added up.

    Returns:
        (N, V / size rounded up), the sums of blocks of a row; (N, 1), the largest logits, which were subtracted.
    """
    n, v = logits.shape
    is_large = v >= _LARGE_VOCABULARY and n > 0
    fits = logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.is_contiguous()
    if is_large and fits and has_fused_decoding():
        return torch.ops.llm_envs_decoding.exponentiate(logits, size)
    largest = logits.amax(dim=1, keepdim=True)
    logits -= largest
    logits.exp_()
    whole = v // size * size
    sums = logits[:, :whole].view(n, v // size, size).sum(2)
    if whole < v:
        sums = torch.cat([sums, logits[:, whole:].sum(1, keepdim=True)], dim=1)
    return sums, largest


class Cache(NamedTuple):
    """Keys and values, of one layer or of all.

    Attributes:
        prompts: ([layers,] 2, P, Hkv, Lp, D), keys and values, left-padded.
        own: ([layers,] 2, lines or more, Hkv, columns, D), those of each line's own tokens.
        filled: How many columns of `own` are in use, that of the newest token included.
        prompt_of: (lines,), int64.
        padding: (P,), int64, how many columns of a prompt are no tokens; None: none.
    """

    prompts: Tensor
    own: Tensor
    filled: int
    prompt_of: Tensor
    padding: Tensor | None

    def of_layer(self, layer: int) -> Cache:
        """That of one of the layers."""
        return self._replace(prompts=self.prompts[layer], own=self.own[layer])


def attend(query: Tensor, key: Tensor, value: Tensor, cache: Cache, window: int | None, scale: float) -> Tensor:
    """Attention of the newest token of each line over its prompt, its own tokens and itself.

    A prompt's keys and values are read once for several lines (the idea of Hydragen, arXiv:2402.05099).

    Args:
        query: (lines, Hq, D), contiguous.
        key: (lines, Hkv, D), is written to the last of the filled columns.
        value: (lines, Hkv, D), likewise.
        cache: Of this layer.
        window: How many tokens back a token sees, its own included; None: all.
        scale: What products of queries and keys are multiplied by.

    Returns:
        (lines, Hq, D).

    Raises:
        RuntimeError: The shapes do not fit, or a tensor has another type.
    """
    return torch.ops.llm_envs_decoding.attend(query, key, value, *cache, window or 0, scale)


LAYER_TENSORS = (
    *("before_attention", "query", "key", "value", "query_bias", "key_bias", "value_bias", "query_norm", "key_norm"),
    *("output", "output_bias", "after_attention"),
    *("before_mlp", "gate", "up", "gate_bias", "up_bias", "down", "down_bias", "after_mlp"),
    *(f"{name}_{part}" for name in ("query", "key", "value", "output", "gate", "up", "down") for part in "ab"),
)
"""What `Layers` has of each layer: weights, biases, and the two matrices of adapters (`linear_layers.scaled`)."""


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a decoder.

    Attributes:
        tensors: Those of `LAYER_TENSORS` for each layer, None where it has no such thing; then the weight of the final
            norm, and the matrix that is read after the last layer, or None.
        windows: For each layer, as in `attend`.
        rotations: For each layer, which of the cosines and sines it takes.
        eps: Of all norms.
        offset: Of all norms.
        scale: As in `attend`.
        is_gelu: Whether gates take `geglu`; otherwise `swiglu`.
    """

    tensors: list[Tensor | None]
    windows: list[int | None]
    rotations: list[int]
    eps: float
    offset: float
    scale: float
    is_gelu: bool = False


def decode(x: Tensor, cos: Sequence[Tensor], sin: Sequence[Tensor], layers: Layers, cache: Cache) -> Tensor:
    """All layers and the final norm for the newest token of each line, with the products of `few_rows.linears`.

    A step's weights push all else out of the processor's caches: Python and PyTorch's dispatch, which take two
    microseconds for an operator where nothing else runs, take some ten in a step of a hundred million parameters.

    Args:
        x: (lines, H) embedded tokens, 4 to 128 lines.
        cos: (lines, 1, D / 2) each.
        sin: (lines, 1, D / 2) each.
        layers: The decoder's.
        cache: Of all layers.

    Returns:
        (lines, H).

    Raises:
        RuntimeError: The shapes do not fit, or a tensor has another type.
    """
    own = [window or 0 for window in layers.windows]
    of_layers = (layers.tensors, own, layers.rotations, layers.is_gelu, layers.eps, layers.offset)
    return torch.ops.llm_envs_decoding.decode(x, cos, sin, *of_layers, *cache, layers.scale, parts_of_products())


def _check() -> None:
    """Compare with what PyTorch computes.

    Raises:
        CannotBuild: It is something else.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    d, heads = 16, 2
    query, key, value, own, prompts = (
        random(3, 4, d),
        *random(2, 3, heads, d),
        random(2, 3, heads, 4, d),
        random(2, 1, heads, 5, d),
    )
    out = attend(query, key, value, Cache(prompts, own, 2, torch.zeros(3, dtype=torch.long), None), None, 0.3)
    keys, values = torch.cat([prompts.expand(2, 3, heads, 5, d), own[:, :, :, :2]], dim=3)
    keys, values = keys.repeat_interleave(2, dim=1), values.repeat_interleave(2, dim=1)
    expected = torch.nn.functional.scaled_dot_product_attention(query[:, :, None], keys, values, scale=0.3)[:, :, 0]
    x, weight = random(3, 37), random(37)
    pairs = [
        (out, expected),
        (rms_norm(x, weight, 1e-5), torch.nn.functional.rms_norm(x, [37], weight, 1e-5)),
        (swiglu(x.clone(), x), torch.nn.functional.silu(x) * x),
        (geglu(x.clone(), x), torch.nn.functional.gelu(x, approximate="tanh") * x),
        (rotate(query, weight.new_zeros(3, 1, d // 2), weight.new_ones(3, 1, d // 2)), query.roll(d // 2, -1)),
    ]
    for found, true in pairs:
        # the sign of a rotation is left to the tests
        if not torch.allclose(found.abs(), true.abs(), rtol=1e-4, atol=1e-5):
            raise CannotBuild("what was compiled computes something else")
