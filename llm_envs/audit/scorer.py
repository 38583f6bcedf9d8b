"""Calls of the reward under audit: timed, with every error recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from llm_envs.problem import Problem
from rewards.base import Reward, RewardResult, score
from rewards.code.sandbox import WeakSandbox


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A completion to be scored; two cases are the same only if they are one object.

    Attributes:
        row: The property it tests.
        problem: The problem it is given for.
        completion: The text.
        note: What was done to it, where the row alone does not say.
    """

    row: str
    problem: Problem
    completion: str
    note: str = ""


@dataclass(slots=True)
class Scorer:
    """Scores cases with a reward that may be wrong in any way.

    A call that raises is repeated one completion at a time, so that one bad case does not hide the others.

    Attributes:
        reward: What is audited.
        faults: The cases for which it raised or returned something that is no verdict, with what happened.
        seconds: Of each timed call, with its case.
    """

    reward: Reward
    faults: list[tuple[Case, str]] = field(default_factory=list)
    seconds: list[tuple[float, Case]] = field(default_factory=list)

    def batch(self, cases: Sequence[Case]) -> list[RewardResult | None]:
        """The verdicts of one call, in order; None where there is none.

        Raises:
            WeakSandbox: The reward needs a sandbox that this machine does not have; that is no fault of the reward.
        """
        if not cases:
            return []
        try:
            return self._verdicts(cases)
        except WeakSandbox:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 (finding what a reward raises is what this is for)
            if len(cases) == 1:
                self.faults.append((cases[0], f"{type(error).__name__}: {error}"))
                return [None]
            alone = [self.batch([case])[0] for case in cases]
            if None not in alone:
                self.faults.append((cases[0], f"a batch of {len(cases)} raised {type(error).__name__}: {error}"))
            return alone

    def alone(self, case: Case) -> RewardResult | None:
        """The verdict of a call with this case alone, timed."""
        started = time.perf_counter()
        result = self.batch([case])[0]
        self.seconds.append((time.perf_counter() - started, case))
        return result

    def _verdicts(self, cases: Sequence[Case]) -> list[RewardResult | None]:
        results = score(
            self.reward,
            [case.problem.prompt for case in cases],
            [case.completion for case in cases],
            [case.problem.reference for case in cases],
        )
        for result in results:
            if not math.isfinite(result.reward):
                raise ValueError(f"the reward is {result.reward}")
        return [*results]
