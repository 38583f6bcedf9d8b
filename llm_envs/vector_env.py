"""`CompletionVectorEnv`: many episodes side by side, scored in one reward call per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from llm_envs.env import step_info
from llm_envs.problem import Problem
from llm_envs.spaces import MAX_COMPLETION_CHARS, Unicode
from llm_envs.stream import ProblemStream
from rewards.base import Reward


class CompletionVectorEnv(VectorEnv[tuple[str, ...], Sequence[str], np.ndarray]):
    """`num_envs` copies of a `CompletionEnv` whose completions are scored together.

    Autoreset is disabled: in an episode of one step, an automatic reset would swallow every second action. Call `reset`
    after each `step`; with `options={"reset_mask": mask}` only the environments in the mask are reset.

    Args:
        problems: The stream to draw from.
        reward: Scores a batch of completions.
        num_envs: How many episodes run side by side.
        render_mode: None or `"ansi"`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi"],
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self, problems: ProblemStream, reward: Reward, num_envs: int = 1, render_mode: str | None = None
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or 'ansi', got {render_mode!r}")
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = Unicode()
        self.single_action_space = Unicode(MAX_COMPLETION_CHARS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._problems = problems
        self._reward = reward
        self._seeds: list[int | None] = [None] * num_envs
        self._index = [0] * num_envs
        self._current: list[Problem | None] = [None] * num_envs
        self._done = np.ones(num_envs, dtype=bool)
        self._text = [""] * num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start episodes.

        Args:
            seed: One seed per environment (equal seeds give equal problems); an int `s` means `s, s + 1, ...` as in
                Gymnasium's own vector environments; None goes on in each environment's current stream.
            options: `{"reset_mask": bool array (num_envs,)}` resets only some environments.

        Returns:
            The prompts of all environments, and an empty info.

        Raises:
            ValueError: The number of seeds or the mask does not fit `num_envs`, or the mask leaves an environment that
                has never been reset.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        seeds = self._one_seed_each(seed)
        mask = self._reset_mask(options)
        drawn: dict[tuple[int, int], Problem] = {}  # a group of equal seeds is drawn once
        for i in np.flatnonzero(mask):
            given = seeds[i]
            if given is not None or self._seeds[i] is None:
                self._seeds[i] = given if given is not None else int(self.np_random.integers(2**63))
                self._index[i] = 0
            else:
                self._index[i] += 1
            key = (int(self._seeds[i]), self._index[i])  # type: ignore[arg-type]
            if key not in drawn:
                drawn[key] = self._problems.draw(*key)
            self._current[i] = drawn[key]
            self._done[i] = False
            self._text[i] = f"prompt: {drawn[key].prompt}"
        return tuple(problem.prompt for problem in self.problems), {}

    def _one_seed_each(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            return [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one for each environment, got {len(seed)}")
        return list(seed)

    def _reset_mask(self, options: dict[str, Any] | None) -> np.ndarray:
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        if mask.shape != (self.num_envs,) or mask.dtype != bool:
            raise ValueError(f"reset_mask must be bool ({self.num_envs},), got {mask.dtype} {mask.shape}")
        never_reset = [i for i in np.flatnonzero(~mask).tolist() if self._current[i] is None]
        if never_reset:
            raise ValueError(f"reset_mask leaves out environments that have never been reset: {never_reset}")
        return mask

    @property
    def num_problems(self) -> int | None:
        """How many problems there are, where they are a finite set: the seeds below visit each once; else None."""
        return self._problems.num_problems

    def state_dict(self) -> dict[str, Any]:
        """What the problems depend on beside the seeds, as JSON takes it: where a curriculum stands, else empty."""
        return self._problems.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: It is that of another task.
        """
        self._problems.load_state_dict(state)

    @property
    def problems(self) -> list[Problem]:
        """The current problem of each environment, references included.

        Raises:
            ResetNeeded: `reset` has not been called.
        """
        current = [problem for problem in self._current if problem is not None]
        if len(current) < self.num_envs:
            raise ResetNeeded("there are no problems yet: call reset() first")
        return current

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Score one completion per environment in a single reward call, and end all episodes.

        Returns:
            Empty strings, rewards (num_envs,) float64, terminated (all True), truncated (all False), and the infos of
            `step_info` as arrays with Gymnasium's `_key` masks.

        Raises:
            ResetNeeded: An episode is over, or none has begun.
            TypeError: An action is not a string.
            ValueError: The number of actions is not `num_envs`.
        """
        problems = self.problems
        if len(actions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} completions, one for each environment, got {len(actions)}")
        for action in actions:
            if not isinstance(action, str):
                raise TypeError(f"an action is a completion (str), got {type(action).__name__}")
        if self._done.any():
            over = np.flatnonzero(self._done).tolist()
            raise ResetNeeded(f"the episodes of environments {over} are over: call reset() before the next step()")
        results = self._reward([p.prompt for p in problems], list(actions), [p.reference for p in problems])
        self._done[:] = True
        infos: dict[str, Any] = {}
        for i, (result, problem) in enumerate(zip(results, problems, strict=True)):
            infos = self._add_info(infos, step_info(result, problem), i)
            self._text[i] = f"prompt: {problem.prompt}\ncompletion: {actions[i]}\n{result.outcome}: {result.reward:g}"
        rewards = np.array([result.reward for result in results], dtype=np.float64)
        return ("",) * self.num_envs, rewards, self._done.copy(), np.zeros(self.num_envs, dtype=bool), infos

    def render(self) -> tuple[str, ...] | None:
        """Each episode so far as text in mode `"ansi"`; None otherwise."""
        return tuple(self._text) if self.render_mode == "ansi" else None
