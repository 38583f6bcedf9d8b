"""Rewards: functions of prompts, completions and references that say what a completion is worth.

The rewards themselves load on first use, so that `import rewards` loads neither sympy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rewards.base import InvalidReference, Outcome, Reward, RewardResult

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

_MODULES = {
    "ALL_RULES": "rewards.extract",
    "CodeTestsReward": "rewards.code",
    "ComposedReward": "rewards.compose",
    "CountdownReward": "rewards.countdown",
    "ExactTextReward": "rewards.exact",
    "LengthReward": "rewards.shaping",
    "MARKED_RULES": "rewards.extract",
    "MathReward": "rewards.math",
    "ModelReward": "rewards.model",
    "PolynomialReward": "rewards.polynomial",
    "Rule": "rewards.extract",
    "Sandbox": "rewards.code.sandbox",
    "TagsReward": "rewards.shaping",
    "Term": "rewards.compose",
    "WorkerPool": "rewards.workers",
    "extract_answer": "rewards.extract",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'rewards' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
