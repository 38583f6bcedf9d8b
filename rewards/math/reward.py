"""The reward for answers to mathematical questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.base import InvalidReference, Outcome, RewardResult
from rewards.extract import extract_answer, tidy
from rewards.math.compare import Answer, SeveralCandidates, rational_value, read_answer, same
from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class MathReward:
    r"""1.0 for a completion whose final answer equals the reference, 0.0 for every other one.

    Read are numbers in all usual notations (see `rewards.math.numerals`) and expressions in LaTeX or plain text (see
    `rewards.math.parser`). Equality is exact. `x = 14` answers 14, and so does `\boxed{14 \text{ apples}}`; "14 or 15"
    does not. A text that cannot be read, is too large or holds no answer gets 0.0 and the outcome that says so.

    Attributes:
        strict: Where the reference is a rational number, the answer must be one as well, written as a result: `425`,
            not `17 \times 25`, and `42`, not `42 = 42` or `84/2`. The reference's own form is always right. Otherwise,
            in evaluation say, an equal value is enough.
        allow_unmarked: Whether the last equation or number counts in a completion that marks no answer.
    """

    strict: bool = True
    allow_unmarked: bool = True

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the reference at the same position.

        Raises:
            InvalidReference: Where a reference cannot be used; `check_reference` says so beforehand.
            ValueError: Where the three sequences differ in length.
        """
        # The completions of a group share their reference.
        read: dict[str, Answer] = {}
        results = []
        for _, completion, reference in zip(prompts, completions, references, strict=True):
            text = _reference_text(reference)
            if text not in read:
                read[text] = _read_reference(text)
            results.append(self._score(completion, read[text]))
        return results

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where `reference` is not the text of one readable value, or an `int`."""
        _read_reference(_reference_text(reference))

    def _score(self, completion: str, reference: Answer) -> RewardResult:
        extraction = extract_answer(completion, allow_unmarked=self.allow_unmarked)
        if extraction is None:
            return RewardResult(0.0, Outcome.NO_ANSWER)
        outcome = self._judge(extraction.text, reference)
        reward = 1.0 if outcome is Outcome.CORRECT else 0.0
        return RewardResult(reward, outcome, extraction.text[:_SHOWN_CHARACTERS])

    def _judge(self, text: str, reference: Answer) -> Outcome:
        try:
            answer = read_answer(text)
        except Unreadable:
            return Outcome.UNPARSED
        except SeveralCandidates:
            return Outcome.WRONG
        except TooLarge:
            return Outcome.TOO_LARGE
        if self.strict:
            if answer.is_tautology:
                return Outcome.WRONG
            is_own_form = answer.text == reference.text
            if not (answer.is_evaluated or is_own_form) and rational_value(reference.node) is not None:
                return Outcome.WRONG
        return Outcome.CORRECT if same(reference, answer) else Outcome.WRONG


def _reference_text(reference: Any) -> str:
    if isinstance(reference, int) and not isinstance(reference, bool):
        try:
            return str(reference)
        except ValueError as error:
            raise InvalidReference(f"the reference is too large an int: {error}") from error
    if not isinstance(reference, str):
        raise InvalidReference(f"the reference must be a str or an int, got {reference!r}")
    return reference


def _read_reference(text: str) -> Answer:
    try:
        answer = read_answer(tidy(text))
    except (Unreadable, SeveralCandidates, TooLarge) as error:
        raise InvalidReference(f"the reference {text[:_SHOWN_CHARACTERS]!r} cannot be used: {error}") from error
    if answer.is_tautology:
        raise InvalidReference(f"the reference {text[:_SHOWN_CHARACTERS]!r} says nothing")
    return answer
