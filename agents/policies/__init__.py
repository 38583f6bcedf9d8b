"""Language models as policies."""

from agents.policies.chat import ChatFormat
from agents.policies.language_model import LanguageModelPolicy, PromptTooLong, UnsuitableTokenizer
from agents.policies.loading import PolicyNotFound, load_policy

__all__ = ["ChatFormat", "LanguageModelPolicy", "PolicyNotFound", "PromptTooLong", "UnsuitableTokenizer", "load_policy"]
