"""Time of a GRPO step over group size, prompt length, completion length and vocabulary, beside the machine's limit.

python benchmarks/grpo_step_scaling.py --out docs/images/step_scaling.png

A Llama of random weights (speed does not depend on them), our fast path and the plain path in turn, one thread. One
size varies at a time, the others stay at 4 prompts x 8 completions, 64 prompt and 48 completion tokens, a vocabulary of
8,192. Takes about a quarter of an hour on one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import tyro
from step_work import Forced, Step, Work, limits, machine_rates
from transformers import LlamaConfig, LlamaForCausalLM

from agents import load_policy
from agents.hardware import keep_freed_memory

BASE = Work(prompt_tokens=64)
VOCABULARY = 8192
SWEEPS: dict[str, tuple[str, list[int]]] = {
    "group_size": ("completions for each prompt", [2, 4, 8, 16, 32]),
    "prompt_tokens": ("prompt tokens", [16, 64, 256, 1024]),
    "completion_tokens": ("completion tokens", [12, 24, 48, 96, 192]),
    "vocabulary": ("tokens in the vocabulary", [2048, 8192, 32768, 65536]),
}
KINDS = {"fast": "ours", "plain": "plain path"}


@dataclass(frozen=True)
class Arguments:
    """Measure and plot."""

    out: Path = Path("step_scaling.png")
    """The figure; the numbers go beside it, as JSON."""
    steps: int = 5
    """Steps at each point; the first two are not counted."""
    precision: str = "float32"
    """float32 or bfloat16."""
    hidden: int = 320
    """Width of the model."""
    layers: int = 8
    """Layers of the model."""
    device: str = "cpu"
    """cpu or cuda."""


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    if arguments.device == "cpu":
        keep_freed_memory()
    record: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
    record |= {"device": arguments.device, "precision": arguments.precision, "sweeps": {}}
    record["machine"] = rates = machine_rates(arguments.device, arguments.precision)
    print(f"{record['date']}, torch {torch.__version__}, {rates['gflops']:.0f} GFLOP/s, {rates['gbytes']:.1f} GB/s")
    print("\n| | | ours: rollout, s | update, s | plain path: rollout, s | update, s | step, ratio | of limit |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (_, values) in SWEEPS.items():
        record["sweeps"][name] = [point(arguments, name, value, rates) for value in values]
        arguments.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    plot(record, arguments.out)


def point(arguments: Arguments, name: str, value: int, rates: dict[str, float]) -> dict[str, float]:
    """Medians of both paths, whose steps take turns."""
    vocabulary = value if name == "vocabulary" else VOCABULARY
    work = replace(BASE, device=arguments.device, precision=arguments.precision)  # type: ignore[arg-type]
    if name != "vocabulary":
        work = replace(work, **{name: value})
    steps = {path: Step(replace(work, path=path), policy_of(arguments, vocabulary, path)) for path in KINDS}
    rows: dict[str, list[dict[str, float]]] = {path: [] for path in KINDS}
    for _ in range(arguments.steps):
        for path, step in steps.items():
            rows[path].append(step.run())
    clock = "cpu" if arguments.device == "cpu" else "wall"
    found = {
        f"{path}_{part}": statistics.median(row[f"{part}_{clock}"] for row in rows[path][2:])
        for path in KINDS
        for part in ("rollout", "update")
    }
    found |= {"value": value, **limits(work, steps["fast"].policy.model, rates)}
    ours, plain = (found[f"{path}_rollout"] + found[f"{path}_update"] for path in KINDS)
    share = (found["rollout_limit"] + found["update_limit"]) / ours
    cells = [f"{found[f'{path}_{part}']:.2f}" for path in KINDS for part in ("rollout", "update")]
    print(f"| {name} | {value} | {' | '.join(cells)} | {plain / ours:.1f} | {share:.0%} |", flush=True)
    return found


def policy_of(arguments: Arguments, vocabulary: int, path: str) -> Forced:
    """A model of random weights, the same for both paths."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 3,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden // 64,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=4096,
    )
    tokenizer = load_policy("builtin/tiny").tokenizer
    precision: Any = arguments.precision
    model = LlamaForCausalLM(config)
    return Forced(model, tokenizer, device=arguments.device, precision=precision, plain=path == "plain")


def plot(record: dict[str, Any], out: Path) -> None:
    """One panel for each size that varies, both axes logarithmic."""
    figure, axes = plt.subplots(1, len(SWEEPS), figsize=(13, 3.4), sharey=True, layout="constrained")
    for axis, (name, (label, values)) in zip(axes, SWEEPS.items(), strict=True):
        points = record["sweeps"][name]
        for path, title, color in (("plain", "plain path", "tab:gray"), ("fast", "ours", "tab:blue")):
            for part, style in (("update", "-"), ("rollout", "--")):
                times = [point[f"{path}_{part}"] for point in points]
                axis.plot(values, times, style, marker="o", markersize=3, color=color, label=f"{part}, {title}")
        for part, style in (("update", "-"), ("rollout", "--")):
            times = [point[f"{part}_limit"] for point in points]
            axis.plot(values, times, style, color="tab:red", linewidth=1, label=f"{part}, limit of the machine")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(values, [f"{value:,}" for value in values])
        axis.minorticks_off()
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("CPU seconds" if record["device"] == "cpu" else "seconds")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
