"""Saving an agent every few updates."""

from __future__ import annotations

from collections.abc import Callable

from agents.tracking.callback import Callback, UpdateRecord


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
