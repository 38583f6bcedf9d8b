"""Float32 products of few rows with matrices that come from memory, on x86 CPUs without matrix units.

A decode step multiplies each weight with a few rows. PyTorch's products arrange the weights for that, which takes as
long as the product, or keep an arranged copy of them; these read each weight once, where it stands
(`fma_products.cpp`). They have no gradient.

Measured on one core of an AMD EPYC with AVX2 (see docs/performance.md): 1.4 to 1.8 times as fast as PyTorch's products
for 4 to 32 rows, up to 1.5 times as fast as oneDNN's with arranged weights.

They are compiled for AVX-512 or AVX2 where they are first needed, and used if what was compiled computes what it
should. `LLM_ENVS_FMA_PRODUCTS=0` in the environment turns them off.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from agents.kernels.build import CannotBuild
from agents.kernels.loading import load_operators, vector_flags

_SOURCE = Path(__file__).with_suffix(".cpp")
_VARIABLE = "LLM_ENVS_FMA_PRODUCTS"


@functools.cache
def has_fma_products() -> bool:
    """Whether this process has them. The first call may compile them, which takes some ten seconds once a machine."""
    flags = vector_flags()
    return flags is not None and load_operators("float32 products of few rows", _SOURCE, flags, _VARIABLE, _check)


def linears(x: Tensor, weights: Sequence[Tensor], next_weight: Tensor | None = None) -> list[Tensor]:
    """`torch.nn.functional.linear` with each of the weights; for up to some hundred rows.

    Args:
        x: (S, H), float32.
        weights: Each (V, H), float32 and contiguous.
        next_weight: What will be read after them; its beginning is fetched while the last of them is multiplied.

    Returns:
        (S, V) for each.

    Raises:
        RuntimeError: The shapes do not fit, or a tensor is not float32.
    """
    return torch.ops.llm_envs_fma_products.linears(x.contiguous(), list(weights), next_weight)


def _check() -> None:
    """Compare with known products, of every number of vectors that a group of rows can have.

    Raises:
        CannotBuild: They are others.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float32)

    weights = [random(70, 250), random(5, 250)]
    for rows in (3, 12, 20, 28, 60):
        x = random(rows, 250)
        for found, weight in zip(linears(x, weights, weights[0]), weights, strict=True):
            expected = x.double() @ weight.double().t()
            difference = (found.double() - expected).norm() / expected.norm()
            if not difference < 1e-5:
                raise CannotBuild(f"what was compiled computes another product (relative difference {difference:.1e})")
