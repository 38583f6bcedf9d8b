"""What every agent can do: learn, predict, save, load."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from agents.callbacks import Callback
from agents.engines.base import RolloutEngine
from agents.envs import EnvLike
from agents.policies.language_model import LanguageModelPolicy


class Agent(ABC):
    """Improves a language model on a task: text in, text out.

    Attributes:
        policy: The language model.
        engine: What generates with it.
        num_episodes: Episodes that the agent has learned from in its life.
    """

    policy: LanguageModelPolicy
    engine: RolloutEngine
    num_episodes: int

    @abstractmethod
    def learn(self, total_episodes: int, callback: Callback | Sequence[Callback] | None = None) -> Self:
        """Learn until `num_episodes` reaches `total_episodes`, counted over the agent's life.

        Counting over the life makes resuming the same call as starting: load, then `learn` with the same number.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the update under way was finished first, and the agent can be saved.
        """

    @abstractmethod
    def predict(self, observation: str | Sequence[str], deterministic: bool = False) -> str | list[str]:
        """Complete a prompt, or each of several; `deterministic` decodes greedily instead of sampling."""

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write everything that learning needs to go on exactly as if it had not stopped."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path, env: EnvLike | None = None) -> Self:
        """Read what `save` wrote; `env` replaces the environment that was saved."""
