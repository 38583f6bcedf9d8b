"""Rates of the products of a decode step, whose weights come from memory, on x86 CPUs (agents.kernels.few_rows).

python benchmarks/few_row_products.py --threads 1

All linear layers and the head of a model of SmolLM2-135M's shape, in their order, for a few rows: PyTorch's products,
oneDNN's with arranged copies of the weights (agents.decoders.packed), and ours. They run in turn; medians.
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
from torch import nn

from agents.decoders.linear_layers import Apart
from agents.decoders.packed import packed
from agents.decoders.streamed import can_stream, streamed

HIDDEN, MLP, KEYS, VOCABULARY = 576, 1536, 192, 49152


@dataclass(frozen=True)
class Arguments:
    """What to run."""

    threads: int = 1
    layers: int = 30
    rows: tuple[int, ...] = (4, 8, 16, 32, 64)
    repetitions: int = 9
    out: Path | None = None
    """Also write the figures to this JSON file."""


@torch.no_grad()
def main(arguments: Arguments) -> None:
    """Print a table."""
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    stages = model(arguments.layers)
    if not can_stream(stages, torch.float32):
        raise SystemExit("this CPU has neither AVX-512 nor AVX2, or nothing compiles for it; the log says which")
    kinds = {
        "PyTorch's": stages,
        "oneDNN's, arranged": [packed(stage, torch.float32) for stage in stages],
        "ours": streamed(stages, torch.float32),
    }
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, {arguments.threads} threads", end="")
    print(f", {torch.backends.cpu.get_cpu_capability()}, load {os.getloadavg()[0]:.1f}\n")
    print(f"| rows | {' | '.join(f'{kind}, ms' for kind in kinds)} | ours: GFLOP/s | GB/s |")
    print("|---|---|---|---|---|---|")
    entries = sum(layer.weight.numel() for stage in stages for layer in getattr(stage, "layers", [stage]))
    record = {}
    for rows in arguments.rows:
        times = measure({kind: step(stages, rows) for kind, stages in kinds.items()}, arguments.repetitions)
        record[rows] = dict(zip(kinds, times, strict=True))
        cells = [f"{1e3 * seconds:.0f}" for seconds in times]
        print(
            f"| {rows} | {' | '.join(cells)} | {2e-9 * rows * entries / times[-1]:.0f} "
            f"| {4e-9 * entries / times[-1]:.1f} |",
            flush=True,
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def model(layers: int) -> list[nn.Linear | Apart]:
    """Its linear layers, those of one input together."""

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, bias=False)

    stages: list[nn.Linear | Apart] = []
    for _ in range(layers):
        stages.append(Apart(linear(HIDDEN, HIDDEN), linear(HIDDEN, KEYS), linear(HIDDEN, KEYS)))
        stages.append(linear(HIDDEN, HIDDEN))
        stages.append(Apart(linear(HIDDEN, MLP), linear(HIDDEN, MLP)))
        stages.append(linear(MLP, HIDDEN))
    return [*stages, linear(HIDDEN, VOCABULARY)]


def step(stages: list, rows: int) -> Callable[[], None]:  # type: ignore[type-arg]
    """All products of a decode step."""
    narrow, wide = torch.randn(rows, HIDDEN), torch.randn(rows, MLP)

    def run() -> None:
        for i, stage in enumerate(stages):
            stage(wide if i % 4 == 3 else narrow)

    return run


def measure(calls: dict[str, Callable[[], None]], repetitions: int) -> list[float]:
    """Median seconds of each, the first time left out."""
    times: dict[str, list[float]] = {kind: [] for kind in calls}
    for _ in range(repetitions + 1):
        for kind, call in calls.items():
            begin = time.perf_counter()
            call()
            times[kind].append(time.perf_counter() - begin)
    return [statistics.median(of_kind[1:]) for of_kind in times.values()]


if __name__ == "__main__":
    main(tyro.cli(Arguments))
