"""Text environments as stable-baselines3 steps through them: token ids in and out, one reward call per step."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from agents.envs import check_rewards, env_state, info_of, make_envs, metrics_of, prompts_of, restore_env_state
from agents.policies import LanguageModelPolicy
from agents.policies.language_model import TooLong
from agents.prompt_lengths import seeds_that_fit, too_long_metrics
from agents.rollout import Completion, Rollout
from llm_envs.wrappers.tokens import as_row, check_vocab_size, row_space, through_first_end


class TextVecEnv(VecEnv):
    """Episodes of a text environment side by side, in token ids; the base of both views.

    Problems are drawn as `GRPOAgent` draws them: each episode has a seed of its own from the agent's stream. The
    episodes that end in a step are scored in one reward call. Ended episodes start anew by themselves, as
    stable-baselines3 expects; no episode is ever truncated, because nothing follows a completion.

    Args:
        spec: The task.
        num_envs: Episodes side by side.
        policy: Turns prompts into ids and ids into text.
        rng: Source of the episodes' seeds.
        max_completion_tokens: A completion is cut at this length.
        observation_length: Ids of an observation.
        max_prompt_tokens: Ids of the longest prompt that fits.
        action_space: Of the view.
        too_long: What is done with a prompt that does not, see `SB3Config.too_long`.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        policy: LanguageModelPolicy,
        rng: np.random.Generator,
        *,
        max_completion_tokens: int,
        max_prompt_tokens: int,
        observation_length: int,
        action_space: spaces.Space[Any],
        too_long: TooLong = "error",
    ) -> None:
        self.env_spec = spec
        self.finished: list[Rollout] = []
        self._reward_calls = 0
        self._policy = policy
        self._rng = rng
        self._envs: dict[int, VectorEnv[Any, Any, Any]] = {}
        self._max_completion_tokens = max_completion_tokens
        self._max_prompt_tokens = max_prompt_tokens
        self._too_long = too_long
        self._count: Counter[str] = Counter()
        self._length = observation_length
        self.episode_seeds = [0] * num_envs
        self._prompts = [""] * num_envs
        self._prompt_ids: list[list[int]] = [[] for _ in range(num_envs)]
        self._actions = np.empty(0)
        super().__init__(num_envs, row_space(observation_length, vocabulary(policy)), action_space)

    # -- problems and rewards ----------------------------------------------------------------------------------------

    def _vector_env(self, size: int) -> VectorEnv[Any, Any, Any]:
        """`size` environments; which episodes they play is decided by the seeds of each `reset` alone."""
        if size not in self._envs:
            self._envs[size] = make_envs(self.env_spec, size)
        return self._envs[size]

    def _begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        """Start the episodes of these rows."""
        prompts, _ = self._vector_env(len(rows)).reset(seed=list(seeds))  # type: ignore[arg-type]
        encoded = self._policy.encode_prompts(
            prompts,
            self._max_completion_tokens,
            max_prompt_tokens=self._max_prompt_tokens,
            too_long=self._too_long,
        )
        if self._too_long == "truncate":
            self._count["prompts_truncated"] += sum(not self._fits(prompt) for prompt in prompts)
        for row, seed, prompt, ids in zip(rows, seeds, prompts, encoded, strict=True):
            self.episode_seeds[row], self._prompts[row], self._prompt_ids[row] = seed, prompt, ids

    def _fits(self, prompt: str) -> bool:
        return self._policy.fits(prompt, self._max_completion_tokens, self._max_prompt_tokens)

    def _draw(self, count: int) -> list[int]:
        """Seeds of the next problems."""
        seeds = self._draw_any(count)
        if self._too_long != "skip":
            return seeds
        envs = self._vector_env(self.num_envs)
        return seeds_that_fit(seeds, self._draw_any, lambda found: prompts_of(envs, found), self._fits, self._count)

    def _draw_any(self, count: int) -> list[int]:
        return self._rng.integers(2**63, size=count).tolist()

    def take_too_long(self) -> dict[str, float]:
        """How many prompts were skipped or truncated since the last call; nothing where they are errors."""
        return too_long_metrics(self._too_long, self._count)

    def _score(self, rows: Sequence[int], completions: Sequence[list[int]]) -> list[Rollout]:
        """End the episodes of these rows with these completions."""
        envs = self._vector_env(len(rows))
        prompts, _ = envs.reset(seed=[self.episode_seeds[row] for row in rows])  # type: ignore[arg-type]
        for row, prompt in zip(rows, prompts, strict=True):
            if prompt != self._prompts[row]:
                raise ValueError(
                    f"the environment gave two prompts for seed {self.episode_seeds[row]}: it is not seeded"
                )
        texts = [
            self._policy.completion_text(ids, self._prompt_ids[row]) for row, ids in zip(rows, completions, strict=True)
        ]
        self._reward_calls += 1
        _, rewards, terminated, truncated, infos = envs.step(texts)
        check_rewards(rewards)
        if not (terminated | truncated).all():
            raise NotImplementedError(
                "an episode went on after one completion; episodes of several turns are not supported"
            )
        return [
            Rollout(
                seed=self.episode_seeds[row],
                prompt=prompts[i],
                prompt_ids=self._prompt_ids[row],
                completion=Completion(list(ids), [], ids[-1] not in self._policy.end_token_ids),
                text=texts[i],
                reward=float(rewards[i]),
                outcome=str(info_of(infos, "outcome", i) or ""),
                answer=info_of(infos, "answer", i),
                reference=info_of(infos, "reference", i),
                metrics=metrics_of(infos, i),
            )
            for i, (row, ids) in enumerate(zip(rows, completions, strict=True))
        ]

    def state(self) -> dict[str, Any]:
        """The episodes under way, as JSON takes them."""
        return {"seeds": self.episode_seeds, "env_state": env_state(self._vector_env(self.num_envs))}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Put episodes back that `state` described; returns their observations."""
        restore_env_state(self._vector_env(self.num_envs), state.get("env_state", {}))
        self._begin(range(self.num_envs), state["seeds"])
        self._count.clear()  # they were counted when they were drawn
        return self._observations()

    @property
    def episode_starts(self) -> np.ndarray:
        """(num_envs,) bool: where nothing has been written yet."""
        return np.ones(self.num_envs, dtype=bool)

    def _observations(self) -> np.ndarray:
        return np.stack([as_row(ids, self._length) for ids in self._prompt_ids])

    def take_reward_calls(self) -> int:
        """How often the reward was called since the last call, each time for all episodes that ended in a step."""
        calls, self._reward_calls = self._reward_calls, 0
        return calls

    def take_finished(self) -> list[Rollout]:
        """The episodes that ended since the last call, in order; without log-probabilities, as the policy has them."""
        finished, self.finished = self.finished, []
        return finished

    def _end(
        self, rows: Sequence[int], completions: Sequence[list[int]], infos: list[dict[str, Any]], rewards: np.ndarray
    ) -> None:
        """Score, and write what stable-baselines3 wants to know of an ended episode."""
        for row, rollout, ids in zip(rows, self._score(rows, completions), completions, strict=True):
            self.finished.append(rollout)
            rewards[row] = rollout.reward
            infos[row] |= {
                "outcome": rollout.outcome,
                "answer": rollout.answer,
                "reference": rollout.reference,
                "completion": rollout.text,
                "terminal_observation": self._terminal_observation(row, ids),
                "episode": {"r": rollout.reward, "l": len(ids)},
            }

    @abstractmethod
    def _terminal_observation(self, row: int, completion: list[int]) -> np.ndarray:
        """What is seen when the episode is over."""

    # -- what stable-baselines3 asks of a vector environment ----------------------------------------------------------

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def close(self) -> None:
        """Close the environments."""
        for envs in self._envs.values():
            envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of this object, for each index; `render_mode` is None.

        Raises:
            AttributeError: It has none of that name.
        """
        value = None if attr_name == "render_mode" else getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible.

        Raises:
            AttributeError: Always; the environments' arguments are part of their spec.
        """
        raise AttributeError(f"cannot set {attr_name!r}: the environments are made anew from their spec")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Not possible.

        Raises:
            AttributeError: Always; there is no separate environment for each episode.
        """
        raise AttributeError(f"cannot call {method_name!r}: there is no separate environment for each episode")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """False for each: what `Monitor` would add to the infos is there already."""
        return [False for _ in self._get_indices(indices)]


