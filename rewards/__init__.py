"""Rewards: functions of prompts, completions and references that say what a completion is worth."""

from rewards.base import InvalidReference, Outcome, Reward, RewardResult

__all__ = ["InvalidReference", "Outcome", "Reward", "RewardResult"]
