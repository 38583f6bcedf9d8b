"""A reward for mathematical answers that is exact, fast and safe on any text."""

from rewards.math.math_reward import MathReward

__all__ = ["MathReward"]
