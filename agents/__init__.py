"""Agents that improve a language model on a verifiable task; names load on first use, so that importing is quick."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from rewards.lazy_exports import lazy_exports

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

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "agents.base_agent": ["Agent"],
            "agents.evaluation.held_out": ["EvaluationReport", "evaluate"],
            "agents.factory": ["load_agent", "make_agent"],
            "agents.grpo.agent": ["GRPOAgent"],
            "agents.grpo.config": ["GRPOConfig"],
            "agents.objectives": [
                "CISPO",
                "DAPO",
                "DrGRPO",
                "GRPO",
                "GSPO",
                "LUSPO",
                "PolicyGradient",
                "REINFORCEPlusPlus",
                "RLOO",
                "SAPO",
                "VESPO",
                "WeightedLikelihood",
            ],
            "agents.policies": ["ChatFormat", "LanguageModelPolicy", "load_policy"],
            "agents.rollout": ["SamplingParams"],
            "agents.sb3.agent": ["SB3Agent"],
            "agents.sb3.config": ["SB3Config"],
            "agents.tracking.callback": ["Callback"],
        },
    )
