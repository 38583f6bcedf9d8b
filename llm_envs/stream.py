"""From a task's sampler to reproducible streams of checked problems of one split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llm_envs.problem import SPLITS, Problem, check_prompt
from rewards.base import Reward, check_reference

Sampler = Callable[..., Problem]
_MAX_DRAWS = 10_000
_PLACEHOLDER = "{prompt}"


class ProblemStream:
    """The problems of one split of a task: a pure function of a seed and an index.

    Args:
        sampler: Called with a `numpy.random.Generator`; returns a `Problem`.
        reward: The task's reward; it checks each reference that it is going to compare with.
        split: `"train"` or `"test"`; see `Problem.split`.
        prompt_template: Text with exactly one `{prompt}`, put around every prompt (an instruction, a worked example).
            It moves no problem between training and evaluation.

    Raises:
        ValueError: The split is unknown, the template has not exactly one placeholder, or the sampler refused its
            arguments.
        InvalidReference: The reward cannot use the sampler's references.
        TypeError: The sampler does not return a `Problem`, or one whose prompt is no text.
    """

    def __init__(
        self, sampler: Sampler, reward: Reward, split: str = "train", prompt_template: str | None = None
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
        if prompt_template is not None:
            if not isinstance(prompt_template, str):
                raise TypeError(f"prompt_template must be a text, got {prompt_template!r:.80}")
            if prompt_template.count(_PLACEHOLDER) != 1:
                raise ValueError(f"prompt_template must contain {_PLACEHOLDER} exactly once, got {prompt_template!r}")
        self.split = split
        self._sampler = sampler
        self._reward = reward
        self._template = prompt_template
        self.draw(seed=0)  # a sampler or reference that cannot work is refused now, not in the middle of a run

    @property
    def num_problems(self) -> int | None:
        """How many problems there are, where they are a finite set that is visited in order; else None."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the problems depend on beside seed and index, as JSON takes it; nothing, but for a curriculum."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: It is that of another task.
        """
        if state:
            raise ValueError(f"this task keeps no state, got that of another one: {sorted(state)}")

    def draw(self, seed: int, index: int = 0) -> Problem:
        """The problem at `index` of the stream that `seed` names.

        Equal arguments give equal problems on every machine, and streams of different seeds are independent.

        Raises:
            ValueError: The seed is negative, or none of 10,000 draws belongs to this split.
        """
        if seed < 0:
            raise ValueError(f"a seed must not be negative, got {seed}")
        rng = np.random.default_rng(np.random.SeedSequence((SPLITS.index(self.split), seed, index)))
        for _ in range(_MAX_DRAWS):
            problem: Any = self._sampler(rng)
            if not isinstance(problem, Problem):
                raise TypeError(f"a task's sampler must return a Problem, got {type(problem).__name__}")
            check_prompt(problem.prompt)
            if problem.split == self.split:
                return self._finish(problem)
        raise ValueError(
            f"none of {_MAX_DRAWS} problems belongs to the split {self.split!r}: the task has too few distinct "
            "prompts to be split; widen the range its sampler draws from"
        )

    def _finish(self, problem: Problem) -> Problem:
        check_reference(self._reward, problem.reference)
        if self._template is not None:
            problem = replace(problem, prompt=self._template.replace(_PLACEHOLDER, problem.prompt))
        check_prompt(problem.prompt)
        return problem


class FiniteStream(ProblemStream):
    """The problems of one split of a finite set; a stream visits each of them once before it repeats one.

    The problem that a seed names first is number `seed % num_problems`, so that the seeds from 0 to `num_problems - 1`
    (or any as many in a row) visit each once. What follows in that stream is a shuffle of the others, and after them
    another shuffle of all: both are functions of split, seed and epoch, as everywhere.

    Args:
        problems: The problems of all splits; those of the other split are left out.
        reward: The task's reward, which checks each reference.
        split: `"train"` or `"test"`.
        prompt_template: Text with exactly one `{prompt}`, put around every prompt.

    Raises:
        TypeError: One is no `Problem`, or its prompt no text.
        ValueError: No problem belongs to the split, a prompt cannot be used, or an argument is refused as in
            `ProblemStream`.
    """

    def __init__(
        self, problems: Sequence[Problem], reward: Reward, split: str = "train", prompt_template: str | None = None
    ) -> None:
        for number, problem in enumerate(problems):  # now, not when a run comes to it
            _check_problem(number, problem)
        self._problems = tuple(problem for problem in problems if problem.split == split)
        if split in SPLITS and not self._problems:
            raise ValueError(
                f"none of {len(problems)} problems belongs to the split {split!r}: give it some "
                "(register_dataset takes split='fifth', 'all', 'none' or a column), or use the other split"
            )
        self._order: tuple[tuple[int, int], np.ndarray] | None = None
        super().__init__(self._refuse, reward, split, prompt_template)

    @property
    def num_problems(self) -> int:
        """How many problems the split has."""
        return len(self._problems)

    def draw(self, seed: int, index: int = 0) -> Problem:
        """The problem at `index` of the stream that `seed` names.

        Raises:
            ValueError: The seed is negative.
        """
        if seed < 0:
            raise ValueError(f"a seed must not be negative, got {seed}")
        epoch, position = divmod(index, len(self._problems))
        first = seed % len(self._problems)
        row = first if index == 0 else int(self._epoch(seed, epoch, first)[position])
        return self._finish(self._problems[row])

    def _epoch(self, seed: int, epoch: int, first: int) -> np.ndarray:
        """(num_problems,) the order of an epoch; the last one that was asked for is kept."""
        if self._order is None or self._order[0] != (seed, epoch):
            rng = np.random.default_rng(np.random.SeedSequence((SPLITS.index(self.split), seed, epoch)))
            order = rng.permutation(len(self._problems))
            if epoch == 0:
                at = int(np.flatnonzero(order == first)[0])
                order[[0, at]] = order[[at, 0]]
            self._order = (seed, epoch), order
        return self._order[1]

    def _refuse(self, rng: np.random.Generator) -> Problem:
        raise AssertionError("a finite stream draws from its problems")


def _check_problem(number: int, problem: Any) -> None:
    """Refuse what is no problem that a model can be given, with its number among the others, and its row if it has one.

    Raises:
        TypeError: It is no `Problem`, or its prompt no text.
        ValueError: Its prompt cannot be used.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem {number} must be a Problem, got {problem!r:.80} ({type(problem).__name__})")
    try:
        check_prompt(problem.prompt)
    except (TypeError, ValueError) as error:
        where = problem.metadata.get("row", f"problem {number}")
        raise type(error)(f"{where}: {error}") from error
