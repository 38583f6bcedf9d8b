"""Float32 matrix products on the matrix units (AMX) of x86 CPUs, which PyTorch uses for bfloat16 alone.

A float32 number is the sum of three bfloat16 numbers, and six of the nine products of such parts, added up in float32,
make a product of float32's own precision (arXiv:1904.06376; `split_products.cpp`). Two parts and three products hold
16 bits, about the precision of "bf16x3".

`torch.set_float32_matmul_precision` says which, as it does for PyTorch's own products: "highest" (the default) is three
parts; "high" and "medium" allow two, as PyTorch's documentation has it ("treat each float32 number as the sum of two
bfloat16 numbers").

Measured on one core of an Intel Xeon (see docs/performance.md): 1.4 to 2.1 times as fast as PyTorch's products with
three parts, 1.7 to 2.8 times with two.

Where there is no AMX, no compiler, or what was compiled does not compute a known product, PyTorch's own products are
used; why is said once in the log. `LLM_ENVS_SPLIT_PRODUCTS=0` in the environment does that as well.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from agents.kernels.build import CannotBuild
from agents.kernels.loading import load_operators

_SOURCE = Path(__file__).with_suffix(".cpp")
_FLAGS = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mamx-tile", "-mamx-bf16"]
_NEEDED = {"amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512dq", "avx512vl"}
_VARIABLE = "LLM_ENVS_SPLIT_PRODUCTS"

# what does not gain, as measured: fewer rows; small matrices, of which the smaller ones need many rows. None of
# builtin/tiny is large enough: its first run compiles nothing
_MIN_ROWS = 4
_MIN_ENTRIES = 3 * 2**15
_MIN_ENTRIES_OF_FEW_ROWS = 2**18
_MIN_MULTIPLICATIONS = 3 * 2**20
_MIN_SIDE = 64

FEW_ROWS = range(_MIN_ROWS, 129)  # to kFewRows of the source
"""Numbers of rows for which `linears` reads weights from memory once."""


@functools.cache
def has_split_products() -> bool:
    """Whether this process has them. The first call may compile them, which takes some ten seconds once a machine."""
    return _has_amx() and load_operators("float32 products on matrix units", _SOURCE, _FLAGS, _VARIABLE, _check)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`agents.kernels.products.linear`, by split products where they are faster."""
    if not _gains(x, weight):
        return torch.nn.functional.linear(x, weight, bias)
    out = _Linear.apply(x, weight) if torch.is_grad_enabled() else _product(x, weight.t())
    return out if bias is None else out + bias


def linears(x: Tensor, weights: Sequence[Tensor], next_weight: Tensor | None = None) -> list[Tensor]:
    """`agents.kernels.few_rows.linears`, by split products where they are faster."""
    entries = sum(weight.numel() for weight in weights)
    if len(x) not in FEW_ROWS or entries < _MIN_ENTRIES_OF_FEW_ROWS or not _fits(x, *weights):
        return [linear(x, weight) for weight in weights]
    x = _rows_or_columns(x)
    return torch.ops.llm_envs_split_products.linears(x, list(weights), parts(), next_weight)


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """`agents.kernels.products.product`, by split products where they are faster."""
    if not _gains(a, b):
        return torch.mm(a, b) if out is None else torch.mm(a, b, out=out)
    return _product(a, b, out)


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """`agents.kernels.products.add_product`, by split products where they are faster."""
    if _gains(a, b) and out.dtype == torch.float32:
        torch.ops.llm_envs_split_products.matmul_out(_rows_or_columns(a), _rows_or_columns(b), parts(), True, out)
    else:
        out.addmm_(a, b)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = _product(gradient, weight) if ctx.needs_input_grad[0] else None
        of_weight = _product(gradient.t(), x) if ctx.needs_input_grad[1] else None
        return of_x, of_weight


def _gains(a: Tensor, b: Tensor) -> bool:
    """Whether split products are here and faster, for `b` of the shape (K, N) or (N, K)."""
    entries = b.numel()
    is_large = entries >= _MIN_ENTRIES and min(b.shape) >= _MIN_SIDE
    has_work = entries >= _MIN_ENTRIES_OF_FEW_ROWS or len(a) * entries >= _MIN_MULTIPLICATIONS
    return is_large and has_work and _fits(a, b)


def _fits(a: Tensor, *others: Tensor) -> bool:
    """Whether split products are here, and for these tensors and so many rows."""
    return (
        len(a) >= _MIN_ROWS
        and all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in (a, *others))
        and not torch.is_autocast_enabled("cpu")
        and has_split_products()
    )


def _product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    if out is None:
        out = a.new_empty(a.shape[0], b.shape[1])
    torch.ops.llm_envs_split_products.matmul_out(_rows_or_columns(a), _rows_or_columns(b), parts(), False, out)
    return out


def parts() -> int:
    """How many parts of each number the products take, see the module."""
    return 3 if torch.get_float32_matmul_precision() == "highest" else 2


def _rows_or_columns(x: Tensor) -> Tensor:
    """The tensor itself if one of its dimensions is contiguous, or else a copy."""
    return x if 1 in x.stride() else x.contiguous()


def _has_amx() -> bool:
    """Linux alone says so, and is asked for it the way that is compiled."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(flags.split()) >= _NEEDED


def _check() -> None:
    """Compare with a known product.

    Raises:
        CannotBuild: It is another one, or the system does not let this process use the matrix units.
    """
    if not torch.ops.llm_envs_split_products.enable():
        raise CannotBuild("the system does not let this process use the matrix units")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*shape, generator=generator, dtype=torch.float32) for shape in ((70, 100), (100, 90)))
    expected = a.double() @ b.double()
    for x, y in ((a, b), (a, b.t().contiguous().t()), (a[:5], b.t().contiguous().t())):
        difference = (_product(x, y).double() - expected[: len(x)]).norm() / expected[: len(x)].norm()
        if not difference < 1e-4:
            raise CannotBuild(f"what was compiled computes another product (relative difference {difference:.1e})")
