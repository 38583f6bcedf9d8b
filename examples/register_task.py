"""Register a task with a reward of its own, and find out by an audit that the reward has a hole.

python examples/register_task.py
"""

from __future__ import annotations

import numpy as np

from llm_envs import Problem, audit_task, register_task
from llm_envs.tasks.writing import boxed
from rewards import MARKED_RULES, MathReward, Outcome, RewardResult


def careless(prompts: list[str], completions: list[str], references: list[str]) -> list[RewardResult]:
    """Right where the reference occurs anywhere behind the word boxed: it looks harmless."""
    results = []
    for completion, reference in zip(completions, references, strict=True):
        found = reference in completion.partition("boxed")[2]
        results.append(RewardResult(1.0, Outcome.CORRECT) if found else RewardResult(0.0, Outcome.WRONG))
    return results


def seconds(rng: np.random.Generator, hours: int = 12) -> Problem:
    """Convert a time to seconds."""
    h, m = int(rng.integers(1, hours)), int(rng.integers(60))
    answer = 3600 * h + 60 * m
    prompt = f"How many seconds are {h} hours and {m} minutes? Put your final answer in \\boxed{{}}."
    return Problem(prompt, reference=str(answer), solution=f"3600*{h}+60*{m}={answer}. {boxed(answer)}")


def main() -> None:
    """Audit the task with a careless reward, then with an exact one."""
    register_task("examples/Careless-v0", reward=careless)(seconds)
    report = audit_task("examples/Careless-v0")
    print(f"{report.task}: {len(report.failed)} properties do not hold")
    for row in report.failed:
        print(f"  {row.name}: {row.detail}, for example {row.example}")

    register_task("examples/Seconds-v0", reward=MathReward(rules=MARKED_RULES), check=True)(seconds)
    report = audit_task("examples/Seconds-v0", hours=24)
    print(f"{report.task}: {'passed' if report.passed else 'FAILED'}")


if __name__ == "__main__":
    main()
