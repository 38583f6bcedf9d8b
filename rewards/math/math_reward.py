"""The reward for answers to mathematical questions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rewards.base import InvalidReference, Outcome, RewardResult, check_lengths
from rewards.extract import ALL_RULES, Rule, extract_answer, tidy
from rewards.math.answers import read_reference
from rewards.math.echo import is_echo
from rewards.math.nodes import Unreadable
from rewards.math.numerals import Numeral, TooLarge, read_numeral
from rewards.math.statements import SeveralCandidates, bare
from rewards.math.units import conversion, is_left_out
from rewards.reasoning import with_opened_reasoning
from rewards.workers.pool import JobResult, JobStatus, shared_pool

_SHOWN_CHARACTERS = 200
_OUTCOMES = {JobStatus.TIMEOUT: Outcome.TIMEOUT, JobStatus.MEMORY: Outcome.MEMORY}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A reference that was found to be readable; `numeral` is None where it is more than a plain number."""

    text: str
    bare: str
    numeral: Numeral | None


@dataclass(frozen=True, slots=True)
class MathReward:
    r"""1.0 for a completion whose final answer equals the reference, 0.0 for every other one.

    `docs/math_reward.md` has the table of what is read and what equals what. In short: numbers in all usual notations,
    expressions, equations and inequalities, sets, tuples, intervals, matrices, complex numbers, numerals of other
    bases, texts and the letters of options, in LaTeX or plain text. Equality is exact unless `rel_tol` says otherwise.
    `x = 14` answers 14, and so does `\boxed{14 \text{ apples}}`; "14 or 15" does not. A text that cannot be read, is
    too large or holds no answer gets 0.0 and the outcome that says so.

    Plain numbers are compared in the calling process. Everything else goes to worker processes
    (`rewards.workers.pool`), which are started when they are first needed.

    Attributes:
        strict: Where the reference is a rational number, the answer must be one as well, written as a result: `425`,
            not `17 \times 25`, and `42`, not `42 = 42` or `84/2`. The reference's own form is always right. Otherwise,
            in evaluation say, an equal value is enough.
        rules: Where the answer is looked for, see `rewards.extract.extract_answer`; `MARKED_RULES` demands a mark.
        rel_tol: How far apart two numbers may be, relative to the reference. 0 is exact.
        deadline: Seconds for one comparison; a longer one is ended and gets the outcome `timeout`.
        allow_echo: Whether a formula of the prompt may be the answer where it equals the reference in another form:
            `\sqrt{8}` for "Simplify $\sqrt{8}$". See `rewards.math.echo`.

    Raises:
        ValueError: Where an attribute is outside its range.
    """

    strict: bool = True
    rules: tuple[Rule, ...] = ALL_RULES
    rel_tol: float = 0.0
    deadline: float = 1.0
    allow_echo: bool = True

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules is empty: no answer could be found; give some of rewards.extract.Rule")
        object.__setattr__(self, "rules", tuple(Rule(rule) for rule in self.rules))
        if not 0 <= self.rel_tol < 1:
            raise ValueError(f"rel_tol must be at least 0 and below 1, got {self.rel_tol}")
        if not 0 < self.deadline < float("inf"):
            raise ValueError(f"deadline must be a positive number of seconds, got {self.deadline}")

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the reference at the same position.

        Raises:
            InvalidReference: Where a reference cannot be used; `check_reference` says so beforehand.
            ValueError: Where the three sequences differ in length.
            rewards.workers.pool.WorkerPoolError: Where no worker process could be started.
        """
        check_lengths(prompts, completions, references)
        results: list[RewardResult | None] = []
        # The completions of a group share their reference, and often their answer.
        waiting: dict[tuple[str, str], list[int]] = {}
        for prompt, completion, reference in zip(prompts, completions, references, strict=True):
            expected = _reference(_reference_text(reference))
            extraction = extract_answer(with_opened_reasoning(prompt, completion), rules=self.rules)
            if extraction is None:
                results.append(RewardResult(0.0, Outcome.NO_ANSWER))
                continue
            results.append(None)
            for text in (extraction.text, extraction.second):
                if text is None:
                    continue
                outcome = self._plain_verdict(text, expected)
                if outcome is None:
                    waiting.setdefault((text, expected.text), []).append(len(results) - 1)
                else:
                    results[-1] = _better(results[-1], _result(text, outcome))
        if waiting:
            pool = shared_pool("rewards.math.verdict:judge", deadline=self.deadline)
            jobs = [(text, reference, self.strict, self.rel_tol) for text, reference in waiting]
            for (text, reference), done in zip(waiting, pool.map(jobs), strict=True):
                outcome = _outcome(done, text, reference)
                for i in waiting[text, reference]:
                    results[i] = _better(results[i], _result(text, outcome))
        verdicts = [result for result in results if result is not None]
        if self.allow_echo:
            return verdicts
        return [
            _without_echo(verdict, prompt, str(reference))
            for verdict, prompt, reference in zip(verdicts, prompts, references, strict=True)
        ]

    @property
    def instruction(self) -> str:
        """A sentence for the prompt that asks for the first of `rules`: how to mark the final answer."""
        return self.rules[0].instruction

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where `reference` is neither a text that can be read nor an `int`."""
        _reference(_reference_text(reference))

    def _plain_verdict(self, text: str, reference: _Reference) -> Outcome | None:
        """The verdict where the answer is the reference's own form or both are plain numbers, else None."""
        if text == reference.text:
            return Outcome.CORRECT
        expected = reference.numeral
        if expected is None:
            return None
        try:
            answer = read_numeral(text)
        except TooLarge:
            return Outcome.TOO_LARGE
        if answer is None:
            return None
        return Outcome.CORRECT if self._same_numeral(expected, answer, text, reference) else Outcome.WRONG

    def _same_numeral(self, expected: Numeral, answer: Numeral, text: str, reference: _Reference) -> bool:
        value: int | Fraction | str = answer.value
        if expected.unit and answer.unit:
            factor = conversion(answer.unit, expected.unit)
            if factor is None:
                return False
            if factor != 1 and not isinstance(value, str):
                value = Fraction(value) * factor
        elif not is_left_out(expected.unit, answer.unit):
            return False
        if self.strict and not answer.is_evaluated and bare(text) != reference.bare:
            return False
        if value == expected.value:
            return True
        if not self.rel_tol or isinstance(value, str) or isinstance(expected.value, str):
            return False
        wanted = Fraction(expected.value)
        return abs(value - wanted) <= Fraction(self.rel_tol) * abs(wanted)


