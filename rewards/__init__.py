"""Rewards: functions of prompts, completions and references that say what a completion is worth.

The rewards themselves load on first use, so that `import rewards` loads neither sympy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.base import InvalidReference, Outcome, Reward, RewardResult
from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from rewards.code import CodeTestsReward
    from rewards.code.sandbox import Sandbox
    from rewards.compose import ComposedReward, Term
    from rewards.countdown import CountdownReward
    from rewards.exact import ExactTextReward
    from rewards.extract import ALL_RULES, MARKED_RULES, Rule, extract_answer
    from rewards.math import MathReward
    from rewards.model import ModelReward
    from rewards.polynomial import PolynomialReward
    from rewards.shaping import LengthReward, TagsReward
    from rewards.workers import WorkerPool

__all__ = [
    "ALL_RULES",
    "MARKED_RULES",
    "CodeTestsReward",
    "ComposedReward",
    "CountdownReward",
    "ExactTextReward",
    "InvalidReference",
    "LengthReward",
    "MathReward",
    "ModelReward",
    "Outcome",
    "PolynomialReward",
    "Reward",
    "RewardResult",
    "Rule",
    "Sandbox",
    "TagsReward",
    "Term",
    "WorkerPool",
    "extract_answer",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "rewards.code": ["CodeTestsReward"],
            "rewards.code.sandbox": ["Sandbox"],
            "rewards.compose": ["ComposedReward", "Term"],
            "rewards.countdown": ["CountdownReward"],
            "rewards.exact": ["ExactTextReward"],
            "rewards.extract": ["ALL_RULES", "MARKED_RULES", "Rule", "extract_answer"],
            "rewards.math": ["MathReward"],
            "rewards.model": ["ModelReward"],
            "rewards.polynomial": ["PolynomialReward"],
            "rewards.shaping": ["LengthReward", "TagsReward"],
            "rewards.workers": ["WorkerPool"],
        },
    )
