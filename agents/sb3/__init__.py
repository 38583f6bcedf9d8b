"""stable-baselines3's algorithms on a language model, in two views of the same task; see docs/agents.md."""

from agents.sb3.agent import SB3Agent
from agents.sb3.completion_policy import CompletionPolicy
from agents.sb3.token_policy import TokenPolicy
from agents.sb3.vec_env import CompletionVecEnv, TokenVecEnv

__all__ = ["CompletionPolicy", "CompletionVecEnv", "SB3Agent", "TokenPolicy", "TokenVecEnv"]
