"""Agents that improve a language model on a verifiable task; names load on first use, so that importing is quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.base_agent import Agent
    from agents.evaluation.held_out import EvaluationReport, evaluate
    from agents.factory import load_agent, make_agent
    from agents.grpo.agent import GRPOAgent
    from agents.grpo.config import GRPOConfig
    from agents.objectives import (
        CISPO,
        DAPO,
        GRPO,
        GSPO,
        LUSPO,
        RLOO,
        SAPO,
        VESPO,
        DrGRPO,
        PolicyGradient,
        REINFORCEPlusPlus,
        WeightedLikelihood,
    )
    from agents.policies import ChatFormat, LanguageModelPolicy, load_policy
    from agents.rollout import SamplingParams
    from agents.sb3.agent import SB3Agent
    from agents.sb3.config import SB3Config
    from agents.tracking.callback import Callback

if "torch" not in sys.modules:
    # OpenMP reads it when torch is loaded: threads that wait sleep instead of spinning, which on a machine that does
    # other work as well costs a multiple of what it saves
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_HOME = {
    "Agent": "agents.base_agent",
    "CISPO": "agents.objectives",
    "Callback": "agents.tracking.callback",
    "ChatFormat": "agents.policies",
    "DAPO": "agents.objectives",
    "DrGRPO": "agents.objectives",
    "EvaluationReport": "agents.evaluation.held_out",
    "GRPO": "agents.objectives",
    "GRPOAgent": "agents.grpo.agent",
    "GRPOConfig": "agents.grpo.config",
    "GSPO": "agents.objectives",
    "LUSPO": "agents.objectives",
    "LanguageModelPolicy": "agents.policies",
    "PolicyGradient": "agents.objectives",
    "REINFORCEPlusPlus": "agents.objectives",
    "RLOO": "agents.objectives",
    "SAPO": "agents.objectives",
    "SB3Agent": "agents.sb3.agent",
    "SB3Config": "agents.sb3.config",
    "SamplingParams": "agents.rollout",
    "VESPO": "agents.objectives",
    "WeightedLikelihood": "agents.objectives",
    "evaluate": "agents.evaluation.held_out",
    "load_agent": "agents.factory",
    "load_policy": "agents.policies",
    "make_agent": "agents.factory",
}

__all__ = [
    "CISPO",
    "DAPO",
    "GRPO",
    "GSPO",
    "LUSPO",
    "RLOO",
    "SAPO",
    "VESPO",
    "Agent",
    "Callback",
    "ChatFormat",
    "DrGRPO",
    "EvaluationReport",
    "GRPOAgent",
    "GRPOConfig",
    "LanguageModelPolicy",
    "PolicyGradient",
    "REINFORCEPlusPlus",
    "SB3Agent",
    "SB3Config",
    "SamplingParams",
    "WeightedLikelihood",
    "evaluate",
    "load_agent",
    "load_policy",
    "make_agent",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
