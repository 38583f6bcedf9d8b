"""GRPO on a task of several turns: Arithmetic-v0 with up to three attempts at each problem.

python benchmarks/second_chance.py --seeds 0 1
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch loads; see agents/cli/__init__.py

from dataclasses import dataclass

import torch
import tyro

from agents import GRPOAgent, evaluate
from llm_envs import register_task
from llm_envs.tasks.arithmetic import arithmetic
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

ONE, THREE = "llm_envs/Arithmetic-v0", "benchmarks/SecondChance-v0"


def again(problem, completions, result):
    """Ask again where the answer is wrong."""
    return None if result.outcome == "correct" else "That is not right. Try again."


register_task(THREE, reward=MathReward(rules=MARKED_RULES), reply=again, max_turns=3)(arithmetic)


@dataclass(frozen=True)
class Arguments:
    """Train on up to three attempts, and evaluate with three attempts and with one."""

    seeds: tuple[int, ...] = (0, 1)
    """Seeds of training; the held-out problems are always the same."""
    total_episodes: int = 4096
    """Episodes to learn from."""
    problems: int = 200
    """Held-out problems."""
    samples: int = 4
    """Episodes of each."""


def row(title: str, agent: GRPOAgent, arguments: Arguments) -> str:
    """Accuracies of an agent, and how many attempts it took."""
    reports = [evaluate(agent, task, problems=arguments.problems, samples=arguments.samples) for task in (THREE, ONE)]
    rollouts = reports[0].sampled_rollouts
    cells = [f"{report.pass_at_k[1].as_percent()} | {report.greedy.as_percent()}" for report in reports]
    return f"| {title} | {' | '.join(cells)} | {sum(rollout.turns for rollout in rollouts) / len(rollouts):.2f} |"


def main(arguments: Arguments) -> None:
    """Print a Markdown table."""
    torch.set_num_threads(1)
    print(
        "| | sampled, three attempts | greedy | sampled, one attempt | greedy | attempts |\n|---|---|---|---|---|---|"
    )
    print(row("before", GRPOAgent("builtin/tiny", THREE, device="cpu"), arguments), flush=True)
    for seed in arguments.seeds:
        agent = GRPOAgent("builtin/tiny", THREE, seed=seed, device="cpu").learn(arguments.total_episodes)
        print(row(f"seed {seed}", agent, arguments), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
