"""What a reward is: a batch of completions in, a batch of verdicts out."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class InvalidReference(ValueError):
    """A task's reference answer cannot be used; raised when the task is made, never during scoring."""


class Outcome(StrEnum):
    """Why a completion got its reward. The value is what appears in logs and in `info["outcome"]`."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    """The completion ends without anything that could be read as an answer."""
    UNPARSED = "unparsed"
    """There is an answer, but it is not in a form that the checker reads."""
    TOO_LARGE = "too_large"
    """The answer exceeds a size cap and was not looked at further."""
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"
    FORBIDDEN = "forbidden"
    """The completion tried something that its sandbox denies."""
    SYNTAX_ERROR = "syntax_error"
    PARTIAL = "partial"
    """Some, but not all, of what was asked."""
    SCORED = "scored"
    """A graded score without a notion of right and wrong."""


@dataclass(frozen=True, slots=True)
class RewardResult:
    """The verdict on one completion.

    Attributes:
        reward: The scalar the agent is trained on. A wrong answer is 0.0.
        outcome: Why the reward is what it is.
        answer: The answer that was read from the completion, as written; None where there is none.
        metrics: Further figures, for example the fraction of code tests that passed.

    An outcome may be given by its value, such as `"correct"`, and a number may be one of numpy or a tensor with one
    element; the fields have an `Outcome` and Python's floats.

    Raises:
        TypeError: The reward or a metric is no number, the answer no text, or `metrics` no mapping.
        ValueError: The reward is not finite, or there is no such outcome.
    """

    reward: float
    outcome: Outcome
    answer: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reward = self.reward if type(self.reward) is float else _number("reward", self.reward)
        if not math.isfinite(reward):
            raise ValueError(f"a reward must be finite, got {reward}")
        object.__setattr__(self, "reward", reward)
        outcome: Any = self.outcome
        if not isinstance(outcome, Outcome):
            object.__setattr__(self, "outcome", _outcome(outcome))
        answer: Any = self.answer
        if answer is not None and not isinstance(answer, str):
            raise TypeError(f"answer must be a text or None, got {answer!r:.80} ({type(answer).__name__})")
        metrics: Any = self.metrics
        if not isinstance(metrics, Mapping):
            raise TypeError(f"metrics must be a mapping of names to numbers, got {metrics!r:.80}")
        for name, value in metrics.items():
            if not isinstance(name, str):
                raise TypeError(f"the name of a metric must be a text, got {name!r:.80}")
            if type(value) not in (float, int):
                converted = {key: _number(f"metric {key!r}", number) for key, number in self.metrics.items()}
                object.__setattr__(self, "metrics", converted)
                break


def _number(name: str, value: Any) -> float:
    """A number as a float: also one of numpy, True and False, and a tensor or an array with one element.

    Raises:
        TypeError: It is none of these.
    """
    if not isinstance(value, numbers.Real) and getattr(value, "shape", None) in ((), (1,)) and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, numbers.Real):
        raise TypeError(f"the {name} must be a number, such as 1.0, got {value!r:.80} ({type(value).__name__})")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _outcome(value: Any) -> Outcome:
    """The outcome of a value.

    Raises:
        ValueError: There is none.
    """
    known = [str(outcome) for outcome in Outcome]
    if value in known:
        return Outcome(value)
    alike = get_close_matches(str(value).lower(), known, n=1)
    hint = f"; did you mean Outcome.{Outcome(alike[0]).name}?" if alike else ""
    raise ValueError(f"there is no outcome {value!r:.80}{hint} (there are {', '.join(known)})")


@runtime_checkable
class Reward(Protocol):
    """Scores completions, a batch at a time.

    A plain function with this signature is a reward too. A reward is *total*: every string gives a `RewardResult`. It
    may also have a method `check_reference(reference)` that raises `InvalidReference`; it is called when a task is
    made.
    """

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the reference at the same position.

        Args:
            prompts: What the model was asked, one per completion.
            completions: What the model wrote.
            references: What the task says is right.

        Returns:
            One result per completion, in order.
        """
        ...


def score(
    reward: Reward, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
) -> list[RewardResult]:
    """Call a reward, and refuse what is not one verdict for each completion.

    Raises:
        TypeError: It returned no list, or something else than a `RewardResult` in it.
        ValueError: It returned more or fewer results than there are completions.
    """
    results = reward(prompts, completions, references)
    name = getattr(reward, "__name__", type(reward).__name__)
    if not isinstance(results, Sequence):
        raise TypeError(f"the reward {name} returned a {type(results).__name__}, not a list of RewardResult")
    if len(results) != len(completions):
        raise ValueError(
            f"the reward {name} returned {len(results)} results for {len(completions)} completions: "
            "it must return one for each, in their order"
        )
    for completion, result in zip(completions, results, strict=True):
        if not isinstance(result, RewardResult):
            raise TypeError(
                f"the reward {name} returned {result!r:.80} for {completion[:40]!r}: it must be a RewardResult, such "
                "as RewardResult(1.0, Outcome.CORRECT)"
            )
    return list(results)


def check_lengths(prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]) -> None:
    """Refuse a batch whose parts do not belong together.

    Raises:
        ValueError: They differ in length.
    """
    if not len(prompts) == len(completions) == len(references):
        raise ValueError(
            f"{len(prompts)} prompts, {len(completions)} completions and {len(references)} references: "
            "the three must be equally many"
        )


def check_reference(reward: Reward, reference: Any) -> None:
    """Raise `InvalidReference` where `reward` has a `check_reference` method and refuses `reference`."""
    check = getattr(reward, "check_reference", None)
    if check is not None:
        check(reference)
