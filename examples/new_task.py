"""Register a verifiable task in a few lines, then train and evaluate on it.

python examples/new_task.py --episodes 5120
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
import tyro

from agents import GRPOAgent, evaluate
from llm_envs import Problem, register_task
from rewards import MARKED_RULES, MathReward


@register_task("examples/Perimeter-v0", reward=MathReward(rules=MARKED_RULES))
def perimeter(rng: np.random.Generator, largest: int = 9) -> Problem:
    """The perimeter of a rectangle, as an expression that the small model can work out."""
    width, height = rng.integers(1, largest + 1, size=2).tolist()
    answer = 2 * (width + height)
    return Problem(
        prompt=f"What is 2 * ({width} + {height})? End with \\boxed{{answer}}.",
        reference=str(answer),
        solution=f"2*({width}+{height})=2*{width + height}={answer}. \\boxed{{{answer}}}",
    )


@dataclass(frozen=True)
class Arguments:
    """Train builtin/tiny on a task that it has never seen."""

    episodes: int = 5120
    """Completions to learn from."""
    seed: int = 0
    """Names the problems and the sampling noise."""


def main(arguments: Arguments) -> None:
    """Evaluate, learn, evaluate."""
    env = gymnasium.make("examples/Perimeter-v0", largest=9)
    agent = GRPOAgent("builtin/tiny", env, seed=arguments.seed)
    print(evaluate(agent, problems=15))
    agent.learn(arguments.episodes)
    print(evaluate(agent, problems=15))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
