"""Records of updates, as `learn` makes them, for tests."""

from __future__ import annotations

from agents.rollout import Completion, Rollout
from agents.tracking.callback import UpdateRecord


def rollout(seed, text="x", reference="4"):
    return Rollout(seed, "What?", [1], Completion([2], [-0.1], False), text, 1.0, "correct", "4", reference)


def record(update, total=10, **metrics):
    rollouts = (rollout(1), rollout(1), rollout(2), rollout(2))
    return UpdateRecord(update, total, 4 * update, {"reward": 0.5, **metrics}, rollouts)
