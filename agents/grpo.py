"""`GRPOAgent`: groups of completions, group-relative advantages, clipped and KL-regularized updates."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from agents import checkpoint
from agents.base import Agent
from agents.callbacks import Callback, UpdateRecord, as_callback
from agents.collect import collect
from agents.engines import CachedEngine, RolloutEngine
from agents.envs import EnvLike, env_spec, epoch_seeds, importable_id, make_envs, num_problems
from agents.grpo_config import GRPOConfig
from agents.hardware import resolve_device
from agents.objectives import GRPO, Objective
from agents.objectives.ops import soft_overlong_penalty
from agents.policies import LanguageModelPolicy, load_policy
from agents.policies.language_model import Precision
from agents.rollout import GroupBatch, Rollout, SamplingParams

__all__ = ["GRPOAgent", "GRPOConfig"]


class GRPOAgent(Agent):
    """Group relative policy optimization (DeepSeekMath, arXiv:2402.03300, algorithm 1) of a transformers model.

    Each update draws P problems, resets each G times by repeating its seed, generates one completion per episode,
    scores all of them in one vector `step`, and takes `epochs * minibatches` AdamW steps on the objective.

    Args:
        policy: A name for `load_policy`, or a loaded policy.
        env: An environment id, a spec, or an environment made by `gymnasium.make`.
        objective: What is optimized, GRPO by default; `agents.objectives` has the others.
        config: How much is collected and how it is updated.
        seed: Names the streams of problems and of sampling noise; equal seeds repeat a run exactly on one machine.
        device: `"auto"` (CUDA where there is one), `"cpu"`, `"cuda"`, ...; a loaded policy stays where it is.
        precision: `"auto"`, `"float32"` or `"bfloat16"`, see `LanguageModelPolicy`.
        engine: What generates; by default the policy's own model with a key-value cache.

    Raises:
        PolicyNotFound: There is no such model.
        gymnasium.error.Error: There is no such environment.
    """

    def __init__(
        self,
        policy: str | Path | LanguageModelPolicy,
        env: EnvLike,
        *,
        objective: Objective | None = None,
        config: GRPOConfig | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: Precision = "auto",
        engine: RolloutEngine | None = None,
    ) -> None:
        self.env_spec = env_spec(env)
        self.config = config or GRPOConfig()
        self.objective = objective or GRPO()
        self.seed = seed
        self.envs = make_envs(self.env_spec, self.config.episodes_per_update)
        if not isinstance(policy, LanguageModelPolicy):
            policy = load_policy(policy, device=resolve_device(device), precision=precision)
        self.policy = policy
        self.engine = engine or CachedEngine(policy)
        if self.objective.needs_reference:
            policy.freeze_reference()
        self.num_episodes = 0
        self.num_updates = 0
        self.num_prompts = 0
        self._parameters = dict(policy.trainable_parameters())
        self.optimizer = torch.optim.AdamW(
            list(self._parameters.values()),
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=policy.device.type in ("cpu", "cuda"),
        )
        # independent streams: problems and minibatches; sampling noise of training; that of predict
        streams = np.random.SeedSequence(seed).spawn(3)
        self.rng = np.random.default_rng(streams[0])
        self.generator = _torch_generator(streams[1], policy.device)
        self._predict_generator = _torch_generator(streams[2], policy.device)

    # -- the algorithm -----------------------------------------------------------------------------------------------

    def learn(self, total_episodes: int, callback: Callback | Sequence[Callback] | None = None) -> Self:
        """See `Agent.learn`; the number of updates is rounded up to whole batches of `P * G` episodes."""
        callbacks = as_callback(callback)
        total_updates = math.ceil(total_episodes / self.config.episodes_per_update)
        if self.num_updates >= total_updates:
            warnings.warn(
                f"nothing to do: the agent has learned from {self.num_episodes} episodes, and learn({total_episodes}) "
                "counts over its life; ask for more to go on",
                stacklevel=2,
            )
        with _deferred_interrupt() as interrupted:
            callbacks.on_training_start(self.num_updates, total_updates)
            try:
                while self.num_updates < total_updates and not interrupted.is_set():
                    if callbacks.on_update(self._update(total_updates)) is False:
                        break
            finally:
                callbacks.on_training_end()
        if interrupted.is_set():
            raise KeyboardInterrupt
        return self

    def _update(self, total_updates: int) -> UpdateRecord:
        """Collect a batch, take the optimizer steps, and say what happened."""
        started = time.perf_counter()
        rollouts, sampled = self._collect()
        collected = time.perf_counter()
        batch = self._make_batch(rollouts)
        learning_rate = scheduled_learning_rate(self.num_updates, total_updates, self.config)
        figures = self._optimize(batch, learning_rate)
        self.engine.sync_weights(self.policy)
        self.num_updates += 1
        self.num_episodes += len(rollouts)
        finished = time.perf_counter()
        metrics = rollout_metrics(sampled, self.config.group_size) | figures
        if self.config.max_refills > 0:
            metrics["groups_sampled"] = len(sampled) / self.config.group_size
        metrics["learning_rate"] = learning_rate
        metrics["seconds_rollout"] = collected - started
        metrics["seconds_update"] = finished - collected
        tokens = sum(len(rollout.completion.ids) for rollout in sampled)
        metrics["tokens_per_second"] = tokens / (finished - started)
        return UpdateRecord(self.num_updates, total_updates, self.num_episodes, metrics, tuple(sampled))

    def _collect(self) -> tuple[list[Rollout], list[Rollout]]:
        """The P groups to learn from, and all that were sampled to find them (see `GRPOConfig.max_refills`)."""
        size, wanted = self.config.group_size, self.config.prompts_per_update
        if self.config.max_refills == 0:
            sampled = self._sample()
            return sampled, sampled
        sampled = []
        informative: list[list[Rollout]] = []
        others: list[list[Rollout]] = []
        for _ in range(1 + self.config.max_refills):
            fresh = self._sample()
            sampled += fresh
            for i in range(0, len(fresh), size):
                group = fresh[i : i + size]
                differ = any(rollout.reward != group[0].reward for rollout in group)
                (informative if differ else others).append(group)
            if len(informative) >= wanted:
                break
        chosen = (informative + others)[:wanted]
        return [rollout for group in chosen for rollout in group], sampled

    def _sample(self) -> list[Rollout]:
        wanted = self.config.prompts_per_update
        problems = num_problems(self.envs)
        if problems is None:
            seeds = self.rng.integers(2**63, size=wanted).tolist()
        else:  # a data set: each row once in an epoch
            seeds = epoch_seeds(problems, self.num_prompts, wanted, self.seed)
        self.num_prompts += wanted
        sampling = SamplingParams(self.config.max_completion_tokens, self.config.temperature)
        return collect(self.envs, self.policy, self.engine, seeds, self.config.group_size, sampling, self.generator)

    def _make_batch(self, rollouts: list[Rollout]) -> GroupBatch:
        """Pad, compute advantages, and add the log-probabilities that stay fixed during the update."""
        batch = GroupBatch.from_rollouts(rollouts, self.config.group_size, self.policy.pad_token_id, self.policy.device)
        batch = replace(batch, token_limit=self.config.max_completion_tokens)
        if self.config.overlong_buffer > 0:
            lengths = batch.completion_mask.sum(dim=1).view_as(batch.rewards)
            penalty = soft_overlong_penalty(lengths, self.config.max_completion_tokens, self.config.overlong_buffer)
            batch = replace(batch, rewards=batch.rewards + penalty)
        if self.config.mask_truncated:
            whole = torch.tensor([not rollout.completion.truncated for rollout in rollouts], device=self.policy.device)
            action_mask = batch.action_mask * whole[:, None]
            batch = replace(batch, action_mask=action_mask, total_tokens=int(action_mask.sum()))
        if self.objective.needs_reference:
            batch = replace(batch, ref_logprobs=self._in_parts(batch, self.policy.reference_logprobs))
        # in float32 the engine's own log-probabilities are the policy's up to rounding; in bfloat16 they are not
        if self.policy.precision != "float32":
            with torch.no_grad():
                batch = replace(batch, old_logprobs=self._in_parts(batch, self.policy.logprobs))
        return replace(batch, advantages=self.objective.advantages(self.objective.shape_rewards(batch)))

    def _in_parts(self, batch: GroupBatch, logprobs: Any) -> Tensor:
        """(N, T) log-probabilities, computed a micro-batch at a time."""
        out = torch.zeros_like(batch.sampler_logprobs)
        for groups in self._micro_batches(torch.arange(len(batch.rewards), device=batch.rewards.device)):
            part = logprobs(batch.select_groups(groups), self.config.temperature)
            out[batch.rows_of(groups), : part.shape[1]] = part
        return out

    def _micro_batches(self, groups: Tensor) -> Iterator[Tensor]:
        yield from groups.split(max(1, self.config.micro_batch_size // self.config.group_size))

    def _optimize(self, batch: GroupBatch, learning_rate: float) -> dict[str, float]:
        """Take `epochs * minibatches` optimizer steps; the figures are means over those steps."""
        for parameter_group in self.optimizer.param_groups:
            parameter_group["lr"] = learning_rate
        sums: Counter[str] = Counter()
        steps = self.config.epochs * self.config.minibatches
        for _ in range(self.config.epochs):
            order = torch.from_numpy(self.rng.permutation(len(batch.rewards))).to(batch.rewards.device)
            for groups in order.tensor_split(self.config.minibatches):
                for name, value in self._step(batch.select_groups(groups)).items():
                    sums[name] += value / steps  # type: ignore[assignment]
        return dict(sums)

    def _step(self, minibatch: GroupBatch) -> dict[str, float]:
        """One optimizer step, its gradient accumulated over micro-batches of whole groups."""
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        groups = torch.arange(len(minibatch.rewards), device=minibatch.rewards.device)
        if self.objective.ignores_zero_advantages:
            # such groups (all rewards equal) are left out; the divisors still count them
            groups = groups[minibatch.advantages.ne(0).any(dim=1)]
            if len(groups) == 0:
                return sums
        for part in self._micro_batches(groups):
            micro_batch = minibatch.select_groups(part, of_step=minibatch)
            logprobs = self.policy.logprobs(micro_batch, self.config.temperature)
            loss, figures = self.objective.loss(micro_batch, logprobs)
            loss.backward()
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self.config.max_grad_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient of update {self.num_updates + 1} is not finite; nothing was changed by this step. Lower "
                "the learning rate, or use precision='float32'"
            )
        self.optimizer.step()
        sums["grad_norm"] = norm.item()
        return sums

    # -- predicting --------------------------------------------------------------------------------------------------

    def predict(self, observation: str | Sequence[str], deterministic: bool = False) -> str | list[str]:
        """See `Agent.predict`; sampling uses the training temperature and never disturbs training's randomness."""
        prompts = [observation] if isinstance(observation, str) else list(observation)
        temperature = 0.0 if deterministic else self.config.temperature
        sampling = SamplingParams(self.config.max_completion_tokens, temperature)
        ids = self.policy.encode_prompts(prompts, sampling.max_completion_tokens)
        groups = self.engine.generate(ids, 1, sampling, self._predict_generator) if ids else []
        texts = [self.policy.decode(group[0].ids) for group in groups]
        return texts[0] if isinstance(observation, str) else texts

    # -- saving and loading ------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """See `Agent.save`. The folder's `policy/` is an ordinary transformers model that any tool loads.

        Written beside the old contents and swapped in at the end: a crash leaves either the old or the new state.
        """
        state = checkpoint.AgentState(
            env_id=importable_id(self.env_spec),
            env_kwargs=dict(self.env_spec.kwargs),
            policy_name=self.policy.name,
            device_type=self.policy.device.type,
            precision=self.policy.precision,
            chat=self.policy.chat,
            objective=self.objective,
            config=self.config,
            seed=self.seed,
            num_episodes=self.num_episodes,
            num_updates=self.num_updates,
            num_prompts=self.num_prompts,
            numpy_rng=self.rng.bit_generator.state,
        )
        generators = {"training": self.generator.get_state(), "predict": self._predict_generator.get_state()}
        optimizer = checkpoint.optimizer_tensors(self.optimizer, self._parameters)
        checkpoint.write(Path(path), state, self.policy, optimizer, generators)

    @classmethod
    def load(
        cls, path: str | Path, env: EnvLike | None = None, *, objective: Objective | None = None, device: str = "auto"
    ) -> Self:
        """See `Agent.load`.

        The state of torch's generators means nothing on another kind of device: a run that goes on on one draws its
        sampling noise from new streams, named by the seed and the number of updates.

        Args:
            path: A folder that `save` wrote.
            env: Replaces the environment that was saved.
            objective: Needed where the saved agent had an objective that this package does not have; replaces it.
            device: Where to put the policy.

        Raises:
            CheckpointError: The folder is missing or incomplete.
        """
        path = Path(path)
        state = checkpoint.read_state(path, objective)
        spec = env if env is not None else env_spec(state.env_id, **state.env_kwargs)
        policy = checkpoint.read_policy(path, state, resolve_device(device))
        agent = cls(policy, spec, objective=state.objective, config=state.config, seed=state.seed)
        checkpoint.read_reference(path, policy)
        checkpoint.restore_optimizer(path, agent.optimizer, agent._parameters)
        agent.num_episodes, agent.num_updates = state.num_episodes, state.num_updates
        agent.num_prompts = state.num_prompts
        agent.rng.bit_generator.state = state.numpy_rng
        if policy.device.type == state.device_type:
            generators = checkpoint.read_generators(path)
            agent.generator.set_state(generators["training"])
            agent._predict_generator.set_state(generators["predict"])
        else:
            streams = np.random.SeedSequence((state.seed, state.num_updates)).spawn(2)
            agent.generator, agent._predict_generator = (_torch_generator(s, policy.device) for s in streams)
        return agent


def rollout_metrics(rollouts: Sequence[Rollout], group_size: int) -> dict[str, float]:
    """What a batch of episodes, the G of one prompt next to each other, says about the policy that sampled them."""
    n = len(rollouts)
    rewards = torch.tensor([rollout.reward for rollout in rollouts]).view(-1, group_size)
    tokens = sum(len(rollout.completion.ids) for rollout in rollouts)
    metrics = {
        "reward": rewards.mean().item(),
        "reward_std": rewards.std(correction=0).item(),
        "accuracy": sum(rollout.correct for rollout in rollouts) / n,
        # the groups that a group-relative advantage can learn from
        "informative_groups": (rewards != rewards[:, :1]).any(dim=1).float().mean().item(),
        "entropy": -sum(sum(rollout.completion.logprobs) for rollout in rollouts) / tokens,
        "completion_tokens": tokens / n,
        "truncated": sum(rollout.completion.truncated for rollout in rollouts) / n,
    }
    outcomes = Counter(rollout.outcome for rollout in rollouts if rollout.outcome)
    return metrics | {f"outcome/{outcome}": count / n for outcome, count in sorted(outcomes.items())}


def scheduled_learning_rate(update: int, total_updates: int, config: GRPOConfig) -> float:
    """The learning rate of an update (from 0): linear warm-up, then the schedule down to `final_lr_fraction`."""
    if update < config.warmup_updates:
        return config.learning_rate * (update + 1) / (config.warmup_updates + 1)
    progress = (update - config.warmup_updates) / max(1, total_updates - 1 - config.warmup_updates)
    remaining = {
        "constant": 1.0,
        "linear": 1 - progress,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }[config.lr_schedule]
    floor = 1.0 if config.lr_schedule == "constant" else config.final_lr_fraction
    return config.learning_rate * (floor + (1 - floor) * remaining)


def _torch_generator(stream: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(int(stream.generate_state(1, np.uint64)[0]) >> 1)


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that an update is never cut in half; the second one interrupts at once.

    Outside the main thread, where Python delivers no signals, nothing is changed.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
