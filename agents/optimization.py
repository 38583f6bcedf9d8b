"""What agents share of an optimizer: the schedule of the learning rate, and a count of steps."""

from __future__ import annotations

import math
from typing import Protocol

import torch


class LearningRateConfig(Protocol):
    """What `scheduled_learning_rate` reads; see `GRPOConfig` for what the fields mean."""

    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def warmup_updates(self) -> int: ...  # noqa: D102
    @property
    def lr_schedule(self) -> str: ...  # noqa: D102
    @property
    def final_lr_fraction(self) -> float: ...  # noqa: D102


def scheduled_learning_rate(update: int, total_updates: int, config: LearningRateConfig) -> float:
    """The learning rate of an update (from 0): linear warm-up, then the schedule down to `final_lr_fraction`."""
    if update < config.warmup_updates:
        return config.learning_rate * (update + 1) / (config.warmup_updates + 1)
    progress = (update - config.warmup_updates) / max(1, total_updates - 1 - config.warmup_updates)
    remaining = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }[config.lr_schedule]
    floor = 1.0 if config.lr_schedule == "constant" else config.final_lr_fraction
    return config.learning_rate * (floor + (1 - floor) * remaining)


class StepCounter:
    """Counts the steps of an optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._count = 0
        optimizer.register_step_post_hook(self._add)

    def _add(self, *_: object) -> None:
        self._count += 1

    def take(self) -> int:
        """The steps since the last call."""
        count, self._count = self._count, 0
        return count
