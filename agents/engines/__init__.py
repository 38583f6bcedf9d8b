"""Engines generate completions."""

from agents.engines.base import RolloutEngine
from agents.engines.cached import CachedEngine

__all__ = ["CachedEngine", "RolloutEngine"]
