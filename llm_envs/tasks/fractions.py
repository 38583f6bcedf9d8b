"""`llm_envs/Fractions-v0`: sums, products and quotients of fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_level, pick, whole
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

LEVELS = ((2, 9), (2, 20), (3, 12), (4, 20))
"""How many fractions, and the largest denominator, of each level."""
_REWARD = MathReward(rules=MARKED_RULES)


def _fraction(rng: np.random.Generator, largest: int) -> Fraction:
    while True:
        value = Fraction(whole(rng, 1, 2 * largest), whole(rng, 2, largest))
        if value.denominator > 1:
            return value


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right


@register_task("llm_envs/Fractions-v0", reward=_REWARD)
def fractions(rng: np.random.Generator, level: int = 0) -> Problem:
    """Calculate with fractions; any fraction, mixed number or finite decimal of the right value is right.

    Args:
        rng: Source of randomness.
        level: 0: two fractions with denominators up to 9; 1: up to 20; 2: three fractions; 3: four of them.

    Raises:
        ValueError: `level` is out of range.
    """
    check_level(level, len(LEVELS))
    count, largest = LEVELS[level]
    value = _fraction(rng, largest)
    text = f"({value})"
    steps = []
    for i in range(1, count):
        operator, right = pick(rng, "+-*/"), _fraction(rng, largest)
        while operator == "/" and value == 0:
            operator = pick(rng, "+-*")
        before, value = value, _apply(operator, value, right)
        steps.append(f"{before} {operator} {right} = {value}")
        text = f"{text} {operator} ({right})" if i == 1 else f"[{text}] {operator} ({right})"
    question = f"Calculate {text} as a fraction or whole number."
    return Problem(
        prompt=f"{question} {_REWARD.instruction}",
        reference=str(value),
        solution=f"{'; '.join(steps)}. {boxed(value)}",
        metadata={"level": level},
        key=question,
    )
