"""Rewards made of others: a verdict, and bonuses and penalties beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewards.base import Outcome, Reward, RewardResult, check_lengths, check_reference, score


@dataclass(frozen=True, slots=True)
class Term:
    """What is added to a verdict.

    Attributes:
        reward: Its `reward` counts; its outcome and its answer do not.
        weight: What that is multiplied by; negative for a penalty.
        when: `"correct"`: beside a correct answer alone. `"always"`: beside every answer, so that a policy can earn it
            without solving anything.

    Raises:
        ValueError: The weight is not finite, or `when` is something else.
    """

    reward: Reward
    weight: float = 1.0
    when: Literal["correct", "always"] = "correct"

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of a term must be a finite number, got {self.weight}")
        if self.when not in ("correct", "always"):
            raise ValueError(f"a term counts when 'correct' or 'always', got {self.when!r}")


class ComposedReward:
    """A verdict and terms beside it: `verdict + sum of weight * term`.

    Outcome and answer are the verdict's, so that accuracies, curricula and reports mean what they meant; the parts are
    among the result's metrics, `verdict` and each term by its name where it was asked.

    Args:
        verdict: Says whether a completion is right.
        terms: By name. A reward alone is a `Term` of weight 1 beside correct answers.

    Raises:
        ValueError: A term is called "verdict", or like something that is no name.
    """

    def __init__(self, verdict: Reward, terms: Mapping[str, Term | Reward]) -> None:
        for name in terms:
            if name == "verdict" or not name.isidentifier():
                raise ValueError(f"a term cannot be called {name!r}: give it a name like 'format'")
        self.verdict = verdict
        self.terms = {name: term if isinstance(term, Term) else Term(term) for name, term in terms.items()}

    def __repr__(self) -> str:
        return f"ComposedReward({self.verdict!r}, {self.terms!r})"

    @property
    def instruction(self) -> str:
        """What the verdict asks for in a prompt; empty where it says nothing."""
        return getattr(self.verdict, "instruction", "")

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the reference at the same position.

        Raises:
            InvalidReference: A part cannot use a reference; `check_reference` says so beforehand.
            ValueError: The three sequences differ in length.
        """
        check_lengths(prompts, completions, references)
        verdicts = score(self.verdict, prompts, completions, references)
        totals = [verdict.reward for verdict in verdicts]
        parts = [{**verdict.metrics, "verdict": verdict.reward} for verdict in verdicts]
        for name, term in self.terms.items():
            asked = [
                i for i, verdict in enumerate(verdicts) if term.when == "always" or verdict.outcome is Outcome.CORRECT
            ]
            if not asked:
                continue
            batch = ([column[i] for i in asked] for column in (prompts, completions, references))
            for i, result in zip(asked, score(term.reward, *batch), strict=True):
                totals[i] += term.weight * result.reward
                parts[i][name] = result.reward
        return [
            RewardResult(total, verdict.outcome, verdict.answer, part)
            for total, verdict, part in zip(totals, verdicts, parts, strict=True)
        ]

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where the verdict or a term refuses the reference."""
        for reward in (self.verdict, *(term.reward for term in self.terms.values())):
            check_reference(reward, reference)
