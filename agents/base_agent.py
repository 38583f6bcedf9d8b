"""What every agent can do: learn, predict, save, load."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from gymnasium.envs.registration import EnvSpec

from agents.engines.rollout_engine import RolloutEngine
from agents.envs import EnvLike
from agents.loop import deferred_interrupt
from agents.policies.language_model import LanguageModelPolicy
from agents.rollout import SamplingParams
from agents.tracking.callback import AnyCallback, UpdateRecord, as_callback, ends_training
from agents.tracking.run_config import run_config


class Agent(ABC):
    """Improves a language model on a task: text in, text out.

    Attributes:
        env_spec: The task that it learns.
        policy: The language model.
        engine: What generates with it.
        seed: Names the streams of problems and of sampling noise.
        num_episodes: Episodes that the agent has learned from in its life.
        num_updates: Updates in its life.
        in_update: Whether an update is under way, or was cut by an error or a second Ctrl-C. What `save` writes then is
            no state that an uninterrupted run has.
    """

    env_spec: EnvSpec
    policy: LanguageModelPolicy
    engine: RolloutEngine
    seed: int
    num_episodes: int
    num_updates: int
    in_update: bool = False
    _predict_generator: torch.Generator

    @property
    @abstractmethod
    def sampling(self) -> SamplingParams:
        """How completions are drawn in training."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """What learns and how much per update, in one line."""

    @abstractmethod
    def _update(self, total_episodes: int) -> UpdateRecord:
        """Collect a batch of episodes, learn from it, and say what happened."""

    @abstractmethod
    def _total_updates(self, total_episodes: int) -> int:
        """At how many updates `learn(total_episodes)` ends, as far as that is known."""

    def learn(
        self,
        total_episodes: int,
        callback: AnyCallback | Sequence[AnyCallback] | None = None,
        *,
        run_dir: str | Path | None = None,
    ) -> Self:
        """Learn until `num_episodes` reaches `total_episodes`, counted over the agent's life.

        Counting over the life makes resuming the same call as starting: load, then `learn` with the same number. An
        update is never cut: the number is rounded up to whole batches of episodes.

        Args:
            total_episodes: How many episodes the agent has learned from at the end.
            callback: What is told of each update: a `Callback`, a function of an `UpdateRecord`, or a list of these.
            run_dir: The folder that callbacks see as `callback.run_dir`; nothing else uses it.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the update under way was finished first, and the agent can be saved.
                A second Ctrl-C does not wait for that: then the agent is still `in_update`.
        """
        callbacks = as_callback(callback)
        callbacks.attach(self, run_config(self), None if run_dir is None else Path(run_dir))
        if self.num_episodes >= total_episodes:
            warnings.warn(
                f"nothing to do: the agent has learned from {self.num_episodes} episodes, and learn({total_episodes}) "
                "counts over its life; ask for more to go on",
                stacklevel=2,
            )
        with deferred_interrupt() as interrupted:
            callbacks.on_training_start(self.num_updates, self._total_updates(total_episodes))
            try:
                while self.num_episodes < total_episodes and not interrupted.is_set():
                    self.in_update = True
                    record = self._update(total_episodes)
                    self.in_update = False
                    if ends_training(callbacks.on_update(record)):
                        break
            finally:
                callbacks.on_training_end()
        if interrupted.is_set():
            raise KeyboardInterrupt
        return self

    def predict(self, observation: str | Sequence[str], deterministic: bool = False) -> str | list[str]:
        """Complete a prompt, or each of several; `deterministic` decodes greedily instead of sampling.

        Sampling is that of training and never disturbs training's randomness.
        """
        prompts = [observation] if isinstance(observation, str) else list(observation)
        sampling = replace(self.sampling, temperature=0.0) if deterministic else self.sampling
        ids = self.policy.encode_prompts(prompts, sampling.max_completion_tokens)
        groups = self.engine.generate(ids, 1, sampling, self._predict_generator) if ids else []
        texts = [self.policy.decode(group[0].ids) for group in groups]
        return texts[0] if isinstance(observation, str) else texts

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write everything that learning needs to go on exactly as if it had not stopped."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path, env: EnvLike | None = None, *, device: str = "auto") -> Self:
        """Read what `save` wrote; `env` replaces the environment that was saved, or is the same one made again."""
