"""The episodes of a run as a file, `completions.jsonl`, and an episode as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.rollout import Completion, Rollout
from agents.tracking import files
from agents.tracking.callback import Callback, UpdateRecord
from agents.tracking.json_lines import finished_lines


class CompletionsWriter(Callback):
    """Appends a few of each update's episodes to `completions.jsonl`, for people to read.

    Args:
        folder: The run folder.
        groups_per_update: How many whole groups are written per update.
    """

    def __init__(self, folder: str | Path, groups_per_update: int = 1) -> None:
        self._file = Path(folder) / "completions.jsonl"
        self._groups = groups_per_update

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Drop what a resumed run is going to write again."""
        if self._file.exists():
            lines = finished_lines(self._file)
            files.write_text(self._file, "".join(line for line in lines if json.loads(line)["update"] <= update))

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
