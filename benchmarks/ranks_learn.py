"""Whether several processes learn as one does: the main job with one process and with several, seed by seed.

python benchmarks/ranks_learn.py --seeds 0 1 2 --processes 2

Each run is one call of `llm-envs train` with its defaults: GRPO, `builtin/tiny`, `llm_envs/Arithmetic-v0`. Both runs of
a seed see the same problems and differ in sampling noise, so their accuracies are compared with intervals: of each run
on the held-out problems, of the paired difference for each seed, and of the mean difference over seeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import transformers
import tyro

from agents.evaluation.estimates import mean_estimate, paired_difference
from agents.evaluation.held_out import EvaluationReport

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Arguments:
    """Train with one process and with several, and print a Markdown table."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training; the held-out problems are the same for all."""
    processes: int = 2
    """How many train together."""
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """How they divide the work."""
    total_episodes: int = 11_520
    """Completions to learn from."""
    problems: int = 200
    """Held-out problems."""
    samples: int = 8
    """Completions for each."""


def main(arguments: Arguments) -> None:
    """Print a row for each seed, and the mean of the differences."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{time.strftime('%Y-%m-%d')}, {versions}, CPU, 1 thread a process, {arguments.parallel}\n")
    names = ["one process", f"{arguments.processes} processes"]
    columns = ["before", *names, "difference, paired"]
    print(f"| seed | {' | '.join(f'sampled: {name}' for name in columns)} | greedy: {' | greedy: '.join(names)} |")
    print("|---" * (len(columns) + 3) + "|", flush=True)
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            one, several = (Path(folder) / f"{seed}-{count}" for count in ("one", "several"))
            train(arguments, seed, one, [])
            launcher = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "-m"]
            launcher[1:1] = ["--nproc-per-node", str(arguments.processes)]
            train(arguments, seed, several, launcher)
            before = EvaluationReport.load(one / "evaluation_before.json")
            after = [EvaluationReport.load(run / "evaluation_after.json") for run in (one, several)]
            by_problem = [report.sampled_accuracy_by_problem() for report in after]
            difference = paired_difference(by_problem[0], by_problem[1])
            differences.append(difference.value)
            sampled = [report.pass_at_k[1].as_percent() for report in (before, *after)]
            cells = [*sampled, difference.as_points(), *(report.greedy.as_percent() for report in after)]
            print(f"| {seed} | {' | '.join(cells)} |", flush=True)
    if len(differences) > 1:
        mean = mean_estimate(np.array(differences))  # the seed is the unit
        print(f"\nmean difference over seeds, {names[1]} minus one: {mean.as_points()}")


def train(arguments: Arguments, seed: int, run: Path, launcher: list[str]) -> None:
    """One run, in processes of its own."""
    options = ["--seed", str(seed), "--run-dir", str(run), "--device", "cpu", "--threads", "1"]
    options += ["--total-episodes", str(arguments.total_episodes)]
    options += ["--eval-problems", str(arguments.problems), "--eval-samples", str(arguments.samples)]
    if launcher:
        options += ["--parallel", arguments.parallel]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", *launcher, "agents.cli", "train", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
