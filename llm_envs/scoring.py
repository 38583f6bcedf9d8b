"""Calls of rewards by environments: under a deadline, and with the reward's name on what it raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_envs.reward_deadline import watched
from rewards.base import Reward, RewardResult, score

RAISED_BY_REWARD = "Raised by the reward "
"""Begins the note on what a reward raises."""


def score_completions(
    reward: Reward, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
) -> list[RewardResult]:
    """As `rewards.base.score`; what is raised gets a note with the name of the reward and where it is defined."""
    try:
        with watched():
            return score(reward, prompts, completions, references)
    except Exception as error:
        kind = reward if hasattr(reward, "__qualname__") else type(reward)
        name = f"{kind.__module__}.{kind.__qualname__}"
        error.add_note(f"{RAISED_BY_REWARD}{name}, called with {len(completions)} completions")
        raise
