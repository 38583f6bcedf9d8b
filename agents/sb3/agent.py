"""`SB3Agent`: an algorithm of stable-baselines3, as it is, whose network is a language model."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents import checkpoint
from agents.base_agent import Agent
from agents.batch_metrics import rollout_metrics
from agents.checkpoint import CheckpointError
from agents.distributed import Ranks
from agents.engines import RolloutEngine
from agents.envs import EnvLike, env_spec, max_turns, spec_record
from agents.hardware import resolve_device
from agents.optimization import StepCounter, scheduled_learning_rate
from agents.policies import LanguageModelPolicy
from agents.policies.language_model import TooLong
from agents.policies.precision import Precision
from agents.rollout import Rollout, SamplingParams
from agents.sb3.completion_policy import CompletionPolicy
from agents.sb3.config import SB3Config, View
from agents.sb3.token_policy import TokenPolicy
from agents.sb3.vec_env import CompletionVecEnv, KLShaping, TextVecEnv, TokenVecEnv, as_tensors
from agents.tracking.callback import UpdateRecord

KNOWN_MODULES = ("stable_baselines3", "sb3_contrib")
DEFAULTS: dict[tuple[str, str], dict[str, Any]] = {
    ("PPO", "completion"): {"n_epochs": 2, "vf_coef": 0.1},
    ("PPO", "token"): {"n_epochs": 4, "vf_coef": 0.1, "gae_lambda": 1.0},
}
"""Arguments of an algorithm in a view where ours differ from its own; docs/agents.md says what was measured."""
MINIBATCHES = {"completion": 2, "token": 1}
"""Into how many minibatches an update's steps are split by default. A minibatch of tokens costs as much as the episodes
they are from, so the whole costs little more than a part."""


class SB3Agent(Agent):
    """An on-policy algorithm of stable-baselines3, unmodified, on a language model and a text environment.

    The algorithm's network *is* the transformers model: its features extractor the trunk, its action net the
    language-model head, beside a new value head. gamma is 1. In the completion view one step is one whole completion,
    in the token view one token. Text goes in and comes out; token ids stay inside.

    Args:
        policy: A name for `load_policy`, or a loaded policy.
        env: An environment id, a spec, or an environment made by `gymnasium.make`.
        algorithm: PPO, A2C, or another on-policy algorithm of the same interface, such as sb3-contrib's TRPO.
        view: `"completion"` or `"token"`.
        config: How much is collected, and what the algorithm is told.
        seed: Names the streams of problems and of noise; equal seeds repeat a run exactly on one machine.
        device: `"auto"` (CUDA where there is one), `"cpu"`, `"cuda"`, ...; a loaded policy stays where it is.
        precision: `"auto"`, `"float32"` or `"bfloat16"`, see `LanguageModelPolicy`.
        engine: What generates whole completions; by default the fastest engine that runs the policy's own model.

    Attributes:
        algorithm: stable-baselines3's object.

    Raises:
        TypeError: The algorithm is not an on-policy one.
        NotImplementedError: The task has several turns.
        ValueError: There is no such view, or the policy's trained weights are bfloat16.
        PolicyNotFound: There is no such model.
        gymnasium.error.Error: There is no such environment.
    """

    def __init__(
        self,
        policy: str | Path | LanguageModelPolicy,
        env: EnvLike,
        algorithm: type[OnPolicyAlgorithm] = PPO,
        view: View = "completion",
        *,
        config: SB3Config | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: Precision = "auto",
        engine: RolloutEngine | None = None,
    ) -> None:
        if not (isinstance(algorithm, type) and issubclass(algorithm, OnPolicyAlgorithm)):
            raise TypeError(
                f"algorithm must be an on-policy class of stable-baselines3, such as PPO, got {algorithm!r}"
            )
        if view not in ("completion", "token"):
            raise ValueError(f"view must be 'completion' or 'token', got {view!r}")
        self.config = SB3Config() if config is None else config
        if not isinstance(self.config, SB3Config):
            raise TypeError(f"config must be an SB3Config, got {config!r}")
        if (turns := max_turns(env_spec(env))) > 1:
            raise NotImplementedError(
                f"stable-baselines3's agents learn from episodes of one completion; {env_spec(env).id} has several "
                f"turns, up to {turns}: use a GRPOAgent"
            )
        if (size := Ranks.current().size) > 1:
            raise ValueError(f"stable-baselines3's algorithms train in one process, got {size}: use a GRPOAgent")
        self.view = view
        self._learning_rate = 0.0
        super().__init__(policy, env, seed=seed, device=device, precision=precision, engine=engine)
        if any(parameter.dtype == torch.bfloat16 for _, parameter in self.policy.trainable_parameters()):
            raise ValueError(
                "weights_dtype='bfloat16' needs an optimizer with float32 masters, and stable-baselines3's has none: "
                "use float32, adapters (lora_rank), or a GRPOAgent"
            )
        if self.policy.gradient_checkpointing:
            raise ValueError("gradient_checkpointing has no effect on stable-baselines3's agents: use a GRPOAgent")
        self.envs = self._make_envs()
        self._shaping: KLShaping | None = None
        if self.config.kl_coef > 0:
            self.policy.freeze_reference()
            self._shaping = KLShaping(self.envs, self.config.kl_coef, self._log_ratio)
        self.algorithm = self._make_algorithm(algorithm)
        self._steps = StepCounter(self.algorithm.policy.optimizer)
        self._parameters = {
            name: parameter for name, parameter in self.algorithm.policy.named_parameters() if parameter.requires_grad
        }

    def _make_envs(self) -> TextVecEnv:
        view = CompletionVecEnv if self.view == "completion" else TokenVecEnv
        return view(
            self.env_spec,
            self.config.num_envs or {"completion": 128, "token": 64}[self.view],
            self.policy,
            self.rng,
            max_completion_tokens=self.config.max_completion_tokens,
            max_prompt_tokens=self.config.max_prompt_tokens,
            too_long=self.config.too_long,
        )

    def _make_algorithm(self, algorithm: type[OnPolicyAlgorithm]) -> OnPolicyAlgorithm:
        kwargs = dict(DEFAULTS.get((algorithm.__name__, self.view), {}))
        takes = inspect.signature(algorithm).parameters
        if "batch_size" in takes:
            kwargs["batch_size"] = max(2, self.envs.num_envs * self.n_steps // MINIBATCHES[self.view])
        if "max_grad_norm" in takes:
            kwargs["max_grad_norm"] = self.config.max_grad_norm
        kwargs |= self.config.algorithm_kwargs
        network: dict[str, Any] = {"language_model": self.policy, "temperature": self.config.temperature}
        if self.view == "completion":
            network |= {
                "engine": self.engine,
                "noise": self.noise,
                "micro_batch_size": self.config.micro_batch_size,
            }
        made = algorithm(
            CompletionPolicy if self.view == "completion" else TokenPolicy,
            self._shaping or self.envs,
            learning_rate=lambda progress_remaining: self._learning_rate,
            n_steps=self.n_steps,
            gamma=1.0,
            policy_kwargs=network,
            device=self.policy.device,
            **kwargs,
        )
        made.set_logger(Logger(folder=None, output_formats=[]))
        return made

    @property
    def n_steps(self) -> int:
        """Steps of each environment per update."""
        return self.config.n_steps or {"completion": 1, "token": 64}[self.view]

    @property
    def sampling(self) -> SamplingParams:
        """How completions are drawn in training, and by `predict` and `evaluate` unless told otherwise."""
        return SamplingParams(self.config.max_completion_tokens, self.config.temperature)

    @property
    def too_long(self) -> TooLong:
        """What happens to a prompt that leaves no room for a completion: "error", "skip" or "truncate"."""
        return self.config.too_long

    @property
    def max_prompt_tokens(self) -> int | None:
        """The most tokens of a prompt, which is the length of an observation's part for it."""
        return self.config.max_prompt_tokens

    @property
    def name(self) -> str:
        """The name of the algorithm and, if that is not the completion, of the view: "ppo" or "ppo-token"."""
        name = type(self.algorithm).__name__.lower()
        return name if self.view == "completion" else f"{name}-{self.view}"

    @property
    def summary(self) -> str:
        """What learns and how much per update, in one line."""
        name = f"{type(self.algorithm).__name__} of stable-baselines3"
        steps = f"{self.envs.num_envs} x {self.n_steps} {self.view}s"
        return f"{name}: {steps} per update, learning rate {self.config.learning_rate:g}"

    # -- the algorithm -----------------------------------------------------------------------------------------------

    def _total_updates(self, total_episodes: int) -> int:
        per_update = float(self.envs.num_envs * self.n_steps)
        if self.view == "token":  # how many episodes these tokens are is known from the updates so far alone
            shortest = per_update / self.config.max_completion_tokens
            per_update = self.num_episodes / self.num_updates if self.num_updates > 0 else shortest
        return self.num_updates + max(0, math.ceil((total_episodes - self.num_episodes) / per_update))

    def _update(self, total_episodes: int) -> UpdateRecord:
        """One iteration of the algorithm's own `learn`: collect, then train; more where no episode has ended yet."""
        started = time.perf_counter()
        total_updates = self._total_updates(total_episodes)
        self._learning_rate = scheduled_learning_rate(self.num_updates, total_updates, self.config)
        clock = _Clock()
        with _seeded_globals(self.rng, self.policy.device):
            while not self.envs.finished:
                self.algorithm.learn(self.envs.num_envs * self.n_steps, callback=clock, reset_num_timesteps=False)
        self.engine.sync_weights(self.policy)
        rollouts = self.envs.take_finished()
        self.num_updates += 1
        self.num_episodes += len(rollouts)
        finished = time.perf_counter()
        metrics = self._metrics(rollouts, clock.iterations)
        metrics["learning_rate"] = self._learning_rate
        metrics |= self.envs.take_too_long()
        metrics["reward_calls"] = self.envs.take_reward_calls()
        metrics["optimizer_steps"] = self._steps.take()
        metrics["seconds_rollout"] = clock.collected - started
        metrics["seconds_update"] = finished - clock.collected
        tokens = sum(len(rollout.completion.ids) for rollout in rollouts)
        metrics["tokens_per_second"] = tokens / (finished - started)
        return UpdateRecord(self.num_updates, total_updates, self.num_episodes, metrics, tuple(rollouts))

    def _metrics(self, rollouts: list[Rollout], iterations: int) -> dict[str, float]:
        metrics = rollout_metrics(rollouts, 1)
        metrics.pop("informative_groups", None)  # there are no groups
        buffer = self.algorithm.rollout_buffer
        tokens = sum(len(rollout.completion.ids) for rollout in rollouts)
        if self.view == "token":
            tokens = buffer.log_probs.size
        # the critic's algorithms keep the log-probabilities of actions; the rollouts have none
        metrics["entropy"] = float(-buffer.log_probs.sum()) / tokens
        if self._shaping is not None:
            metrics["kl"] = self._shaping.take_total() / (tokens * iterations)
        for name, value in self.algorithm.logger.name_to_value.items():
            group, _, figure = name.partition("/")
            # where all returns are equal there is no variance to explain
            if group == "train" and figure not in _NOT_METRICS and not (figure == _VARIANCE and math.isnan(value)):
                metrics[_RENAMED.get(figure, figure)] = float(value)
        for name in ("loss", "policy_loss", "value_loss"):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise FloatingPointError(
                    f"{name} of update {self.num_updates} is not finite: the policy is lost. Load the last checkpoint, "
                    "and lower the learning rate or use precision='float32'"
                )
        return metrics

    def _log_ratio(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """`log pi - log pi_ref` (N,) of the actions that the policy has just taken."""
        policy = self._network
        reference = policy.reference_log_prob(*as_tensors(self.policy.device, observations, actions))
        return (policy.last_logprobs - reference).cpu().numpy()

    @property
    def _network(self) -> CompletionPolicy | TokenPolicy:
        assert isinstance(self.algorithm.policy, CompletionPolicy | TokenPolicy)
        return self.algorithm.policy

    # -- saving and loading ------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a checkpoint of safetensors and JSON; stable-baselines3's own `save` would pickle the model.

        The folder's `policy/` is an ordinary transformers model that any tool loads. Written beside the old contents
        and swapped in at the end: a crash leaves either the old or the new state.
        """
        algorithm = type(self.algorithm)
        state = SB3State(
            **spec_record(self.env_spec),
            **checkpoint.policy_record(self.policy),
            algorithm=f"{algorithm.__module__.partition('.')[0]}.{algorithm.__name__}",
            view=self.view,
            config=self.config,
            seed=self.seed,
            num_episodes=self.num_episodes,
            num_updates=self.num_updates,
            random_states=self._random_states,
            episodes=None if self.algorithm._last_obs is None else self.envs.state(),
        )
        value_head = self.algorithm.policy.value_net.state_dict()
        tensors = {
            "optimizer": checkpoint.optimizer_tensors(self.algorithm.policy.optimizer, self._parameters),
            "value_head": {name: tensor.contiguous() for name, tensor in value_head.items()},
        }
        checkpoint.write(Path(path), state, self.policy, tensors)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: EnvLike | None = None,
        *,
        algorithm: type[OnPolicyAlgorithm] | None = None,
        device: str = "auto",
        precision: Precision | None = None,
        engine: RolloutEngine | None = None,
    ) -> Self:
        """Read what `save` wrote.

        Args:
            path: A folder that `save` wrote.
            env: Replaces the environment that was saved; needed where that had wrappers.
            algorithm: Needed where the saved algorithm is neither stable-baselines3's nor sb3-contrib's.
            device: Where to put the policy.
            precision: Of the computation; None is the one that was saved.
            engine: What generates whole completions; None is the fastest engine that runs the policy's own model.

        Raises:
            CheckpointError: The folder is missing or incomplete, or the algorithm is unknown.
        """
        path = Path(path)
        state = read_state(path)
        made_by = algorithm or find_algorithm(state.algorithm)
        spec, is_same = checkpoint.read_env(path, state, env)
        checkpoint.verify(path)
        policy = checkpoint.read_policy(path, state, resolve_device(device), precision)
        agent = cls(policy, spec, made_by, state.view, config=state.config, seed=state.seed, engine=engine)
        checkpoint.read_reference(path, policy)
        checkpoint.restore_optimizer(path, agent.algorithm.policy.optimizer, agent._parameters)
        agent.algorithm.policy.value_net.load_state_dict(checkpoint.read_tensors(path, "value_head"))
        agent.algorithm.num_timesteps = state.num_updates * agent.envs.num_envs * agent.n_steps
        agent._restore(state)
        if state.episodes is not None and is_same:
            agent._resume(state.episodes)
        return agent

    def _resume(self, episodes: dict[str, Any]) -> None:
        """Put the episodes under way back, in the place of the reset that a fresh algorithm begins with."""
        observations = self.envs.restore(episodes)
        if self._shaping is not None:
            self._shaping.resume(observations)
        self.algorithm._last_obs = observations
        self.algorithm._last_episode_starts = self.envs.episode_starts


@dataclass(frozen=True, kw_only=True)
class SB3State(checkpoint.CommonState):
    """Everything of an `SB3Agent` that is not a tensor.

    Attributes:
        algorithm: Package and class, such as `stable_baselines3.PPO`.
        view: `"completion"` or `"token"`.
        config: The agent's.
        episodes: Those under way, see `TextVecEnv.state`; None before the first update.
    """

    algorithm: str
    view: View
    config: SB3Config
    episodes: dict[str, Any] | None

    def record(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        return super().record() | {"agent": "SB3Agent", "config": asdict(self.config)}


def read_state(path: Path) -> SB3State:
    """Read the `agent.json` of an `SB3Agent`.

    Raises:
        CheckpointError: There is none, or another agent wrote it.
    """
    record = checkpoint.read_record(path)
    if record.pop("agent", None) != "SB3Agent":
        raise CheckpointError(f"{path} holds an agent of another kind; use agents.load_agent")
    with checkpoint.fields_of(path):
        return SB3State(**record | {"config": SB3Config(**record["config"])})


def find_algorithm(name: str) -> type[OnPolicyAlgorithm]:
    """The class that `SB3State.algorithm` names, from one of two packages: a checkpoint imports nothing else.

    Raises:
        CheckpointError: It is not one of theirs.
        ImportError: sb3-contrib is not installed.
    """
    module, _, cls = name.partition(".")
    if module not in KNOWN_MODULES:
        raise CheckpointError(f"the agent's algorithm {name!r} is not part of {KNOWN_MODULES}; pass algorithm=...")
    if module == "sb3_contrib" and importlib.util.find_spec(module) is None:
        raise ImportError(f"{name} needs the package sb3-contrib: pip install 'llm-envs[contrib]'")
    found = getattr(importlib.import_module(module), cls, None)
    if found is None:
        raise CheckpointError(f"{module} has no algorithm {cls!r}")
    return found


_VARIANCE = "explained_variance"
_NOT_METRICS = ("learning_rate", "n_updates", "clip_range", "entropy_loss")
_RENAMED = {"policy_gradient_loss": "policy_loss"}


class _Clock(BaseCallback):
    """Notes when an update's (last) collecting ended, and how often it collected."""

    def __init__(self) -> None:
        super().__init__()
        self.collected = time.perf_counter()
        self.iterations = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.collected = time.perf_counter()
        self.iterations += 1


@contextlib.contextmanager
def _seeded_globals(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Seed numpy's and torch's global generators from ours, and leave them afterwards as they were.

    stable-baselines3 shuffles minibatches with the one and samples tokens with the other.
    """
    state = np.random.get_state()  # noqa: NPY002
    seeds = rng.integers(2**32, size=2)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(seeds[0]))
        np.random.seed(int(seeds[1]))  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
