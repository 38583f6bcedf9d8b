"""What every agent can do: learn, predict, save, load."""

from __future__ import annotations

import contextlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from gymnasium.envs.registration import EnvSpec

from agents.checkpoint import CommonState, not_finite
from agents.collect import noise_seed
from agents.distributed import Ranks
from agents.engines import RolloutEngine, default_engine
from agents.envs import EnvLike, env_spec, finite_prompts, only_here, task_metric
from agents.hardware import resolve_device, use_default_threads
from agents.interrupts import deferred_interrupt
from agents.policies import LanguageModelPolicy, PromptTooLong, load_policy
from agents.policies.language_model import TooLong
from agents.policies.precision import Precision
from agents.rollout import SamplingParams
from agents.tracking.callback import AnyCallback, UpdateRecord, as_callback, ends_training
from agents.tracking.run_config import run_config
from agents.tracking.training_warnings import TrainingMonitor, TrainingWarning
from agents.validation import check_at_least, checked


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
        ranks: The processes that train together.
    """

    env_spec: EnvSpec
    policy: LanguageModelPolicy
    engine: RolloutEngine
    seed: int
    num_episodes: int
    num_updates: int
    in_update: bool = False
    ranks: Ranks = Ranks()

    def __init__(
        self,
        policy: str | Path | LanguageModelPolicy,
        env: EnvLike,
        *,
        seed: int,
        device: str,
        precision: Precision,
        engine: RolloutEngine | None,
    ) -> None:
        self.env_spec = env_spec(env)
        self.seed = checked("seed", seed, int)
        check_at_least(self, 0, "seed")
        checked("precision", precision, Precision)
        if not isinstance(policy, str | Path | LanguageModelPolicy):
            raise TypeError(f"policy must be a name, a folder or a LanguageModelPolicy, got {policy!r}")
        if engine is not None and (isinstance(engine, type) or not hasattr(engine, "generate")):
            raise TypeError(f"engine must be a RolloutEngine, such as CachedEngine(policy), got {engine!r}")
        if not isinstance(policy, LanguageModelPolicy):
            policy = load_policy(policy, device=resolve_device(device), precision=precision)
        elif precision not in ("auto", policy.precision):
            raise ValueError(f"the policy was loaded with precision {policy.precision!r}; it cannot be {precision!r}")
        if (lost := not_finite(dict(policy.model.named_parameters()))) is not None:
            raise ValueError(f"{lost} of the policy {policy.name} is not finite; load it from an undamaged copy")
        if policy.device.type == "cpu":
            use_default_threads(sum(parameter.numel() for parameter in policy.model.parameters()))
        self.policy = policy
        self.engine = default_engine(policy) if engine is None else engine
        self.engine.sync_weights(policy)
        self.num_episodes = 0
        self.num_updates = 0
        self._has_checked_prompts = False
        # independent streams: problems and minibatches; sampling noise of training; that of predict
        self.rng, self.noise, self._predict_noise = map(
            np.random.default_rng, np.random.SeedSequence(self.seed).spawn(3)
        )

    def _restore(self, state: CommonState) -> None:
        """Go on from what `save` kept beside tensors and environments."""
        self.num_episodes, self.num_updates = state.num_episodes, state.num_updates
        for name, stream in self._streams().items():
            stream.bit_generator.state = state.random_states[name]

    def _streams(self) -> dict[str, np.random.Generator]:
        return {"problems": self.rng, "noise": self.noise, "predict": self._predict_noise}

    @property
    def _random_states(self) -> dict[str, Any]:
        """What `save` keeps of the streams of random numbers, as JSON takes it."""
        return {name: stream.bit_generator.state for name, stream in self._streams().items()}

    def whole_weights(self) -> contextlib.AbstractContextManager[None]:
        """A block in which each process has all weights, where they are sharded over processes."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def rollout_phase(self) -> Iterator[None]:
        """Around calls of the engine that belong together; at the end, one that can sleep gives its memory back."""
        has_own_weights = getattr(self.engine, "has_own_weights", False)
        with contextlib.nullcontext() if has_own_weights else self.whole_weights():
            try:
                yield
            finally:
                if (sleep := getattr(self.engine, "sleep", None)) is not None:
                    sleep()

    @property
    @abstractmethod
    def sampling(self) -> SamplingParams:
        """How completions are drawn in training."""

    @property
    def too_long(self) -> TooLong:
        """What is done with a prompt that leaves no room for a completion; see `GRPOConfig.too_long`."""
        return "error"

    @property
    def max_prompt_tokens(self) -> int | None:
        """A limit of the agent's own beside the model's context."""
        return None

    def fits(self, prompt: str) -> bool:
        """Whether a prompt leaves room for a completion, with the chat template, system prompt and examples counted."""
        return self.policy.fits(prompt, self.sampling.max_completion_tokens, self.max_prompt_tokens)

    def check_prompts(self) -> None:
        """Look at every prompt of a finite set, so that one that is too long does not end the run in its middle.

        Of other tasks nothing is known before their prompts are drawn. Called by `learn`.

        Raises:
            PromptTooLong: A prompt does not fit and `too_long` is `"error"`, or none fits.
        """
        if self._has_checked_prompts or self.too_long == "truncate":
            return
        problem = self.ranks.of_first(self._misfits_of_finite_set() if self.ranks.is_first else "")
        if problem:
            raise PromptTooLong(problem)
        self._has_checked_prompts = True

    def _misfits_of_finite_set(self) -> str:
        """What is wrong with the prompts of a finite set; empty where nothing is."""
        prompts = finite_prompts(self.env_spec)
        misfits = [prompt for prompt in prompts if not self.fits(prompt)]
        if misfits and (self.too_long == "error" or len(misfits) == len(prompts)):
            longest = max(misfits, key=len)
            return (
                f"{len(misfits)} of the {len(prompts)} prompts of {self.env_spec.id} leave no room for a completion of "
                f"{self.sampling.max_completion_tokens} tokens; raise the limit of the model's context or lower "
                "max_completion_tokens, leave them out (too_long='skip', --too-long skip) or take the end of each "
                f"(too_long='truncate'). The longest has {len(longest)} characters and begins: {longest[:80]!r}"
            )
        return ""

    @property
    def name(self) -> str:
        """The name that `agents.make_agent` and `llm-envs train` have for such an agent, or else that of its class."""
        return type(self).__name__

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

    def check_engine(self) -> None:  # noqa: B027 - most agents take any engine
        """Refuse an engine that does not suit what the agent was asked for.

        Raises:
            ValueError: It does not.
        """

    def learn(
        self,
        total_episodes: int,
        callback: AnyCallback | Sequence[AnyCallback] | None = None,
        *,
        run_dir: str | Path | None = None,
    ) -> Self:
        """Learn until `num_episodes` reaches `total_episodes`, counted over the agent's life.

        Counting over the life makes resuming the same call as starting: load, then `learn` with the same number. An
        update is never cut: the number is rounded up to whole batches of episodes. A run that learns nothing or
        collapses gives a `TrainingWarning` of each kind once.

        Args:
            total_episodes: How many episodes the agent has learned from at the end.
            callback: What is told of each update: a `Callback`, a function of an `UpdateRecord`, or a list of these.
            run_dir: The folder that callbacks see as `callback.run_dir`; nothing else uses it.

        Raises:
            PromptTooLong: See `check_prompts`.
            KeyboardInterrupt: Ctrl-C was pressed, or SIGTERM or SIGHUP came (`agents.interrupts.Terminated`, which is a
                KeyboardInterrupt); the update under way was finished first, and the agent can be saved. A second one
                does not wait for that: then the agent is still `in_update`.
        """
        total_episodes = checked("total_episodes", total_episodes, int)
        run_dir = checked("run_dir", run_dir, str | Path | None)
        self.check_engine()
        self.check_prompts()
        callbacks = as_callback(callback)
        callbacks.attach(self, run_config(self), None if run_dir is None else Path(run_dir))
        if statement := only_here(self.env_spec):
            warnings.warn(statement, stacklevel=2)
        if self.num_episodes >= total_episodes:
            warnings.warn(
                f"nothing to do: the agent has learned from {self.num_episodes} episodes, and learn({total_episodes}) "
                "counts over its life; ask for more to go on",
                stacklevel=2,
            )
        monitor = TrainingMonitor(task_metric(self.env_spec))
        with deferred_interrupt() as interrupted:
            callbacks.on_training_start(self.num_updates, self._total_updates(total_episodes))
            try:
                while self.num_episodes < total_episodes:
                    # several processes stop after the same update, whichever of them was told to
                    interrupted.signal = self.ranks.first_that_is(interrupted.signal)
                    if interrupted.signal is not None:
                        break
                    if (lost := not_finite(dict(self.policy.model.named_parameters()))) is not None:
                        raise FloatingPointError(
                            f"before update {self.num_updates + 1}, {lost} of the policy is not finite: training has "
                            "diverged. Lower the learning rate, or use precision='float32'"
                        )
                    self.in_update = True
                    record = self._update(total_episodes)
                    self.in_update = False
                    record = replace(record, warnings=monitor.check(record))
                    for message in record.warnings.values():
                        warnings.warn(message, TrainingWarning, stacklevel=2)
                    if self.ranks.any(ends_training(callbacks.on_update(record))):
                        break
            finally:
                callbacks.on_training_end()
            interrupted.signal = self.ranks.first_that_is(interrupted.signal)
        interrupted.raise_if_set()
        return self

    def predict(self, observation: str | Sequence[str], deterministic: bool = False) -> str | list[str]:
        """Complete a prompt, or each of several; `deterministic` decodes greedily instead of sampling.

        Sampling is that of training and never disturbs training's randomness. Where the prompt ends with an opened
        block of reasoning (`<think>`), as chat templates of reasoning models do, a completion begins with that mark.
        """
        prompts = [observation] if isinstance(observation, str) else list(observation)
        sampling = replace(self.sampling, temperature=0.0) if deterministic else self.sampling
        ids = self.policy.encode_prompts(
            prompts,
            sampling.max_completion_tokens,
            max_prompt_tokens=self.max_prompt_tokens,
            too_long=self.too_long,
        )
        with self.rollout_phase():
            groups = self.engine.generate(ids, 1, sampling, noise_seed(self._predict_noise)) if ids else []
        texts = [self.policy.completion_text(group[0].ids, context) for group, context in zip(groups, ids, strict=True)]
        return texts[0] if isinstance(observation, str) else texts

    @abstractmethod
    def save(self, path: str | Path) -> None:
        """Write everything that learning needs to go on exactly as if it had not stopped."""

    @classmethod
    @abstractmethod
    def load(
        cls,
        path: str | Path,
        env: EnvLike | None = None,
        *,
        device: str = "auto",
        precision: Precision | None = None,
        engine: RolloutEngine | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Args:
            path: The folder.
            env: Replaces the environment that was saved, or is the same one made again.
            device: Where to put the policy.
            precision: Of the computation; None is the one that was saved.
            engine: What generates; None is the fastest engine that runs the policy's own model.

        Raises:
            CheckpointError: The folder is missing or incomplete.
        """
