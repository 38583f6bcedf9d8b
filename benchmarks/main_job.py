"""The main job over several seeds: GRPO on `llm_envs/Arithmetic-v0` with `builtin/tiny`.

python benchmarks/main_job.py --seeds 0 1 2
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads; see agents/cli/__init__.py

import platform
import time
from dataclasses import dataclass, field

import torch
import transformers
import tyro

from agents import GRPO, GRPOAgent, GRPOConfig, evaluate
from agents.evaluation.estimates import paired_difference


@dataclass(frozen=True)
class Arguments:
    """Run the main job over several seeds and print a Markdown table."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of training; the held-out problems are the same for all."""
    total_episodes: int = 11_520
    """Completions to learn from."""
    problems: int = 500
    """Held-out problems."""
    samples: int = 8
    """Completions for each."""
    device: str = "auto"
    """auto, cpu or cuda."""
    config: GRPOConfig = field(default_factory=GRPOConfig)
    objective: GRPO = field(default_factory=GRPO)


def main(arguments: Arguments) -> None:
    """Print one row per seed."""
    torch.set_num_threads(1)
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()}), 1 thread")
    print(
        "\n| seed | sampled before | sampled after | gain, paired | greedy before | greedy after | seconds, learning |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for seed in arguments.seeds:
        agent = GRPOAgent(
            "builtin/tiny",
            "llm_envs/Arithmetic-v0",
            config=arguments.config,
            objective=arguments.objective,
            seed=seed,
            device=arguments.device,
        )
        before = evaluate(agent, problems=arguments.problems, samples=arguments.samples)
        started = time.perf_counter()
        agent.learn(arguments.total_episodes)
        seconds = time.perf_counter() - started
        after = evaluate(agent, problems=arguments.problems, samples=arguments.samples)
        gain = paired_difference(before.sampled_accuracy_by_problem(), after.sampled_accuracy_by_problem())
        cells = [before.pass_at_k[1], after.pass_at_k[1], gain, before.greedy, after.greedy]
        print(f"| {seed} | " + " | ".join(cell.as_percent() for cell in cells) + f" | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, config=(tyro.conf.OmitArgPrefixes,)))
