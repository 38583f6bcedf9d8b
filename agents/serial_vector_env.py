"""SerialVectorEnv of an environment, one after the other: for environments that cannot be scored in one call."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from llm_envs import CompletionEnv
from llm_envs.reward_deadline import watched


class SerialVectorEnv(SyncVectorEnv):
    """Without autoreset. Episodes may end after different numbers of turns: one that is over takes None as its action.

    As `llm_envs.CompletionVectorEnv` does; Gymnasium's own would step an episode that is over, or begin a new one.

    Args:
        spec: Of the environment, with its wrappers.
        num_envs: How many copies.
        kwargs: Arguments of the environment; they override those in the spec.
    """

    def __init__(self, spec: EnvSpec, num_envs: int, **kwargs: Any) -> None:
        make = functools.partial(gymnasium.make, spec, **kwargs)
        super().__init__([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        self.spec = spec
        self._latest: list[Any] = []
        self._over = np.ones(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in each copy; see `gymnasium.vector.VectorEnv.reset`."""
        observations, infos = super().reset(seed=seed, options=options)
        self._latest = list(observations)
        self._over[:] = False
        return observations, infos

    def step(self, actions: Sequence[Any]) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take an action in each copy.

        Args:
            actions: One for each; None for a copy whose episode is over, which then stays over with its latest
                observation and a reward of 0.

        Returns:
            Observations, rewards (num_envs,) float64, terminated, truncated, and the infos as arrays with Gymnasium's
            `_key` masks.

        Raises:
            ResetNeeded: There is another action for an episode that is over, or none has begun.
        """
        over = [i for i, action in enumerate(actions) if self._over[i] and action is not None]
        if over:
            raise ResetNeeded(f"the episodes of environments {over} are over: call reset() before the next step()")
        rewards = np.zeros(self.num_envs)
        terminated, truncated = self._over.copy(), np.zeros(self.num_envs, dtype=bool)
        infos: dict[str, Any] = {}
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if self._over[i]:
                continue
            # an environment of another package is its own reward, so its step has the deadline of one; ours set it
            own = isinstance(env.unwrapped, CompletionEnv)
            with contextlib.nullcontext() if own else watched():
                self._latest[i], rewards[i], terminated[i], truncated[i], info = env.step(action)
            infos = self._add_info(infos, info, i)
        self._over = terminated | truncated
        return tuple(self._latest), rewards, terminated, truncated, infos
