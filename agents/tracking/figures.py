"""Which figure says how a task goes: accuracy, the mean reward where nothing is right or wrong, or the task's own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agents.rollout import Rollout

ACCURACY, REWARD = "accuracy", "reward"
_JUDGED = {"correct", "wrong", "partial"}


def main_figure(outcomes: Iterable[str], metric: str | None = None) -> str:
    """The figure that tables and curves show first.

    Args:
        outcomes: Of completions of the task.
        metric: The figure that the task names, see `llm_envs.register_task`.

    Returns:
        `metric` where there is one; `"reward"` where completions are scored and none of them is right, wrong or
        partly right; else `"accuracy"`.
    """
    if metric is not None:
        return metric
    found = set(outcomes)
    return REWARD if "scored" in found and not found & _JUDGED else ACCURACY


def value_of(rollout: Rollout, figure: str) -> float:
    """What an episode counts for: 1 or 0 for the accuracy, its reward, or a metric of its reward (0 if it has none)."""
    if figure == ACCURACY:
        return float(rollout.correct)
    return rollout.reward if figure == REWARD else rollout.metrics.get(figure, 0.0)


def is_graded(rollouts: Iterable[Rollout]) -> bool:
    """Whether rewards say more than which completions are right: partial credit, bonuses, scores."""
    return any(rollout.reward != float(rollout.correct) for rollout in rollouts)


def column_of(figure: str) -> str:
    """The name of a figure in the metrics of an update."""
    return figure if figure in (ACCURACY, REWARD) else f"metric/{figure}"


def mean_and_margin(rollouts: Sequence[Rollout], figure: str) -> str:
    """A figure of an update as text, such as `0.43 ±0.05`: the mean, and half of its 95 % interval over problems."""
    by_problem: dict[tuple[int, str], list[float]] = {}
    for rollout in rollouts:
        by_problem.setdefault((rollout.seed, rollout.prompt), []).append(value_of(rollout, figure))
    means = [statistics.fmean(values) for values in by_problem.values()]
    mean = f"{statistics.fmean(means):.2f}"
    if len(means) < 2:
        return mean
    return f"{mean} ±{1.96 * statistics.stdev(means) / math.sqrt(len(means)):.2f}"
