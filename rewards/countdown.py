"""The reward for countdown: make a number from given numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.arithmetic import NotAnExpression, TooLong, read_arithmetic
from rewards.base import InvalidReference, Outcome, RewardResult
from rewards.extract import MARKED_RULES, Rule, extract_answer

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class CountdownReward:
    """1.0 for an expression of the given numbers, each once, in `+ - * /`, that comes to the target exactly.

    A reference is a mapping with `numbers` (whole numbers, not negative), `target` (a whole number) and, optionally,
    `use_all` (True by default; False allows to leave numbers out). The answer may be followed by `= target`. Nothing
    else is an answer: no other operator, no sign before a number, no number that was not given, no digits written
    together. The expression is read by `rewards.arithmetic`, never evaluated as code.

    Attributes:
        rules: Where the answer is looked for, see `rewards.extract.extract_answer`.

    Raises:
        ValueError: `rules` is empty.
    """

    rules: tuple[Rule, ...] = MARKED_RULES

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules is empty: no answer could be found; give some of rewards.extract.Rule")

    @property
    def instruction(self) -> str:
        """A sentence for the prompt that asks for the first of `rules`."""
        return self.rules[0].instruction

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the numbers and the target at the same position.

        Raises:
            InvalidReference: Where a reference cannot be used; `check_reference` says so beforehand.
            ValueError: Where the three sequences differ in length.
        """
        if not len(prompts) == len(completions) == len(references):
            raise ValueError(
                f"{len(prompts)} prompts, {len(completions)} completions and {len(references)} references: "
                "the three must be equally many"
            )
        return [self._score(c, _puzzle(r)) for c, r in zip(completions, references, strict=True)]

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where `reference` does not have numbers and a target."""
        _puzzle(reference)

    def _score(self, completion: str, puzzle: _Puzzle) -> RewardResult:
        extraction = extract_answer(completion, rules=self.rules)
        if extraction is None:
            return RewardResult(0.0, Outcome.NO_ANSWER)
        shown = extraction.text[:_SHOWN_CHARACTERS]
        outcome = puzzle.verdict(extraction.text)
        return RewardResult(1.0 if outcome is Outcome.CORRECT else 0.0, outcome, shown)


@dataclass(frozen=True, slots=True)
class _Puzzle:
    numbers: Counter[int]
    target: int
    use_all: bool

    def verdict(self, answer: str) -> Outcome:
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


def _puzzle(reference: Any) -> _Puzzle:
    if not isinstance(reference, Mapping) or not {"numbers", "target"} <= set(reference):
        raise InvalidReference(f"expected a mapping with 'numbers' and 'target', got {reference!r:.200}")
    numbers, target, use_all = reference["numbers"], reference["target"], reference.get("use_all", True)
    if not isinstance(numbers, list | tuple) or not numbers or not all(_is_whole(n) and n >= 0 for n in numbers):
        raise InvalidReference(f"'numbers' must be whole numbers that are not negative, got {numbers!r:.200}")
    if not _is_whole(target):
        raise InvalidReference(f"'target' must be a whole number, got {target!r:.200}")
    if not isinstance(use_all, bool):
        raise InvalidReference(f"'use_all' must be True or False, got {use_all!r:.200}")
    return _Puzzle(Counter(numbers), target, use_all)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
