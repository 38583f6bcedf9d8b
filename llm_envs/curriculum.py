"""`register_curriculum`: a task whose difficulty rises with the success rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_envs.env import CompletionEnv
from llm_envs.problem import Problem
from llm_envs.stream import ProblemStream
from llm_envs.task import ENV_ARGUMENTS, Task, add_task, calling_module, find_task
from llm_envs.vector_env import CompletionVectorEnv
from rewards.base import Outcome, Reward, RewardResult, score


class Curriculum:
    """Where a run stands: the level, and the latest completions on it.

    Args:
        levels: How many levels there are.
        threshold: The share of right completions from which the next level begins.
        window: How many completions on a level are looked at before it can be left.
        level: Where to start.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, levels: int, threshold: float = 0.8, window: int = 256, level: int = 0) -> None:
        if levels < 1 or not 0 <= level < levels:
            raise ValueError(f"level must be one of {levels} levels, got {level}")
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.levels, self.threshold, self.level = levels, threshold, level
        self._latest: deque[bool] = deque(maxlen=window)

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, as JSON takes it."""
        return {"level": self.level, "latest": [int(right) for right in self._latest]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: It is not that of a curriculum with as many levels.
        """
        level, latest = state.get("level"), state.get("latest")
        if not isinstance(level, int) or not 0 <= level < self.levels or not isinstance(latest, list):
            raise ValueError(f"this is no state of a curriculum with {self.levels} levels: {dict(state)!r:.200}")
        self.level = level
        self._latest.clear()
        self._latest.extend(bool(right) for right in latest)

    def record(self, right: Sequence[bool]) -> None:
        """Take note of completions; where enough of the latest are right, the next level begins."""
        self._latest.extend(right)
        full = len(self._latest) == self._latest.maxlen
        if full and sum(self._latest) >= self.threshold * len(self._latest) and self.level + 1 < self.levels:
            self.level += 1
            self._latest.clear()


@dataclass(frozen=True)
class CurriculumTask(Task):
    """A task made of another one with different arguments; each environment has a curriculum of its own.

    Attributes:
        stages: The task's problems at each level: a function of the split and the prompt template.
        threshold: The share of right completions from which the next level begins.
        window: How many completions on a level are looked at before it can be left.
    """

    stages: tuple[Callable[..., ProblemStream], ...]
    threshold: float
    window: int

    def __call__(self, render_mode: str | None = None, **kwargs: Any) -> CompletionEnv:
        """Make the environment; `kwargs` are `start`, `split` and `prompt_template`."""
        problems = self.problems(**kwargs)
        return CompletionEnv(problems, _Recording(self.reward, problems), render_mode)

    def make_vector(self, num_envs: int, render_mode: str | None = None, **kwargs: Any) -> CompletionVectorEnv:
        """Make the vector environment, in which all copies are at the same level."""
        problems = self.problems(**kwargs)
        return CompletionVectorEnv(problems, _Recording(self.reward, problems), num_envs, render_mode)

    def problems(
        self, split: str = "train", prompt_template: str | None = None, start: int = 0, **kwargs: Any
    ) -> CurriculumStream:
        """The streams of all levels, at the level `start`.

        Raises:
            TypeError: There is no argument of that name, or `start` is no whole number.
        """
        self.check_arguments({"start": start, **kwargs})
        streams = [stage(split=split, prompt_template=prompt_template) for stage in self.stages]
        return CurriculumStream(streams, Curriculum(len(streams), self.threshold, self.window, start))

    @property
    def _takes_arguments(self) -> Callable[..., Any]:
        return _start_at

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """`start`, the level to start at."""
        return {"start": 0}


def _start_at(start: int = 0) -> None:
    """The arguments of a curriculum, for their types."""


class CurriculumStream(ProblemStream):
    """The stream of the level where a curriculum stands; of the split `"test"`, one of all levels by the seed.

    At one level, a problem is a function of seed and index, as always; which level it is depends on what was answered
    before. What is held out is asked from all levels alike, so that evaluations can be compared.

    Args:
        streams: One for each level.
        curriculum: Where the run stands.
    """

    def __init__(self, streams: Sequence[ProblemStream], curriculum: Curriculum) -> None:
        self.split = streams[0].split
        self.curriculum = curriculum
        self._streams = tuple(streams)

    def state_dict(self) -> dict[str, Any]:
        """Where the curriculum stands."""
        return self.curriculum.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: It is not that of a curriculum with as many levels.
        """
        self.curriculum.load_state_dict(state)

    def draw(self, seed: int, index: int = 0) -> Problem:
        """The problem of the current level; see the class."""
        level = self.curriculum.level
        if self.split == "test":
            level = int(np.random.default_rng(np.random.SeedSequence((seed, index))).integers(len(self._streams)))
        return self._streams[level].draw(seed, index)


class _Recording:
    """A reward that tells the curriculum of the training split which completions were right."""

    def __init__(self, reward: Reward, problems: CurriculumStream) -> None:
        self._reward = reward
        self._curriculum = problems.curriculum if problems.split == "train" else None

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        results = score(self._reward, prompts, completions, references)
        if self._curriculum is not None:
            level = float(self._curriculum.level)
            results = [
                RewardResult(r.reward, r.outcome, r.answer, {**r.metrics, "curriculum_level": level}) for r in results
            ]
            self._curriculum.record([_is_right(result) for result in results])
        return results


def _is_right(result: RewardResult) -> bool:
    """By the outcome, as a reward may have bonuses and penalties; a mere score counts from 1."""
    return result.outcome is Outcome.CORRECT or (result.outcome is Outcome.SCORED and result.reward >= 1)


def register_curriculum(
    id: str, task: str, levels: Sequence[Mapping[str, Any]], *, threshold: float = 0.8, window: int = 256
) -> None:
    """Register a curriculum over a task.

    >>> import gymnasium
    >>> register_curriculum("doc/Sums-v0", "llm_envs/Arithmetic-v0", [{"operands": n} for n in (2, 3, 4)], window=64)
    >>> env = gymnasium.make("doc/Sums-v0")

    All environments of one vector environment share the level, so a group of equal seeds gets one problem. It is part
    of an agent's checkpoint (`CompletionVectorEnv.state_dict`). A result's metrics have `curriculum_level`.

    Args:
        id: Namespace, name and version of the curriculum.
        task: The id of the task.
        levels: The task's arguments at each level, the easiest first.
        threshold: The share of right completions from which the next level begins.
        window: How many completions on a level are looked at before it can be left.

    Raises:
        gymnasium.error.Error: There is no such task, or the id is malformed.
        TypeError: `task` is no task of `register_task`, has several turns, or has no argument of that name.
        ValueError: There are no levels, an argument is refused, or `threshold` or `window` is out of range.
    """
    base, arguments = find_task(task)
    if base.reply is not None:
        raise TypeError(f"{task} has several turns: not every verdict of it says how difficult a problem was")
    Curriculum(len(levels), threshold, window)
    for level in levels:
        reserved = set(level) & set(ENV_ARGUMENTS)
        if reserved:
            raise TypeError(f"a level has arguments of {task}, not of every environment: {sorted(reserved)}")
        base.problems(**{**arguments, **level})  # refused now, not when the level is reached

    def stage(level: Mapping[str, Any]) -> Callable[..., ProblemStream]:
        return lambda **kwargs: base.problems(**{**arguments, **level, **kwargs})

    stages = tuple(stage(level) for level in levels)
    task_of_levels = CurriculumTask(
        id, base.sampler, base.reward, calling_module(), stages, threshold, window, metric=base.metric
    )
    add_task(task_of_levels)