class CompletionVecEnv(TextVecEnv):
    """The completion view of several environments: an action is a whole completion, and every step ends every episode.

    `TextVecEnv` documents the arguments; `llm_envs.TokenCompletion` is the same view of a single environment.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        policy: LanguageModelPolicy,
        rng: np.random.Generator,
        *,
        max_completion_tokens: int,
        max_prompt_tokens: int,
        too_long: TooLong = "error",
    ) -> None:
        super().__init__(
            spec,
            num_envs,
            policy,
            rng,
            max_completion_tokens=max_completion_tokens,
            max_prompt_tokens=max_prompt_tokens,
            too_long=too_long,
            observation_length=max_prompt_tokens,
            action_space=spaces.MultiDiscrete([vocabulary(policy)] * max_completion_tokens),
        )

    def reset(self) -> VecEnvObs:
        """Start all episodes; (num_envs, max_prompt_tokens) prompts."""
        self._begin(range(self.num_envs), self._draw(self.num_envs))
        return self._observations()

    def step_wait(self) -> VecEnvStepReturn:
        """Score all completions; the observations are the next prompts."""
        ends = self._policy.end_token_ids
        completions = [through_first_end(np.asarray(action), ends) for action in self._actions]
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._end(range(self.num_envs), completions, infos, rewards)
        return self.reset(), rewards, np.ones(self.num_envs, dtype=bool), infos

    def _terminal_observation(self, row: int, completion: list[int]) -> np.ndarray:
        return as_row([], self._length)


class TokenVecEnv(TextVecEnv):
    """The token view: every step writes one token of every episode, and those that end are scored together.

    `TextVecEnv` documents the arguments; `llm_envs.TokenLevel` is the same view of a single environment.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        policy: LanguageModelPolicy,
        rng: np.random.Generator,
        *,
        max_completion_tokens: int,
        max_prompt_tokens: int,
        too_long: TooLong = "error",
    ) -> None:
        super().__init__(
            spec,
            num_envs,
            policy,
            rng,
            max_completion_tokens=max_completion_tokens,
            max_prompt_tokens=max_prompt_tokens,
            too_long=too_long,
            observation_length=max_prompt_tokens + max_completion_tokens,
            action_space=spaces.Discrete(vocabulary(policy)),
        )
        self._written: list[list[int]] = [[] for _ in range(num_envs)]
        if env_state(self._vector_env(num_envs)):
            raise ValueError(
                f"the problems of {spec.id} depend on what was answered before (a curriculum): in the token view, "
                "where episodes end one by one, it cannot be played; use view='completion'"
            )

    def reset(self) -> VecEnvObs:
        """Start all episodes; (num_envs, max_prompt_tokens + max_completion_tokens) prompts."""
        self._begin(range(self.num_envs), self._draw(self.num_envs))
        return self._observations()

    def _begin(self, rows: Sequence[int], seeds: Sequence[int]) -> None:
        super()._begin(rows, seeds)
        for row in rows:
            self._written[row] = []

    def step_wait(self) -> VecEnvStepReturn:
        """Write the tokens; score and restart the episodes that end with them."""
        rewards = np.zeros(self.num_envs, dtype=np.float32)
        dones = np.zeros(self.num_envs, dtype=bool)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row, action in enumerate(self._actions):
            token = int(action)
            self._written[row].append(token)
            at_limit = len(self._written[row]) == self._max_completion_tokens
            dones[row] = at_limit or token in self._policy.end_token_ids
        ended = np.flatnonzero(dones).tolist()
        if ended:
            self._end(ended, [self._written[row] for row in ended], infos, rewards)
            self._begin(ended, self._draw(len(ended)))
        return self._observations(), rewards, dones, infos

    def _observations(self) -> np.ndarray:
        rows = zip(self._prompt_ids, self._written, strict=True)
        return np.stack([as_row(prompt + written, self._length) for prompt, written in rows])

    def _terminal_observation(self, row: int, completion: list[int]) -> np.ndarray:
        return as_row(self._prompt_ids[row] + completion, self._length)

    def state(self) -> dict[str, Any]:
        """The episodes under way, as JSON takes them."""
        return {**super().state(), "written": self._written}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Put episodes back that `state` described; returns their observations."""
        super().restore(state)
        self._written = [list(ids) for ids in state["written"]]
        return self._observations()

    @property
    def episode_starts(self) -> np.ndarray:
        """(num_envs,) bool: where nothing has been written yet."""
        return np.array([not ids for ids in self._written])


class KLShaping(VecEnvWrapper):
    """Takes `kl_coef * log(pi / pi_ref)` of each token off its reward (Ziegler et al. 2019, arXiv:1909.08593).

    With gamma 1 the sum over a completion is what counts, so a completion as one action loses the sum of its tokens.

    Args:
        venv: The environment.
        kl_coef: Weight of the penalty, not negative.
        log_ratio: From observations and the actions that the policy has just taken, numpy arrays, to (N,) sums of
            `log pi - log pi_ref`.
    """

    def __init__(self, venv: TextVecEnv, kl_coef: float, log_ratio: Callable[[np.ndarray, np.ndarray], np.ndarray]):
        super().__init__(venv)
        self.kl_coef = kl_coef
        self.total = 0.0
        self._log_ratio = log_ratio
        self._observations = np.empty(0)
        self._penalty = np.empty(0)

    def reset(self) -> VecEnvObs:
        """Start all episodes."""
        self._observations = np.asarray(self.venv.reset())
        return self._observations

    def resume(self, observations: np.ndarray) -> None:
        """Go on from these observations instead of a reset."""
        self._observations = observations

    def step_async(self, actions: np.ndarray) -> None:
        """Compute the penalty of the actions, and pass them on."""
        log_ratio = self._log_ratio(self._observations, actions)
        self.total += float(log_ratio.sum())
        self._penalty = self.kl_coef * log_ratio
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """The environment's step with the penalty taken off the rewards."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._observations = np.asarray(observations)
        return observations, (rewards - self._penalty).astype(np.float32), dones, infos

    def take_total(self) -> float:
        """The sum of all log-ratios since the last call, in nats."""
        total, self.total = self.total, 0.0
        return total


def vocabulary(policy: LanguageModelPolicy) -> int:
    """How many ids the model gives a probability, which may be more than the tokenizer knows.

    Raises:
        ValueError: More than float32 can hold exactly, as stable-baselines3 needs.
    """
    size = int(policy.model.get_output_embeddings().weight.shape[0])
    check_vocab_size(size)
    return size


def as_tensors(device: torch.device, *arrays: np.ndarray) -> list[torch.Tensor]:
    """Arrays as tensors on a device."""
    return [torch.as_tensor(array, device=device) for array in arrays]