def _result(text: str, outcome: Outcome) -> RewardResult:
    return RewardResult(1.0 if outcome is Outcome.CORRECT else 0.0, outcome, text[:_SHOWN_CHARACTERS])


def _better(before: RewardResult | None, result: RewardResult) -> RewardResult:
    """The verdict on an answer with two readings: the first that is correct."""
    return result if before is None or (result.outcome is Outcome.CORRECT and before.reward == 0) else before


def _without_echo(result: RewardResult, prompt: str, reference: str) -> RewardResult:
    if result.outcome is Outcome.CORRECT and result.answer is not None and is_echo(prompt, result.answer, reference):
        return replace(result, reward=0.0, outcome=Outcome.WRONG)
    return result


def _outcome(done: JobResult, text: str, reference: str) -> Outcome:
    if done.status is JobStatus.DONE:
        return Outcome(done.value)
    if done.status in _OUTCOMES:
        return _OUTCOMES[done.status]
    # A fault of this package or of sympy, which one sample must not turn into the end of a training run.
    _log.warning("the comparison of %a with %a failed: %s", text[:80], reference[:80], done.error)
    return Outcome.CRASHED


def _reference_text(reference: Any) -> str:
    if isinstance(reference, str):
        return reference
    if isinstance(reference, int) and not isinstance(reference, bool):
        try:
            return str(reference)
        except ValueError as error:
            raise InvalidReference(f"the reference is too large an int, give its digits: {error}") from error
    raise InvalidReference(f"the reference must be a str or an int, got {reference!r}")


@lru_cache(maxsize=4096)
def _reference(reference: str) -> _Reference:
    text = tidy(reference)
    try:
        numeral = read_numeral(text)
        if numeral is None:
            read_reference(text)
    except (Unreadable, SeveralCandidates, TooLarge, RecursionError) as error:
        raise InvalidReference(f"the reference {reference[:_SHOWN_CHARACTERS]!r} cannot be used: {error}") from error
    return _Reference(text, bare(text), numeral)
