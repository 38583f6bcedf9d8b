"""Language models as policies; names load on first use, so that `agents.policies.chat` can be read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from agents.policies.chat import ChatFormat
    from agents.policies.language_model import LanguageModelPolicy, PromptTooLong, UnsuitableTokenizer
    from agents.policies.loading import PolicyNotFound, load_policy

__all__ = ["ChatFormat", "LanguageModelPolicy", "PolicyNotFound", "PromptTooLong", "UnsuitableTokenizer", "load_policy"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "agents.policies.chat": ["ChatFormat"],
            "agents.policies.language_model": ["LanguageModelPolicy", "PromptTooLong", "UnsuitableTokenizer"],
            "agents.policies.loading": ["PolicyNotFound", "load_policy"],
        },
    )
