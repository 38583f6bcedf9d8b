"""Agents that improve a language model on a verifiable task; names load on first use, so that importing is quick."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.base_agent import Agent
    from agents.evaluation.held_out import EvaluationReport, evaluate
    from agents.grpo.agent import GRPOAgent
    from agents.grpo.config import GRPOConfig
    from agents.load import load_agent
    from agents.objectives import GRPO
    from agents.policies import ChatFormat, LanguageModelPolicy, load_policy
    from agents.sb3 import SB3Agent
    from agents.sb3.config import SB3Config
    from agents.tracking.callback import Callback

_HOME = {
    "Agent": "agents.base_agent",
    "Callback": "agents.tracking.callback",
    "ChatFormat": "agents.policies",
    "EvaluationReport": "agents.evaluation.held_out",
    "GRPO": "agents.objectives",
    "GRPOAgent": "agents.grpo.agent",
    "GRPOConfig": "agents.grpo.config",
    "LanguageModelPolicy": "agents.policies",
    "SB3Agent": "agents.sb3",
    "SB3Config": "agents.sb3.config",
    "evaluate": "agents.evaluation.held_out",
    "load_agent": "agents.load",
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
    "SB3Agent",
    "SB3Config",
    "evaluate",
    "load_agent",
    "load_policy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
