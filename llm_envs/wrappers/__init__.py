"""The same task in token ids, for algorithms that know nothing of text."""

from llm_envs.wrappers.token_completion import TokenCompletion
from llm_envs.wrappers.token_level import TokenLevel

__all__ = ["TokenCompletion", "TokenLevel"]
