"""What an update minimizes: frozen dataclasses that put pure tensor functions together, one preset per paper."""

from agents.objectives.base import Objective
from agents.objectives.clipped import GRPO

__all__ = ["GRPO", "Objective"]
