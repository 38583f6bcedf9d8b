"""A stand-in for `rewards.code.CodeTestsReward` where that package is not there yet."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from rewards.base import Reward, RewardResult


class MissingReward:
    """Tells whoever wants a verdict that there is none."""

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Refuse.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("rewards.code is missing: completions of this task cannot be scored")


def code_tests_reward() -> Reward:
    """`CodeTestsReward()`, or the stand-in."""
    if importlib.util.find_spec("rewards.code") is None:
        return MissingReward()
    reward: Reward = importlib.import_module("rewards.code").CodeTestsReward()
    return reward
