"""One process of `grpo_step.py`: steps of ours on a given piece of work, timed; prints one line of JSON."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import resource
from pathlib import Path

import torch
import tyro
from step_work import Forced, Step, Work, limits, machine_rates

import agents
from agents.hardware import keep_freed_memory


def main(work: Work) -> None:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(work.matmul_precision)
    if work.device == "cpu" and work.path == "fast":
        keep_freed_memory()  # as the command line does
    loaded = agents.load_policy(work.model, device=work.device, precision=work.precision, lora_rank=work.lora_rank)
    if work.path != "fast":
        with_pytorchs_products(loaded.model)
    policy = Forced(
        loaded.model, loaded.tokenizer, device=work.device, precision=work.precision, plain=work.path != "fast"
    )
    step = Step(work, policy)
    rows = [step.run() for _ in range(work.steps)]
    peak = {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if work.device != "cpu":
        peak = {"peak_gib": torch.cuda.max_memory_allocated() / 2**30}
        peak |= {"reserved_gib": torch.cuda.max_memory_reserved() / 2**30}  # with that of CUDA graphs
    rates = machine_rates(work.device, work.precision)
    result = {"steps": rows, **peak, "torch": torch.__version__, "machine": rates}
    result |= {"checkout": str(Path(agents.__file__).parents[1]), "limits": limits(work, policy.model, rates)}
    print(json.dumps(result))


def with_pytorchs_products(model: torch.nn.Module) -> None:
    """Undo what loading a policy does to linear layers, for the plain path: it is transformers' own."""
    for module in model.modules():
        if torch.nn.Linear in type(module).__bases__:
            module.__class__ = torch.nn.Linear


if __name__ == "__main__":
    main(tyro.cli(Work))
