"""One process of `grpo_step.py`: steps of ours on a given piece of work, timed; prints one line of JSON."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import resource

import torch
import tyro
from step_work import Forced, Step, Work, limits, machine_rates

from agents import load_policy
from agents.hardware import keep_freed_memory


def main(work: Work) -> None:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(work.matmul_precision)
    if not work.own_products:  # read when the first product asks
        os.environ |= {"LLM_ENVS_SPLIT_PRODUCTS": "0", "LLM_ENVS_FMA_PRODUCTS": "0"}
    if work.device == "cpu" and work.path == "fast":
        keep_freed_memory()  # as the command line does
    loaded = load_policy(work.model, device=work.device, precision=work.precision, lora_rank=work.lora_rank)
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
    print(json.dumps(result | {"limits": limits(work, policy.model, rates)}))


if __name__ == "__main__":
    main(tyro.cli(Work))
