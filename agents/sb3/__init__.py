"""stable-baselines3's algorithms on a language model, in two views of the same task; see docs/agents.md.

Names load on first use: `agents.sb3.config` is read by programs that never run stable-baselines3.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.sb3.agent import SB3Agent
    from agents.sb3.completion_policy import CompletionPolicy
    from agents.sb3.token_policy import TokenPolicy
    from agents.sb3.vec_env import CompletionVecEnv, TokenVecEnv

_HOME = {
    "CompletionPolicy": "agents.sb3.completion_policy",
    "CompletionVecEnv": "agents.sb3.vec_env",
    "SB3Agent": "agents.sb3.agent",
    "TokenPolicy": "agents.sb3.token_policy",
    "TokenVecEnv": "agents.sb3.vec_env",
}

__all__ = ["CompletionPolicy", "CompletionVecEnv", "SB3Agent", "TokenPolicy", "TokenVecEnv"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agents.sb3' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
