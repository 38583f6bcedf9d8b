"""What agents share: the metrics of a batch of episodes, the learning rate's schedule, streams of noise, Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Protocol

import torch

from agents.rollout import Rollout


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


def rollout_metrics(rollouts: Sequence[Rollout], group_size: int) -> dict[str, float]:
    """What a batch of episodes, the G of one prompt next to each other, says about the policy that sampled them."""
    n = len(rollouts)
    rewards = torch.tensor([rollout.reward for rollout in rollouts]).view(-1, group_size)
    tokens = sum(rollout.num_tokens for rollout in rollouts)
    metrics = {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(correction=0).item(),
        "accuracy": sum(rollout.correct for rollout in rollouts) / n,
        # the groups that a group-relative advantage can learn from
        "informative_groups": (rewards != rewards[:, :1]).any(dim=1).float().mean().item(),
        "entropy": -sum(sum(rollout.completion.logprobs) for rollout in rollouts) / tokens,
        "completion_tokens": tokens / n,
        "truncated": sum(rollout.completion.truncated for rollout in rollouts) / n,
    }
    if any(rollout.turns > 1 for rollout in rollouts):
        metrics["turns"] = sum(rollout.turns for rollout in rollouts) / n
    outcomes = Counter(rollout.outcome for rollout in rollouts if rollout.outcome)
    metrics |= {f"outcome/{outcome}": count / n for outcome, count in sorted(outcomes.items())}
    for name in sorted({name for rollout in rollouts for name in rollout.metrics}):
        values = [rollout.metrics[name] for rollout in rollouts if name in rollout.metrics]
        metrics[f"metric/{name}"] = sum(values) / len(values)
    return metrics


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that an update is never cut in half; the second one interrupts at once.

    Outside the main thread, where Python delivers no signals, nothing is changed.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


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
