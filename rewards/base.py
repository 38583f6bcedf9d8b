"""What a reward is: a batch of completions in, a batch of verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """

    reward: float
    outcome: Outcome
    answer: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


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
