"""The reward for countdown: make a number from given numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewards.arithmetic import NotAnExpression, TooLong, read_arithmetic
from rewards.base import InvalidReference, Outcome
from rewards.marked_answer import MarkedAnswerReward


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Numbers, a target, and whether all numbers must be used."""

    numbers: Counter[int]
    target: int
    use_all: bool

    def verdict(self, answer: str) -> Outcome:
        """Return what an answer is."""
        text, equals, right = answer.partition("=")
        if equals and right.strip() != str(self.target):
            return Outcome.WRONG
        try:
            expression = read_arithmetic(text)
        except TooLong:
            return Outcome.TOO_LARGE
        except NotAnExpression:
            return Outcome.UNPARSED
        used = Counter(expression.numbers)
        allowed = used == self.numbers if self.use_all else used <= self.numbers
        return Outcome.CORRECT if allowed and expression.value == self.target else Outcome.WRONG


@dataclass(frozen=True, slots=True)
class CountdownReward(MarkedAnswerReward[Puzzle]):
    """1.0 for an expression of the given numbers, each once, in `+ - * /`, that comes to the target exactly.

    A reference is a mapping with `numbers` (whole numbers, not negative), `target` (a whole number) and, optionally,
    `use_all` (True by default; False allows to leave numbers out). The answer may be followed by `= target`. Nothing
    else is an answer: no other operator, no sign before a number, no number that was not given, no digits written
    together. The expression is read by `rewards.arithmetic`, never evaluated as code.
    """

    def read_reference(self, reference: Any) -> Puzzle:
        """Return the puzzle.

        Raises:
            InvalidReference: `reference` does not have numbers and a target.
        """
        return _puzzle(reference)

    def judge(self, answer: str, expected: Puzzle) -> Outcome:
        """Return what an answer is."""
        return expected.verdict(answer)


def _puzzle(reference: Any) -> Puzzle:
    if not isinstance(reference, Mapping) or not {"numbers", "target"} <= set(reference):
        raise InvalidReference(f"expected a mapping with 'numbers' and 'target', got {reference!r:.200}")
    numbers, target, use_all = reference["numbers"], reference["target"], reference.get("use_all", True)
    if not isinstance(numbers, list | tuple) or not numbers or not all(_is_whole(n) and n >= 0 for n in numbers):
        raise InvalidReference(f"'numbers' must be whole numbers that are not negative, got {numbers!r:.200}")
    if not _is_whole(target):
        raise InvalidReference(f"'target' must be a whole number, got {target!r:.200}")
    if not isinstance(use_all, bool):
        raise InvalidReference(f"'use_all' must be True or False, got {use_all!r:.200}")
    return Puzzle(Counter(numbers), target, use_all)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
