"""stable-baselines3's algorithms on a language model, in two views of the same task; see docs/agents.md.

Names load on first use: `agents.sb3.config` is read by programs that never run stable-baselines3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from agents.sb3.agent import SB3Agent
    from agents.sb3.completion_policy import CompletionPolicy
    from agents.sb3.token_policy import TokenPolicy
    from agents.sb3.vec_env import CompletionVecEnv, TokenVecEnv

__all__ = ["CompletionPolicy", "CompletionVecEnv", "SB3Agent", "TokenPolicy", "TokenVecEnv"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "agents.sb3.agent": ["SB3Agent"],
            "agents.sb3.completion_policy": ["CompletionPolicy"],
            "agents.sb3.token_policy": ["TokenPolicy"],
            "agents.sb3.vec_env": ["CompletionVecEnv", "TokenVecEnv"],
        },
    )
