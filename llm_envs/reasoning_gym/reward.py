"""The strict reward for reasoning-gym's families."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rewards.arithmetic import NotAnExpression, read_arithmetic
from rewards.base import InvalidReference, Outcome, RewardResult, check_lengths
from rewards.extract import WINDOW
from rewards.reasoning import reply_start, with_opened_reasoning
from rewards.workers.pool import JobResult, JobStatus, shared_pool

MAX_CHARACTERS = 5_000
_SHOWN_CHARACTERS = 200
_OUTCOMES = {JobStatus.TIMEOUT: Outcome.TIMEOUT, JobStatus.MEMORY: Outcome.MEMORY}
_MATHEMATICS = re.compile(r"[0-9A-Za-z+\-*/(). ]{1,300}")
_FUNCTIONS = ("exp", "log", "sqrt", "sin", "cos", "tan", "sec", "csc", "cot", "sinh", "cosh", "tanh")
_NAMES = frozenset((*_FUNCTIONS, "asin", "acos", "atan", "asinh", "acosh", "atanh", "pi", "E", "C"))
_LARGE_POWER = re.compile(r"\*\*\s*\(?\s*-?\s*[\d(]{3,}|\*\*[^+\-*/]*\*\*")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReasoningGymReward:
    """1.0 where reasoning-gym's own scorer gives 1.0 and our checks agree, 0.0 for everything else.

    The package pays in part for much that is wrong, an empty text included; after group scaling such pay is a full-size
    advantage. An answer stands between the last `<answer>` and `</answer>` behind the reasoning, and counts without the
    white space around it. The package's reference answer itself is always right.

    Families whose scorers would run an answer through `eval` or sympy's parser, which evaluates it, are judged here:
    countdown and puzzle24 by `rewards.arithmetic` (each given number once, `+ - * /`), those that take a list literal
    for a part of the points by equality, and integrals and polynomials only if they consist of numbers, known functions
    and the variable. All scorers run in worker processes with a deadline.

    Attributes:
        deadline: Seconds for one answer.

    Raises:
        ValueError: The deadline is not positive.
    """

    deadline: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.deadline < float("inf"):
            raise ValueError(f"deadline must be a positive number of seconds, got {self.deadline}")

    @property
    def instruction(self) -> str:
        """A sentence for the prompt that says how to mark the answer."""
        return "Put your final answer between <answer> and </answer>."

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the entry at the same position.

        Raises:
            InvalidReference: Where a reference is no entry.
            ValueError: Where the three sequences differ in length.
            rewards.workers.pool.WorkerPoolError: Where no worker process could be started.
        """
        check_lengths(prompts, completions, references)
        results: list[RewardResult | None] = []
        waiting: list[tuple[int, str, tuple[Any, ...]]] = []
        for prompt, completion, reference in zip(prompts, completions, references, strict=True):
            self.check_reference(reference)
            text = answer_of(with_opened_reasoning(prompt, completion))
            outcome = _own_verdict(text, reference) if text is not None else Outcome.NO_ANSWER
            if outcome is None and text is not None:
                job = (reference["family"], reference["config"], reference["entry"], text)
                waiting.append((len(results), text, job))
                results.append(None)
            else:
                results.append(_result(outcome or Outcome.WRONG, text))
        if waiting:
            pool = shared_pool("llm_envs.reasoning_gym.upstream_score:score", deadline=self.deadline)
            for (i, text, job), done in zip(waiting, pool.map([job for _, _, job in waiting]), strict=True):
                results[i] = _result(_outcome(done, job[0], text), text)
        return [result for result in results if result is not None]

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where `reference` is not what the task's sampler makes."""
        if not isinstance(reference, Mapping) or set(reference) != {"family", "config", "entry"}:
            raise InvalidReference(f"expected a mapping with 'family', 'config' and 'entry', got {reference!r:.200}")


def answer_of(completion: str) -> str | None:
    """What is between the last pair of tags behind the reasoning; None where there is nothing."""
    reply = reply_start(completion)
    if reply is None:
        return None
    text = completion[reply:][-WINDOW:]
    start = text.rfind("<answer>")
    close = text.find("</answer>", start)
    answer = text[start + 8 : close].strip() if 0 <= start < close else ""
    return answer or None


def _own_verdict(text: str, reference: Mapping[str, Any]) -> Outcome | None:
    """The verdict where it takes no call of the package; else None."""
    if len(text) > MAX_CHARACTERS:
        return Outcome.TOO_LARGE
    family, entry = reference["family"], reference["entry"]
    if family in _JUDGED_HERE:
        return Outcome.CORRECT if _JUDGED_HERE[family](text, entry) else Outcome.WRONG
    if isinstance(entry["answer"], str) and text == entry["answer"].strip():
        return Outcome.CORRECT
    if family in _ALSO_NEEDED and not _ALSO_NEEDED[family](text, entry):
        return Outcome.WRONG
    return Outcome.UNPARSED if family in _SYMBOLIC and not _is_mathematics(text, entry) else None


