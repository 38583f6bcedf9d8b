"""Callbacks receive a read-only record after each update; they never see the agent."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.rollout import Completion, Rollout

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """What happened in one update.

    Attributes:
        update: Number of this update in the agent's life, from 1.
        total_updates: Number at which this call of `learn` ends.
        episodes: Episodes learned from in the agent's life, those of this update included.
        metrics: Figures by name, see docs/metrics.md.
        rollouts: The episodes of this update, groups next to each other.
    """

    update: int
    total_updates: int
    episodes: int
    metrics: Mapping[str, float]
    rollouts: Sequence[Rollout]


class Callback:
    """Base class; override what is needed."""

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Called once, before the first update; `update` is how many the agent has behind it."""

    def on_update(self, record: UpdateRecord) -> bool | None:
        """Called after each update; returning False ends training."""

    def on_training_end(self) -> None:
        """Called once at the end, also after Ctrl-C or an error."""


class MetricsWriter(Callback):
    """Appends every update's metrics to `metrics.csv` and `metrics.jsonl`, and to TensorBoard event files.

    A resumed run appends to the same files; rows of updates that were lost with an unsaved state are dropped first.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []
        self._tensorboard: Any = None

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Open the files, after dropping rows past `update`."""
        from torch.utils.tensorboard import SummaryWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        self._rows = [row for row in read_metrics(self._folder) if row["update"] <= update]
        (self._folder / METRICS_FILE).write_text("".join(map(_json_line, self._rows)), encoding="utf-8")
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        self._write_csv()
        self._tensorboard = SummaryWriter(self._folder / "tensorboard", purge_step=update + 1)

    def on_update(self, record: UpdateRecord) -> None:
        """Write one row everywhere and flush, so that a killed run loses none."""
        row = {"update": record.update, "episodes": record.episodes, **record.metrics}
        self._rows.append(row)
        with (self._folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(_json_line(row))
        new_columns = [name for name in row if name not in self._columns]
        if new_columns:  # an outcome that had not occurred before, say
            self._columns += new_columns
            self._write_csv()
        else:
            with (self._folder / "metrics.csv").open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        for name, value in record.metrics.items():
            self._tensorboard.add_scalar(name, value, record.update)
        self._tensorboard.flush()

    def _write_csv(self) -> None:
        with (self._folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)

    def on_training_end(self) -> None:
        """Close the event file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run folder's `metrics.jsonl`, in order; none where there is no such file."""
    return [json.loads(line) for line in _whole_lines(folder / METRICS_FILE)]


def _whole_lines(file: Path) -> list[str]:
    """The lines of a file, without the last one where a killed process has not written its end; none without a file."""
    if not file.exists():
        return []
    return [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


class CompletionsWriter(Callback):
    """Appends a few of each update's episodes to `completions.jsonl`, for people to read.

    Args:
        folder: The run folder.
        groups_per_update: How many whole groups are written per update.
    """

    def __init__(self, folder: Path, groups_per_update: int = 1) -> None:
        self._file = folder / "completions.jsonl"
        self._groups = groups_per_update

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Drop what a resumed run is going to write again."""
        if self._file.exists():
            lines = _whole_lines(self._file)
            self._file.write_text("".join(line for line in lines if json.loads(line)["update"] <= update), "utf-8")

    def on_update(self, record: UpdateRecord) -> None:
        """Write the first groups of this update."""
        seeds = list(dict.fromkeys(rollout.seed for rollout in record.rollouts))[: self._groups]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            for rollout in record.rollouts:
                if rollout.seed in seeds:
                    file.write(json.dumps({"update": record.update, **rollout_as_json(rollout)}) + "\n")


def rollout_as_json(rollout: Rollout) -> dict[str, Any]:
    """What a person wants to read of an episode."""
    return {
        "seed": rollout.seed,
        "prompt": rollout.prompt,
        "completion": rollout.text,
        "tokens": rollout.num_tokens,
        "turns": rollout.turns,
        "truncated": rollout.completion.truncated,
        "reward": rollout.reward,
        "outcome": rollout.outcome,
        "answer": rollout.answer,
        "reference": rollout.reference if isinstance(rollout.reference, str | int | float) else repr(rollout.reference),
        **({"metrics": dict(rollout.metrics)} if rollout.metrics else {}),
    }


def rollout_from_json(record: Mapping[str, Any]) -> Rollout:
    """The inverse of `rollout_as_json`, but for the token ids and log-probabilities, which it does not write."""
    return Rollout(
        seed=record["seed"],
        prompt=record["prompt"],
        prompt_ids=[],
        completion=Completion([], [], record["truncated"]),
        text=record["completion"],
        reward=record["reward"],
        outcome=record["outcome"],
        answer=record["answer"],
        reference=record["reference"],
        turns=record.get("turns", 1),
        metrics=record.get("metrics", {}),
    )


class CheckpointEvery(Callback):
    """Saves every few updates, so that a machine that stops loses little.

    Args:
        save: Called without arguments; usually `functools.partial(agent.save, path)`.
        every: Updates between two saves.
    """

    def __init__(self, save: Callable[[], None], every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self._save = save
        self._every = every

    def on_update(self, record: UpdateRecord) -> None:
        """Save where the update's number says so."""
        if record.update % self._every == 0:
            self._save()


class CallbackList(Callback):
    """Several callbacks as one, called in order; training goes on only if none of them returns False."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = list(callbacks)

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Call all."""
        for callback in self._callbacks:
            callback.on_training_start(update, total_updates)

    def on_update(self, record: UpdateRecord) -> bool:
        """Call all, then say whether to go on."""
        answers = [callback.on_update(record) for callback in self._callbacks]
        return all(answer is not False for answer in answers)

    def on_training_end(self) -> None:
        """Call all."""
        for callback in self._callbacks:
            callback.on_training_end()


def as_callback(callback: Callback | Sequence[Callback] | None) -> Callback:
    """One callback, whatever `learn` was given."""
    if callback is None:
        return Callback()
    return callback if isinstance(callback, Callback) else CallbackList(callback)
