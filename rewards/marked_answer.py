"""What rewards have in common that read one marked answer and compare it with a reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rewards.base import Outcome, RewardResult, check_lengths
from rewards.extract import MARKED_RULES, Rule, extract_answer
from rewards.reasoning import with_opened_reasoning

_SHOWN_CHARACTERS = 200

Expected = TypeVar("Expected")


@dataclass(frozen=True, slots=True)
class MarkedAnswerReward(ABC, Generic[Expected]):
    """1.0 for a completion whose marked answer `judge` calls correct, 0.0 for every other one.

    A subclass says what a reference must be (`read_reference`) and which answers it takes (`judge`).

    Attributes:
        rules: Where the answer is looked for, see `rewards.extract.extract_answer`.

    Raises:
        ValueError: `rules` is empty.
    """

    rules: tuple[Rule, ...] = MARKED_RULES

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules is empty: no answer could be found; give some of rewards.extract.Rule")

    @abstractmethod
    def read_reference(self, reference: Any) -> Expected:
        """Return what `judge` compares with.

        Raises:
            InvalidReference: No answer could ever be right.
        """

    @abstractmethod
    def judge(self, answer: str, expected: Expected) -> Outcome:
        """Return what an answer is: `CORRECT`, `WRONG`, `UNPARSED` or `TOO_LARGE`. Any string must have an outcome."""

    @property
    def instruction(self) -> str:
        """A sentence for the prompt that asks for the first of `rules`."""
        return self.rules[0].instruction

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the reference at the same position.

        Raises:
            InvalidReference: Where a reference cannot be used; `check_reference` says so beforehand.
            ValueError: Where the three sequences differ in length.
        """
        check_lengths(prompts, completions, references)
        return [
            self._score(with_opened_reasoning(prompt, completion), self.read_reference(reference))
            for prompt, completion, reference in zip(prompts, completions, references, strict=True)
        ]

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where no answer could ever be right."""
        self.read_reference(reference)

    def _score(self, completion: str, expected: Expected) -> RewardResult:
        extraction = extract_answer(completion, rules=self.rules)
        if extraction is None:
            return RewardResult(0.0, Outcome.NO_ANSWER)
        outcome = self.judge(extraction.text, expected)
        return RewardResult(float(outcome is Outcome.CORRECT), outcome, extraction.text[:_SHOWN_CHARACTERS])
