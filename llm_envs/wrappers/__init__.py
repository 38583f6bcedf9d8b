"""Gymnasium wrappers: prompts with a template, a system prompt or worked examples; the same task in token ids."""

from llm_envs.wrappers.prompts import FewShot, PromptTemplate, SystemPrompt
from llm_envs.wrappers.token_completion import TokenCompletion
from llm_envs.wrappers.token_level import TokenLevel

__all__ = ["FewShot", "PromptTemplate", "SystemPrompt", "TokenCompletion", "TokenLevel"]
