"""`llm_envs/GuessNumber-v0`: a game of several turns, find a number from higher and lower."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_level, whole
from rewards.base import Outcome, RewardResult
from rewards.extract import MARKED_RULES
from rewards.math import MathReward
from rewards.math.numerals import TooLarge, read_numeral

WIDTHS = (10, 100, 1000, 10_000)
"""How many numbers there are to choose from at each level."""
_LARGEST = 90_000


def guesses(width: int) -> int:
    """How many guesses find one of so many numbers, always halving what is left.

    >>> guesses(10), guesses(100)
    (4, 7)
    """
    return width.bit_length()


def answer(problem: Problem, completions: Sequence[str], result: RewardResult) -> str | None:
    """Higher or lower; None where the number was found or no guess is left."""
    left = problem.metadata["guesses"] - len(completions)
    if result.outcome is Outcome.CORRECT or left == 0:
        return None
    try:
        guess = read_numeral(result.answer or "")
    except TooLarge:
        guess = None
    if guess is None or isinstance(guess.value, str) or not guess.is_evaluated:  # 84/2 is no guess, not even of 42
        hint = "That is not a number in \\boxed{}."
    else:
        hint = "My number is higher." if guess.value < int(problem.reference) else "My number is lower."
    return f"{hint} You have {left} {'guess' if left == 1 else 'guesses'} left."


@register_task(
    "llm_envs/GuessNumber-v0",
    reward=MathReward(rules=MARKED_RULES),
    reply=answer,
    max_turns=guesses(max(WIDTHS)),
)
def guess_number(rng: np.random.Generator, level: int = 0) -> Problem:
    """Find a whole number; after each guess the environment says whether it is higher or lower.

    There are just as many guesses as halving the range takes at most. The number is a function of the range alone, so
    that equal prompts are equal problems.

    Args:
        rng: Source of randomness.
        level: 0: one of 10 numbers, in 4 guesses; 1: of 100, in 7; 2: of 1,000, in 10; 3: of 10,000, in 14.

    Raises:
        ValueError: The level is out of range.
    """
    check_level(level, len(WIDTHS))
    width = WIDTHS[level]
    low = whole(rng, 1, _LARGEST)
    high = low + width - 1
    digest = hashlib.blake2b(f"{low} {high}".encode(), digest_size=8).digest()
    number = low + int.from_bytes(digest, "big") % width
    return Problem(
        prompt=f"I have chosen a whole number from {low} to {high}. You have {guesses(width)} guesses. After each I "
        "tell you whether my number is higher or lower. Put each guess in \\boxed{}.",
        reference=str(number),
        solution=boxed(number),
        metadata={"level": level, "guesses": guesses(width)},
    )
