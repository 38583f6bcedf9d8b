"""What is said of a run that learns nothing or has collapsed: a warning of each kind once, with the remedy."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.tracking import files
from agents.tracking.callback import Callback, UpdateRecord
from agents.tracking.figures import ACCURACY, REWARD, column_of, main_figure
from agents.tracking.json_lines import finished_lines

WARNINGS_FILE = "warnings.jsonl"
_MANY_UPDATES, _FEW_UPDATES = 10, 3
_MANY_GROUPS, _MANY_EPISODES = 16, 64
_PROBLEMS_IN_A_MEAN = 32
_MOST_TRUNCATED = 0.5
_LARGE_KL, _SMALL_ENTROPY = 2.0, 0.05
_STANDARD_ERRORS = 3.0


_NEEDED = {"reward", "reward_std", "accuracy", "truncated", "entropy"}


class TrainingWarning(UserWarning):
    """A run learns nothing, or unlearns what it could; `Agent.learn` warns of each kind once."""


@dataclass(frozen=True, slots=True)
class _Update:
    """One update: its metrics, how many episodes and different problems they are of, and its main figure."""

    metrics: Mapping[str, float]
    episodes: int
    problems: int
    figure: str

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]

    @property
    def reward_error(self) -> float:
        """Standard error of the mean reward; completions of one problem count as one, since they are alike."""
        return self["reward_std"] / math.sqrt(self.problems)


class TrainingMonitor:
    """Looks at the updates of one call of `learn`.

    Args:
        metric: The figure that the task names as the one that says how it goes, see `llm_envs.register_task`.
    """

    def __init__(self, metric: str | None = None) -> None:
        self._metric = metric
        self._updates: list[_Update] = []
        self._said: set[str] = set()

    def check(self, record: UpdateRecord) -> dict[str, str]:
        """The warnings that this update gives cause for, by kind; none that were given before."""
        if not record.metrics.keys() >= _NEEDED:  # of an agent of somebody's own
            return {}
        problems = {rollout.seed for rollout in record.rollouts}
        outcomes = (name.removeprefix("outcome/") for name in record.metrics if name.startswith("outcome/"))
        figure = main_figure(outcomes, self._metric)
        self._updates.append(_Update(record.metrics, len(record.rollouts), max(1, len(problems)), figure))
        found = {}
        for kind, check in _CHECKS.items():
            if kind not in self._said and (message := check(self._updates)) is not None:
                found[kind] = message
                self._said.add(kind)
        return found


def _mean(updates: Sequence[_Update], name: str) -> float:
    return sum(update[name] * update.episodes for update in updates) / sum(update.episodes for update in updates)


def _problems(updates: Sequence[_Update]) -> int:
    """The size of a sample; completions of one problem count as one, since they are alike."""
    return sum(update.problems for update in updates)


def _named_figure(update: _Update) -> str:
    """The figure that the task names, beside the reward; empty where it names none or the update has none of it."""
    value = update.metrics.get(column_of(update.figure))
    return "" if update.figure in (ACCURACY, REWARD) or value is None else f", {update.figure} {value:.2f}"


def _no_differences(updates: Sequence[_Update]) -> str | None:
    last: list[_Update] = []
    for update in reversed(updates):
        if update.metrics.get("informative_groups", update["reward_std"]) > 0:
            break
        last.append(update)
    enough = _problems(last) >= _MANY_GROUPS
    if len(last) < _FEW_UPDATES or not (enough or len(last) >= _MANY_UPDATES):
        return None
    text = (
        f"in the last {len(last)} updates all completions of a prompt earned the same reward (mean "
        f"{last[0]['reward']:.2f}{_named_figure(last[0])}), and there is nothing to learn from. "
    )
    if last[0].figure == ACCURACY and _mean(last, "accuracy") > 0.99:
        return text + "The task is solved: stop here, or make it harder."
    return text + (
        "If the task is too hard: an easier one or a curriculum, a better starting policy, a larger group_size or a "
        "higher temperature. If completions look right (completions.jsonl), the reward does not see it: llm-envs audit"
    )


def _truncated(updates: Sequence[_Update]) -> str | None:
    last = updates[-5:]
    share = _mean(last, "truncated")
    if share <= _MOST_TRUNCATED or (len(last) < 5 and sum(update.episodes for update in last) < _MANY_EPISODES):
        return None
    return (
        f"{share:.0%} of completions were cut at the token limit, so that few come to their answer. Raise "
        "max_completion_tokens, or ask for shorter answers (a prompt template, a stop string, an end token that the "
        "policy knows)"
    )


_REMEDY = "Lower the learning rate, raise kl_coef, and go back to an earlier checkpoint"


def _reward_fell(updates: Sequence[_Update]) -> str | None:
    size = max(2, math.ceil(_PROBLEMS_IN_A_MEAN / updates[-1].problems))  # updates in a mean
    last = updates[-size:]
    now = _mean(last, "reward")
    deviation = max(update["reward_std"] for update in updates)
    fallen_from = []
    for end in range(1, len(updates) - size + 1):
        earlier = updates[max(0, end - size) : end]
        best = _mean(earlier, "reward")
        error = deviation * math.sqrt(1 / _problems(earlier) + 1 / _problems(last))
        if best - now > max(abs(best) / 2, _STANDARD_ERRORS * error):
            fallen_from.append(best)
    if not fallen_from:
        return None
    return f"the mean reward fell from {max(fallen_from):.2f} to {now:.2f}: the policy is collapsing. {_REMEDY}"


def _far_from_start(updates: Sequence[_Update]) -> str | None:
    last = updates[-2:]
    if len(last) < 2 or not all(update.metrics.get("kl", 0.0) > _LARGE_KL for update in last):
        return None
    return (
        f"the policy is {last[-1]['kl']:.3g} nats per token away from where it started (kl): it no longer writes like "
        f"the model it was. {_REMEDY}"
    )


def _entropy(updates: Sequence[_Update]) -> str | None:
    first, last = updates[0], updates[-2:]
    if len(updates) < _FEW_UPDATES:
        return None
    start, now = first["entropy"], _mean(last, "entropy")
    if now > 2 * start and now > start + 1:
        return f"the entropy rose from {start:.2f} to {now:.2f} nats per token: the policy writes noise. {_REMEDY}"
    if now < start / 20 and start > _SMALL_ENTROPY and _mean(last, "reward") <= first["reward"]:
        return (
            f"the entropy fell from {start:.2g} to {now:.2g} nats per token and the reward did not rise: the policy "
            f"writes one answer to everything. {_REMEDY}, or raise the temperature"
        )
    return None


def _accuracy_fell(updates: Sequence[_Update]) -> str | None:
    if len(updates) < _MANY_UPDATES:
        return None
    part = max(_FEW_UPDATES, len(updates) // 5)
    first, last = updates[:part], updates[-part:]
    figure, column = last[-1].figure, column_of(last[-1].figure)
    if figure == REWARD or not all(column in update.metrics for update in (*first, *last)):
        return None
    gained = _mean(last, "reward") - _mean(first, "reward")
    lost = _mean(first, column) - _mean(last, column)
    reward_error = math.hypot(*(update.reward_error / part for update in (*first, *last)))
    if figure == ACCURACY:
        share = _mean([*first, *last], column)
        error = math.sqrt(2 * share * (1 - share) / _problems(first))
    else:  # of any scale: from how much it differs between updates
        error = math.hypot(*(statistics.stdev(u[column] for u in side) / math.sqrt(part) for side in (first, last)))
    if gained <= _STANDARD_ERRORS * reward_error or lost <= _STANDARD_ERRORS * error:
        return None
    return (
        f"the reward rose by {gained:.2f} while {figure} fell by {lost:.2f}: the policy earns reward by something else "
        "than what the task is about. Look at completions.jsonl, and lower the weight of the other parts of the reward"
    )


_CHECKS: dict[str, Callable[[Sequence[_Update]], str | None]] = {
    "no_differences": _no_differences,
    "truncated": _truncated,
    "reward_fell": _reward_fell,
    "far_from_start": _far_from_start,
    "entropy": _entropy,
    "accuracy_fell": _accuracy_fell,
}
"""What is looked for, by kind."""


class WarningsWriter(Callback):
    """Keeps the warnings of a run in `warnings.jsonl`; a run without any has no such file.

    Args:
        folder: The run folder.
        show: Called with the text of each warning, if given.
    """

    def __init__(self, folder: str | Path, show: Callable[[str], None] | None = None) -> None:
        self._file = Path(folder) / WARNINGS_FILE
        self._show = show

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Drop what a resumed run is going to write again."""
        if self._file.exists():
            kept = [json.dumps(row) + "\n" for row in read_warnings(self._file.parent) if row["update"] <= update]
            files.write_text(self._file, "".join(kept))

    def on_update(self, record: UpdateRecord) -> None:
        """Write the warnings of this update, if there are any."""
        for kind, message in record.warnings.items():
            self.write(record.update, kind, message)
            if self._show is not None:
                self._show(message)

    def write(self, update: int, kind: str, message: str) -> None:
        """Write a warning."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"update": update, "kind": kind, "warning": message}) + "\n")


def read_warnings(folder: str | Path) -> list[dict[str, Any]]:
    """The warnings of a run: `update`, `kind` and `warning`, the first of each kind; none without the file."""
    rows = [json.loads(line) for line in finished_lines(Path(folder) / WARNINGS_FILE)]
    return list({row["kind"]: row for row in reversed(rows)}.values())[::-1]
