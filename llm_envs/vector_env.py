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
from llm_envs.scoring import score_completions
from llm_envs.spaces import MAX_COMPLETION_CHARS, Unicode
from llm_envs.stream import ProblemStream
from llm_envs.turns import Reply, check_turns, next_message
from rewards.base import Reward


class CompletionVectorEnv(VectorEnv[tuple[str, ...], Sequence[str | None], np.ndarray]):
    """`num_envs` copies of a `CompletionEnv` whose completions are scored together.

    Autoreset is disabled: in an episode of one step, an automatic reset would swallow every second action. Call `reset`
    after an episode; with `options={"reset_mask": mask}` only the environments in the mask are reset.

    Args:
        problems: The stream to draw from.
        reward: Scores a batch of completions.
        num_envs: How many episodes run side by side.
        render_mode: None or `"ansi"`.
        reply: What is said between two completions, for a task of several turns.
        max_turns: The most completions in an episode.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi"],
        "autoreset_mode": AutoresetMode.DISABLED,
    }

    def __init__(
        self,
        problems: ProblemStream,
        reward: Reward,
        num_envs: int = 1,
        render_mode: str | None = None,
        reply: Reply | None = None,
        max_turns: int = 1,
    ) -> None:
        check_turns(reply, max_turns)
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
        self._reply = reply
        self._max_turns = max_turns
        self._completions: list[list[str]] = [[] for _ in range(num_envs)]

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
            self._completions[i] = []
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
        self, actions: Sequence[str | None]
    ) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Score one completion per environment in a single reward call.

        Args:
            actions: A completion for each environment; None for one whose episode is over, which then stays over
                with the empty observation and a reward of 0.

        Returns:
            The next messages (empty where an episode is over), rewards (num_envs,) float64, terminated, truncated (all
            False), and the infos of `step_info` as arrays with Gymnasium's `_key` masks.

        Raises:
            ResetNeeded: There is a completion for an episode that is over, or none has begun.
            TypeError: An action is neither a string nor None for an episode that is over.
            ValueError: The number of actions is not `num_envs`, or the reward's results are not as many.
        """
        problems = self.problems
        if len(actions) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} completions, one for each environment, got {len(actions)}")
        given = [i for i, action in enumerate(actions) if action is not None or not self._done[i]]
        for i in given:
            if not isinstance(actions[i], str):
                raise TypeError(f"an action is a completion (str), got {type(actions[i]).__name__}")
        over = [i for i in given if self._done[i]]
        if over or not given:
            which = f"environments {over}" if given else "all environments"
            raise ResetNeeded(f"the episodes of {which} are over: call reset() before the next step()")
        completions = {i: str(actions[i]) for i in given}
        prompts, references = [problems[i].prompt for i in given], [problems[i].reference for i in given]
        results = score_completions(self._reward, prompts, list(completions.values()), references)
        observations = [""] * self.num_envs
        rewards = np.zeros(self.num_envs)
        infos: dict[str, Any] = {}
        for i, result in zip(given, results, strict=True):
            self._completions[i].append(completions[i])
            message = next_message(self._reply, self._max_turns, problems[i], self._completions[i], result)
            self._done[i] = message is None
            infos = self._add_info(infos, step_info(result, problems[i], over=message is None), i)
            self._text[i] += f"\ncompletion: {completions[i]}\n"
            if message is None:
                rewards[i] = result.reward
                self._text[i] += f"{result.outcome}: {result.reward:g}"
            else:
                observations[i] = message
                self._text[i] += f"reply: {message}"
        return tuple(observations), rewards, self._done.copy(), np.zeros(self.num_envs, dtype=bool), infos

    def render(self) -> tuple[str, ...] | None:
        """Each episode so far as text in mode `"ansi"`; None otherwise."""
        return tuple(self._text) if self.render_mode == "ansi" else None
