"""Engines generate completions."""

from agents.engines.cached import CachedEngine
from agents.engines.rollout_engine import GenerativePolicy, RolloutEngine
from agents.engines.static_cache import StaticCacheEngine

__all__ = ["CachedEngine", "RolloutEngine", "StaticCacheEngine", "default_engine"]


def default_engine(policy: GenerativePolicy) -> RolloutEngine:
    """The fastest engine that runs the policy's own model."""
    return CachedEngine(policy) if policy.packed_model is None else StaticCacheEngine(policy)
