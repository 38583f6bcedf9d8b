"""What a callback is: an object that is told of a run while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.rollout import Rollout


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
