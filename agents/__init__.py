"""Agents that improve a language model on a verifiable task; names load on first use, so that importing is quick."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.base import Agent
    from agents.callbacks import Callback
    from agents.evaluation import EvaluationReport, evaluate
    from agents.grpo import GRPOAgent
    from agents.grpo_config import GRPOConfig
    from agents.objectives import GRPO
    from agents.policies import ChatFormat, LanguageModelPolicy, load_policy

_HOME = {
    "Agent": "agents.base",
    "Callback": "agents.callbacks",
    "ChatFormat": "agents.policies",
    "EvaluationReport": "agents.evaluation",
    "GRPO": "agents.objectives",
    "GRPOAgent": "agents.grpo",
    "GRPOConfig": "agents.grpo_config",
    "LanguageModelPolicy": "agents.policies",
    "evaluate": "agents.evaluation",
    "load_policy": "agents.policies",
}

__all__ = [
    "GRPO",
    "Agent",
    "Callback",
    "ChatFormat",
    "EvaluationReport",
    "GRPOAgent",
    "GRPOConfig",
    "LanguageModelPolicy",
    "evaluate",
    "load_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
