"""Rates and errors of float32 products: PyTorch's, and those on the matrix units of the CPU (agents.kernels).

python benchmarks/split_products.py --threads 1

The shapes are those of SmolLM2-135M: products of an update (forward, and backward for inputs and weights), of its head,
and of decode steps, whose weights come from memory. PyTorch's and ours run in turn; medians. Needs a CPU with AMX.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import tyro

from agents.hardware import keep_freed_memory
from agents.kernels import product
from agents.kernels.split_products import has_split_products

# of (M, K) and (K, N): what it is, M, K, N, whether each operand lies in memory column by column
SHAPES = {
    "update, forward, gate": (1712, 576, 1536, False, True),
    "update, forward, down": (1712, 1536, 576, False, True),
    "update, backward to the input, gate": (1712, 1536, 576, False, False),
    "update, backward to the weight, gate": (1536, 1712, 576, True, False),
    "head, forward": (341, 576, 49152, False, True),
    "head, backward to the input": (341, 49152, 576, False, False),
    "head, backward to the weight": (49152, 341, 576, True, False),
    "decode step of 32 rows, gate": (32, 576, 1536, False, True),
    "decode step of 8 rows, gate": (8, 576, 1536, False, True),
    "decode step of 32 rows, head": (32, 576, 49152, False, True),
}
# entries of the right operands of a decode step, more than caches hold
COLD = 2**26


@dataclass(frozen=True)
class Arguments:
    """What to run."""

    threads: int = 1
    repetitions: int = 15
    out: Path | None = None
    """Also write the figures to this JSON file."""


def main(arguments: Arguments) -> None:
    """Print a table."""
    keep_freed_memory()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    if not has_split_products():
        raise SystemExit("this CPU has no AMX, or nothing compiles for it; the log says which")
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {arguments.threads} threads", end="")
    print(f", load {os.getloadavg()[0]:.1f}\n")
    print("| GFLOP/s | PyTorch's | three parts | two parts | errors: PyTorch's | three | two |")
    print("|---|---|---|---|---|---|---|")
    record = {}
    for name, shape in SHAPES.items():
        rates, errors = measure(shape, arguments.repetitions)
        record[name] = {"shape": shape, "gflops": rates, "errors": errors}
        print(
            f"| {name} | {' | '.join(f'{x:.0f}' for x in rates)} | {' | '.join(f'{x:.1e}' for x in errors)} |",
            flush=True,
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(shape: tuple[int, int, int, bool, bool], repetitions: int) -> tuple[list[float], list[float]]:
    """GFLOP/s and relative errors of PyTorch's products, three parts and two."""
    m, k, n, *by_column = shape
    copies = max(1, COLD // (k * n)) if m < 64 else 1
    a = matrix(m, k, by_column[0])
    others = [matrix(k, n, by_column[1]) for _ in range(copies)]
    out = torch.empty(m, n)

    def pytorchs() -> None:
        for b in others:
            torch.mm(a, b, out=out)

    def ours() -> None:
        for b in others:
            product(a, b, out=out)

    kinds: list[tuple[Callable[[], None], str]] = [(pytorchs, "highest"), (ours, "highest"), (ours, "high")]
    times: list[list[float]] = [[] for _ in kinds]
    errors = []
    for repetition in range(repetitions + 1):
        for (call, precision), of_kind in zip(kinds, times, strict=True):
            torch.set_float32_matmul_precision(precision)
            begin = time.perf_counter()
            call()
            if repetition > 0:
                of_kind.append(time.perf_counter() - begin)
            else:
                expected = a.double() @ others[-1].double()
                errors.append(((out.double() - expected).norm() / expected.norm()).item())
    return [2 * m * k * n * copies / statistics.median(of_kind) / 1e9 for of_kind in times], errors


def matrix(rows: int, columns: int, by_column: bool) -> torch.Tensor:
    return torch.randn(columns, rows).t() if by_column else torch.randn(rows, columns)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
