"""`llm_envs/Countdown-v0`: make a number from given numbers with `+ - * /`."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_level, pick, whole
from rewards.countdown import CountdownReward

LEVELS = ((3, 10, 100), (4, 20, 200), (5, 50, 500), (6, 100, 1000))
"""How many numbers, the largest number and the largest target of each level."""
_TRIES = 10_000
_REWARD = CountdownReward()


@dataclass(frozen=True, slots=True)
class _Part:
    value: Fraction
    text: str
    is_number: bool = False

    @property
    def bracketed(self) -> str:
        return self.text if self.is_number else f"({self.text})"


def sample_solution(rng: np.random.Generator, numbers: list[int]) -> _Part:
    """Join the numbers, two parts at a time, by random operators until one expression is left.

    Divisions are only made where they come out even, so that what is asked can be done in whole numbers.
    """
    parts = [_Part(Fraction(number), str(number), is_number=True) for number in numbers]
    while len(parts) > 1:
        i, j = rng.choice(len(parts), size=2, replace=False).tolist()
        left, right = parts[i], parts[j]
        operator = pick(rng, "+-*/")
        if operator == "/" and (right.value == 0 or (left.value / right.value).denominator != 1):
            operator = "*"
        values = {"+": left.value + right.value, "-": left.value - right.value, "*": left.value * right.value}
        value = left.value / right.value if operator == "/" else values[operator]
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        parts = [*rest, _Part(value, f"{left.bracketed} {operator} {right.bracketed}")]
    return parts[0]


@register_task("llm_envs/Countdown-v0", reward=_REWARD)
def countdown(rng: np.random.Generator, level: int = 0, numbers: int | None = None) -> Problem:
    """Make a target from given numbers, each used once, with `+ - * /` and parentheses.

    Every puzzle has a solution, as it is made from one. There may be others; all are right.

    Args:
        rng: Source of randomness.
        level: 0: three numbers up to 10; 1: four up to 20; 2: five up to 50; 3: six up to 100.
        numbers: How many numbers instead, 3 to 6.

    Raises:
        ValueError: An argument is out of range.
    """
    check_level(level, len(LEVELS))
    count, largest, largest_target = LEVELS[level]
    count = count if numbers is None else numbers
    if not 3 <= count <= 6:
        raise ValueError(f"numbers must be between 3 and 6, got {numbers}")
    for _ in range(_TRIES):
        given = [whole(rng, 1, largest) for _ in range(count)]
        solution = sample_solution(rng, given)
        if 0 < solution.value <= largest_target and solution.value not in given:
            break
    else:
        raise ValueError(f"no solution of {count} numbers was found in {_TRIES} tries")
    target = int(solution.value)
    listed = ", ".join(map(str, given))
    return Problem(
        prompt=f"Use each of the numbers {listed} exactly once, with +, -, *, / and parentheses, to make {target}. "
        f"{_REWARD.instruction}",
        reference={"numbers": given, "target": target},
        solution=f"{solution.text} = {target}, and each number is used once. {boxed(solution.text)}",
        metadata={"level": level},
        key=f"countdown {sorted(given)} {target}",  # in another order it is the same puzzle
    )