def _is_puzzle(text: str, entry: Mapping[str, Any]) -> bool:
    """Whether an expression uses each given number once and comes to the target (24, where there is none)."""
    try:
        expression = read_arithmetic(text)
    except NotAnExpression:
        return False
    metadata = entry["metadata"]
    is_target = expression.value == metadata.get("target", 24)
    return is_target and Counter(expression.numbers) == Counter(metadata["numbers"])


def _is_answer(text: str, entry: Mapping[str, Any]) -> bool:
    return text == str(entry["answer"]).strip()


def _is_valid_answer(text: str, entry: Mapping[str, Any]) -> bool:
    return text in entry["metadata"]["valid_answers"]


_JUDGED_HERE: Mapping[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "countdown": _is_puzzle,
    "puzzle24": _is_puzzle,
    "n_queens": _is_valid_answer,
    "string_insertion": _is_answer,
    "spiral_matrix": _is_answer,
    "binary_matrix": _is_answer,
}


def _is_number_of_answer(text: str, entry: Mapping[str, Any]) -> bool:
    return _number(text) is not None and _number(text) == _number(str(entry["answer"]))


def _is_near(text: str, entry: Mapping[str, Any]) -> bool:
    """Within 1 % of the answer: the scorer takes what is a fixed distance away, and so 0 for a small probability."""
    value, expected = _number(text), _number(str(entry["answer"]))
    return value is not None and expected is not None and abs(value - expected) <= abs(expected) / 100


def _is_finite(text: str, entry: Mapping[str, Any]) -> bool:
    return not re.search(r"nan|inf", text, re.IGNORECASE)


def _is_one_fraction(text: str, entry: Mapping[str, Any]) -> bool:
    return _FRACTION.fullmatch(text) is not None


def _has_the_clauses(text: str, entry: Mapping[str, Any]) -> bool:
    return _clauses(text) == _clauses(str(entry["answer"]))


def _is_same_text(text: str, entry: Mapping[str, Any]) -> bool:
    return text.casefold().split() == str(entry["answer"]).casefold().split()


def _clauses(text: str) -> list[str]:
    return sorted(part.strip().casefold() for part in re.split(r",|\band\b", text.rstrip(" .")) if part.strip())


def _number(text: str) -> Fraction | None:
    text = text.strip().replace(",", "").lstrip("$")
    return Fraction(text) if re.fullmatch(r"-?\d{1,40}(\.\d{1,40})?(e-?\d{1,3})?", text) else None


_ALSO_NEEDED: Mapping[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "coin_flip": _is_near,  # 0 is paid
    "complex_arithmetic": _is_finite,  # nan is paid
    "fraction_simplification": _is_one_fraction,  # the first of several fractions counts
    "game_of_life_halting": _is_same_text,  # what is not True is taken for False
    "gsm_symbolic": _is_number_of_answer,  # the first number of a text counts, and its sign does not
    "knights_knaves": _has_the_clauses,  # words are looked for anywhere
    "letter_jumble": _is_same_text,  # words beyond the answer's do not count
}
"""What the audit showed the package's 1.0 to lack."""
_FRACTION = re.compile(r"\$?(-?\\[dt]?frac\{-?\d+\}\{-?\d+\}|-?\d+\s*/\s*-?\d+)\$?")
_SYMBOLIC = frozenset(["simple_integration", "intermediate_integration", "polynomial_multiplication"])


def _is_mathematics(text: str, entry: Mapping[str, Any]) -> bool:
    """Whether a text has nothing in it but numbers, operators, known functions and the entry's variables."""
    if not _MATHEMATICS.fullmatch(text) or _LARGE_POWER.search(text) or re.search(r"\.(?!\d)", text):
        return False
    letters = set(re.findall(r"[A-Za-z]+", str(entry["answer"]))) | _NAMES
    return all(name in letters for name in re.findall(r"[A-Za-z][A-Za-z0-9]*", text))


def _outcome(done: JobResult, family: str, text: str) -> Outcome:
    if done.status is JobStatus.DONE:
        return Outcome.CORRECT if done.value == 1.0 else Outcome.WRONG
    if done.status in _OUTCOMES:
        return _OUTCOMES[done.status]
    if done.status is JobStatus.CRASHED:
        _log.warning("the scorer of %s died on %a: %s", family, text[:80], done.error)
        return Outcome.CRASHED
    return Outcome.UNPARSED  # many scorers raise where an answer is not in their form


def _result(outcome: Outcome, text: str | None) -> RewardResult:
    shown = None if text is None else text[:_SHOWN_CHARACTERS]
    return RewardResult(1.0 if outcome is Outcome.CORRECT else 0.0, outcome, shown)
