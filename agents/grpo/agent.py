"""`GRPOAgent`: groups of completions, group-relative advantages, clipped and KL-regularized updates."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from agents import checkpoint
from agents.adamw import make_adamw, total_norm
from agents.batch_metrics import rollout_metrics, sampler_mismatch
from agents.distributed import Parallel, Passes, Ranks, whole
from agents.engines import RolloutEngine
from agents.envs import (
    EnvLike,
    env_spec,
    env_state,
    make_envs,
    max_turns,
    restore_env_state,
    spec_record,
)
from agents.grpo.collection import CollectedBatch, CollectingAgent
from agents.grpo.config import GRPOConfig
from agents.grpo.micro_batches import MicroBatches
from agents.hardware import resolve_device
from agents.objectives import GRPO, Objective, name_of, objective_named
from agents.objectives.ops import DEVIATION_FLOOR, adapted_kl_coef, soft_overlong_penalty
from agents.optimization import StepCounter, scheduled_learning_rate
from agents.policies import LanguageModelPolicy
from agents.policies.language_model import TooLong
from agents.policies.precision import Precision
from agents.prompt_lengths import too_long_metrics
from agents.rollout import GroupBatch, Rollout, SamplingParams
from agents.tracking.callback import UpdateRecord

__all__ = ["GRPOAgent", "GRPOConfig"]


_OF_EACH_TOKEN = {"kl", "sampler_weight", "sampler_masked", "sampler_truncated"}
"""Figures that are means per token, whether or not it is learned from."""


class GRPOAgent(CollectingAgent):
    """Group relative policy optimization (DeepSeekMath, arXiv:2402.03300, algorithm 1) of a transformers model.

    Each update draws P problems, resets each G times by repeating its seed, generates one completion per episode,
    scores all of them in one vector `step`, and takes `epochs * minibatches` AdamW steps on the objective.

    Args:
        policy: A name for `load_policy`, or a loaded policy.
        env: An environment id, a spec, or an environment made by `gymnasium.make`.
        objective: What is optimized, or its name on the command line; `GRPO()` by default, `agents.objectives` has the
            others.
        config: How much is collected and how it is updated.
        seed: Names the streams of problems and of sampling noise; equal seeds repeat a run exactly on one machine.
        device: `"auto"` (CUDA where there is one), `"cpu"`, `"cuda"`, ...; a loaded policy stays where it is.
        precision: `"auto"`, `"float32"` or `"bfloat16"`, see `LanguageModelPolicy`.
        engine: What generates; by default the fastest engine that runs the policy's own model.
        parallel: How passes are divided where several processes were started (`torchrun`), see `agents.distributed`.
        cpu_offload: With `fsdp2`, keep parameters, gradients and moments in the memory of the host.

    Raises:
        PolicyNotFound: There is no such model.
        gymnasium.error.Error: There is no such environment.
    """

    def __init__(
        self,
        policy: str | Path | LanguageModelPolicy,
        env: EnvLike,
        *,
        objective: Objective | str | None = None,
        config: GRPOConfig | None = None,
        seed: int = 0,
        device: str = "auto",
        precision: Precision = "auto",
        engine: RolloutEngine | None = None,
        parallel: Parallel = "auto",
        cpu_offload: bool = False,
    ) -> None:
        self.config = GRPOConfig() if config is None else config
        if not isinstance(self.config, GRPOConfig):
            raise TypeError(f"config must be a GRPOConfig, got {config!r}")
        objective = objective_named(objective) if isinstance(objective, str) else objective
        self.objective = GRPO() if objective is None else objective
        if isinstance(objective, type) or not hasattr(self.objective, "loss"):
            raise TypeError(f"objective must be an objective, such as GRPO(), or the name of one, got {objective!r}")
        if self.config.kl_target is not None and not getattr(self.objective, "kl_coef", 0.0) > 0:
            raise ValueError(
                f"kl_target={self.config.kl_target} adapts kl_coef, and the objective {type(self.objective).__name__} "
                "has no KL penalty; start with a positive kl_coef"
            )
        if self.config.overlong_buffer > 0 and (turns := max_turns(env_spec(env))) > 1:
            raise ValueError(
                f"overlong_buffer is for episodes of one completion; {env_spec(env).id} has several turns, up to "
                f"{turns}"
            )
        self.ranks = Ranks.current()
        share = len(self.ranks.share(range(self.config.prompts_per_update)))
        if self.config.prompts_per_update < self.ranks.size:
            raise ValueError(
                f"prompts_per_update ({self.config.prompts_per_update}) must be at least the number of processes "
                f"({self.ranks.size}): each plays whole groups"
            )
        self.envs = make_envs(env, share * self.config.group_size)
        if self.ranks.size > 1 and env_state(self.envs):
            raise ValueError(
                f"{env_spec(env).id} changes its problems with what was answered (a curriculum), and each of "
                f"{self.ranks.size} processes would see its own part of that: train it in one process"
            )
        super().__init__(policy, env, seed=seed, device=device, precision=precision, engine=engine)
        if self.objective.needs_reference:
            self.policy.freeze_reference("cpu" if self.config.reference_device == "cpu" else None)
        if parallel == "auto" and self.config.optimizer == "adamw8bit" and not cpu_offload:
            parallel = "ddp"  # its moments are not sharded
        self._passes = Passes(self.policy, self.ranks, parallel, cpu_offload)
        self.num_prompts = 0
        self._parameters = dict(self.policy.trainable_parameters())
        self.optimizer = make_adamw(self._parameters.values(), self.config)
        self._steps = StepCounter(self.optimizer)
        self._micro_batches = MicroBatches(self.config, self.ranks, is_padded=self.policy.packed_model is None)
        self._count: Counter[str] = Counter()
        self._ahead: CollectedBatch | None = None
        if engine is not None:
            self.check_engine()

    @property
    def sampling(self) -> SamplingParams:
        """How completions are drawn in training, and by `predict` and `evaluate` unless told otherwise."""
        config = self.config
        return SamplingParams(config.max_completion_tokens, config.temperature, config.top_k, config.top_p, config.stop)

    @property
    def too_long(self) -> TooLong:
        """What happens to a prompt that leaves no room for a completion: "error", "skip" or "truncate"."""
        return self.config.too_long

    @property
    def name(self) -> str:
        """The name of the objective, such as "grpo" or "dapo"."""
        return name_of(self.objective)

    @property
    def summary(self) -> str:
        """What learns and how much per update, in one line."""
        config = self.config
        batch = f"{config.prompts_per_update} prompts x {config.group_size} completions"
        return f"{type(self.objective).__name__}: {batch} per update, learning rate {config.learning_rate:g}"

    def whole_weights(self) -> contextlib.AbstractContextManager[None]:
        """A context in which the policy has whole weights, where its processes hold parts of them otherwise."""
        return self._passes.whole_weights()

    # -- the algorithm -----------------------------------------------------------------------------------------------

    def _total_updates(self, total_episodes: int) -> int:
        return math.ceil(total_episodes / self.config.episodes_per_update)

    def _update(self, total_episodes: int) -> UpdateRecord:
        """Collect a batch, take the optimizer steps, and say what happened."""
        total_updates = self._total_updates(total_episodes)
        started = time.perf_counter()
        collection = self._ahead or self._collect()
        rollouts, sampled = collection.rollouts, collection.sampled
        collected = time.perf_counter()
        goes_on = self.num_updates + 1 < total_updates
        ahead = self._collect_ahead() if self.config.max_staleness > 0 and goes_on else None
        batch = self._make_batch(rollouts)
        learning_rate = scheduled_learning_rate(self.num_updates, total_updates, self.config)
        figures = self._optimize(batch, learning_rate)
        self._ahead = None if ahead is None else ahead.result()  # before the engine gets other weights
        self.engine.sync_weights(self.policy)
        if self.config.kl_target is not None:
            figures["kl_coef"] = self._adapt_kl_coef(figures.get("kl"))
        self.num_updates += 1
        self.num_episodes += len(rollouts)
        finished = time.perf_counter()
        metrics = rollout_metrics(sampled, self.config.group_size) | figures
        if self.config.max_refills > 0:
            metrics["groups_sampled"] = len(sampled) / self.config.group_size
        metrics["learning_rate"] = learning_rate
        metrics |= too_long_metrics(self.too_long, self._count)
        batches = [sampled[i : i + len(rollouts)] for i in range(0, len(sampled), len(rollouts))]
        metrics["reward_calls"] = sum(max(rollout.turns for rollout in batch) for batch in batches)
        metrics["optimizer_steps"] = self._steps.take()
        metrics["out_of_memory"] = self._micro_batches.take_halvings()
        metrics["seconds_rollout"] = collected - started
        metrics["seconds_update"] = finished - collected
        tokens = sum(rollout.num_tokens for rollout in sampled)
        metrics["tokens_per_second"] = tokens / (finished - started)
        return UpdateRecord(self.num_updates, total_updates, self.num_episodes, metrics, tuple(sampled))

    def _make_batch(self, rollouts: list[Rollout]) -> GroupBatch:
        """Pad, compute advantages, and add the log-probabilities that stay fixed during the update."""
        batch = GroupBatch.from_rollouts(rollouts, self.config.group_size, self.policy.pad_token_id, self.policy.device)
        batch = replace(
            batch,
            token_limit=self.config.max_completion_tokens,
            # under top-k and top-p the two distributions differ by intention
            sampler_is_exact=self._samples_exactly or self._is_restricted,
        )
        if self.config.overlong_buffer > 0:
            if any(rollout.turns > 1 for rollout in rollouts):
                raise ValueError(
                    "overlong_buffer is for episodes of one completion; this environment has several turns"
                )
            lengths = batch.completion_mask.sum(dim=1).view_as(batch.rewards)
            penalty = soft_overlong_penalty(lengths, self.config.max_completion_tokens, self.config.overlong_buffer)
            batch = replace(batch, rewards=batch.rewards + penalty)
        if self.config.mask_truncated:
            whole = torch.tensor([not rollout.completion.truncated for rollout in rollouts], device=self.policy.device)
            action_mask = batch.action_mask * whole[:, None]
            batch = replace(batch, action_mask=action_mask, total_tokens=int(action_mask.sum()))
        if self.objective.needs_reference:
            batch = replace(batch, ref_logprobs=self._in_parts(batch, self._passes.reference_logprobs))
        if self._rescores and (not self._takes_one_step or self.objective.shapes_rewards):
            with torch.no_grad():
                batch = replace(batch, old_logprobs=self._in_parts(batch, self._passes.logprobs))
        return replace(batch, advantages=self.objective.advantages(self.objective.shape_rewards(batch)))

    @property
    def _rescores(self) -> bool:
        """Whether the old log-probabilities are computed by the policy, not taken from the rollout.

        They are where the engine's are not the policy's own, because of its kernels or because it was one update
        behind, and where top-k or top-p made them those of a part of the distribution.
        """
        return not self._samples_exactly or self._is_restricted

    @property
    def _samples_exactly(self) -> bool:
        """Whether what the engine reported are log-probabilities of the policy that the update starts from."""
        return self.engine.exact_logprobs and self.config.max_staleness == 0

    @property
    def _is_restricted(self) -> bool:
        """Whether tokens are drawn from a part of the distribution."""
        return self.config.top_k is not None or self.config.top_p < 1

    @property
    def _takes_one_step(self) -> bool:
        """Whether the policy of each loss is still the one that the update starts from."""
        return self.config.epochs * self.config.minibatches == 1

    def _in_parts(self, batch: GroupBatch, logprobs: Any) -> Tensor:
        """(N, T) log-probabilities, computed a micro-batch at a time."""
        out = torch.zeros_like(batch.sampler_logprobs)
        everything = torch.arange(len(batch.rewards), device=batch.rewards.device)

        def compute(parts: list[Tensor | None]) -> None:
            for groups in parts:
                # a rank with nothing more to compute takes part in the passes of the others
                selected = batch.select_groups(everything[:1] if groups is None else groups)
                part = logprobs(selected, self.config.temperature)
                if groups is not None:
                    out[batch.rows_of(groups), : part.shape[1]] = part

        self._micro_batches.within(compute, batch, everything)
        return self.ranks.sum(out)

    def _optimize(self, batch: GroupBatch, learning_rate: float) -> dict[str, float]:
        """Take up to `epochs * minibatches` optimizer steps; the figures are means over those that were taken."""
        is_informative = self._informative_groups(batch)
        if not is_informative.any():
            return {}
        for parameter_group in self.optimizer.param_groups:
            parameter_group["lr"] = learning_rate
        sums: Counter[str] = Counter()
        steps = 0
        mismatch: dict[str, float] = {}
        for _ in range(self.config.epochs):
            order = torch.from_numpy(self.rng.permutation(len(batch.rewards))).to(batch.rewards.device)
            for groups in order.tensor_split(self.config.minibatches):
                if not (is_informative[groups].any() or self.optimizer.state):
                    continue  # the policy still is the reference: a KL penalty has no gradient but rounding
                minibatch = batch.select_groups(groups)
                first_logprobs = torch.full_like(minibatch.sampler_logprobs, torch.nan)
                figures = self._step(minibatch, first_logprobs)
                if figures and steps == 0 and not self._is_restricted:  # still the policy that sampled
                    mismatch = self._mismatch(minibatch, first_logprobs)
                steps += bool(figures)
                for name, value in figures.items():
                    sums[name] += value  # type: ignore[assignment]
        return {name: value / steps for name, value in sums.items()} | mismatch

    def _mismatch(self, minibatch: GroupBatch, logprobs: Tensor) -> dict[str, float]:
        """`sampler_mismatch` over the tokens of all ranks whose `logprobs` were computed; the others are NaN."""
        computed = minibatch.action_mask.bool() & ~logprobs.isnan()
        pairs = [part[computed].cpu() for part in (logprobs, minibatch.sampler_logprobs)]
        own, reported = (torch.cat(self.ranks.gather([part])) for part in pairs)
        return sampler_mismatch(own, reported)

    def _informative_groups(self, batch: GroupBatch) -> Tensor:
        """(P,) bool: whether the rewards give a group's completions anything to learn; a KL penalty does not count.

        An update without such a group takes no step. Its gradient is a KL penalty or rounding: AdamW would make steps
        of full size of it, and momentum and weight decay would move the weights without a reason.
        """
        rewards = batch.rewards
        if rewards.max() - rewards.min() <= DEVIATION_FLOOR * rewards.abs().max().clamp(min=1):
            return torch.zeros(len(rewards), dtype=torch.bool, device=rewards.device)
        has_tokens = batch.action_mask.any(dim=1).view_as(rewards)  # not masked as truncated
        return (self.objective.advantages(rewards).abs() * has_tokens).amax(dim=1) > DEVIATION_FLOOR

    def _adapt_kl_coef(self, kl: float | None) -> float:
        """Change the objective's KL coefficient for the next update, and return the one that was used."""
        objective: Any = self.objective
        used: float = objective.kl_coef
        if kl is not None:  # there was something to learn from
            target, gain = self.config.kl_target, self.config.kl_gain
            assert target is not None
            self.objective = replace(objective, kl_coef=adapted_kl_coef(used, kl, target, gain))
        return used

    def _step(self, minibatch: GroupBatch, logprobs: Tensor) -> dict[str, float]:
        """One optimizer step, its gradient accumulated over micro-batches of whole groups.

        Args:
            minibatch: What is learned from.
            logprobs: (N, T), where those that the policy has before the step are written to, as far as computed.

        Returns:
            Figures; none where there was nothing to learn from and no step was taken.
        """
        sums: dict[str, float] = {}
        groups = torch.arange(len(minibatch.rewards), device=minibatch.rewards.device)
        if self.objective.ignores_zero_advantages:
            # such groups (all rewards equal) are left out; the divisors still count them
            groups = groups[minibatch.advantages.abs().amax(dim=1) > DEVIATION_FLOOR]
        tokens = int(minibatch.action_mask[minibatch.rows_of(groups)].sum())
        if tokens == 0:
            return sums

        def compute(parts: list[Tensor | None]) -> None:
            # from the beginning: what a pass that ran out of memory has added is not counted twice
            self.optimizer.zero_grad(set_to_none=True)
            sums.clear()
            for i, part in enumerate(parts):
                with self._passes.accumulating(last=i == len(parts) - 1):
                    if part is None:  # others have more to compute
                        self._passes.backward(
                            self._passes.logprobs(minibatch.select_groups(groups[:1]), self.config.temperature).sum()
                            * 0
                        )
                    else:
                        self._accumulate(minibatch, part, sums, logprobs)

        self._micro_batches.within(compute, minibatch, groups)
        sums = self.ranks.sum_figures(sums)
        for name in _OF_EACH_TOKEN & sums.keys():  # tokens of groups that were left out have them too
            sums[name] *= minibatch.total_tokens / tokens
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        norm = total_norm(gradients)
        size = whole(norm).item()
        if not math.isfinite(size):
            raise FloatingPointError(
                f"the gradient of update {self.num_updates + 1} is not finite; nothing was changed by this step. Lower "
                "the learning rate, or use precision='float32'"
            )
        if size > self.config.max_grad_norm:  # else the gradients, as many as weights, are not touched
            torch.nn.utils.clip_grads_with_norm_(self._parameters.values(), self.config.max_grad_norm, norm)
        self.optimizer.step()
        sums["grad_norm"] = size
        return sums

    def _accumulate(self, minibatch: GroupBatch, groups: Tensor, sums: dict[str, float], out: Tensor) -> None:
        """Forward and backward pass of some groups of a minibatch; figures are added up, log-probabilities written."""
        micro_batch = minibatch.select_groups(groups, of_step=minibatch)
        logprobs = self._passes.logprobs(micro_batch, self.config.temperature)
        out[minibatch.rows_of(groups), : logprobs.shape[1]] = logprobs.detach()
        if self._rescores and self._takes_one_step:
            micro_batch = replace(micro_batch, old_logprobs=logprobs.detach())  # no pass of its own for them
        loss, figures = self.objective.loss(micro_batch, logprobs)
        self._passes.backward(loss)
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value.item()

    # -- saving and loading ------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a checkpoint. The folder's `policy/` is an ordinary transformers model that any tool loads.

        Written beside the old contents and swapped in at the end: a crash leaves either the old or the new state.
        """
        state = checkpoint.AgentState(
            **spec_record(self.env_spec),
            **checkpoint.policy_record(self.policy),
            objective=self.objective,
            config=self.config,
            seed=self.seed,
            num_episodes=self.num_episodes,
            num_updates=self.num_updates,
            num_prompts=self.num_prompts,
            halvings=self._micro_batches.halvings,
            env_state=env_state(self.envs),
            random_states=self._random_states,
            ahead=None if self._ahead is None else self._ahead.to_json(),
        )
        # every rank takes part in putting sharded tensors together, and one writes
        optimizer = checkpoint.optimizer_tensors(self.optimizer, self._parameters)
        weights = checkpoint.whole_weights(self.policy)
        if self.ranks.is_first:
            checkpoint.write(Path(path), state, self.policy, {"optimizer": optimizer}, weights)
        self.ranks.wait()

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: EnvLike | None = None,
        *,
        objective: Objective | None = None,
        device: str = "auto",
        precision: Precision | None = None,
        engine: RolloutEngine | None = None,
        parallel: Parallel = "auto",
        cpu_offload: bool = False,
    ) -> Self:
        """Read what `save` wrote.

        Args:
            path: The folder.
            env: Replaces the environment that was saved; needed where that had wrappers.
            objective: Replaces the objective that was saved; needed where this package does not have it.
            device: Where to put the policy.
            precision: Of the computation; None is the one that was saved.
            engine: What generates; None is the fastest engine that runs the policy's own model.
            parallel: See the class; the checkpoint may be one of another number of processes.
            cpu_offload: See the class.

        Raises:
            CheckpointError: The folder is missing or incomplete.
        """
        path = Path(path)
        state = checkpoint.read_state(path, objective)
        spec, is_same = checkpoint.read_env(path, state, env)
        checkpoint.verify(path)
        policy = checkpoint.read_policy(path, state, resolve_device(device), precision)
        agent = cls(
            policy,
            spec,
            objective=state.objective,
            config=state.config,
            seed=state.seed,
            engine=engine,
            parallel=parallel,
            cpu_offload=cpu_offload,
        )
        checkpoint.read_reference(path, policy)
        checkpoint.restore_optimizer(path, agent.optimizer, agent._parameters)
        agent.num_prompts = state.num_prompts
        agent._micro_batches.halvings = state.halvings
        if is_same:
            restore_env_state(agent.envs, state.env_state)
        agent._restore(state)
        if state.ahead is not None and is_same:
            agent._ahead = CollectedBatch.from_json(state.ahead, state.config.group_size)
        return agent
