"""Several processes on GPUs, connected by NCCL; `tests/agents/test_distributed.py` has the same with gloo on CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
SMALL = ["--prompts-per-update", "4", "--group-size", "4", "--max-completion-tokens", "24", "--total-episodes", "48"]
SMALL += ["--eval-problems", "3", "--eval-samples", "2"]


def torchrun(processes: int, *program: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([*launcher, *program], env=environment, capture_output=True, text=True, timeout=900)


@TWO_GPUS
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_gpus_have_the_gradients_and_figures_of_one(precision):
    """DDP and FSDP2, adapters, gradient checkpointing, offload, and whole updates."""
    done = torchrun(2, str(ROOT / "tests" / "agents" / "two_ranks.py"), "cuda", precision)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("equal") == 2


@TWO_GPUS
@pytest.mark.parametrize("options", [("ddp",), ("fsdp2",), ("fsdp2", "--cpu-offload"), ("fsdp2", "--lora-rank", "4")])
def test_the_command_line_trains_on_two_gpus_and_one_reads_its_checkpoint(options, tmp_path):
    run = tmp_path / "run"
    train = ["-m", "agents.cli", "train", *SMALL, "--run-dir", str(run), "--parallel", *options]
    done = torchrun(2, *train)
    assert done.returncode == 0, done.stderr[-4000:]
    record = json.loads((run / "config.json").read_text())["ran_on"]
    assert (record["processes"], record["device"].partition(":")[0]) == (2, "cuda")
    resume = [sys.executable, "-m", "agents.cli", "train", "--resume", "--run-dir", str(run), "--total-episodes", "64"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(resume, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_one_gpu_trains_under_torchrun(tmp_path):
    run = tmp_path / "run"
    done = torchrun(1, "-m", "agents.cli", "train", *SMALL, "--run-dir", str(run))
    assert done.returncode == 0, done.stderr[-4000:]
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
