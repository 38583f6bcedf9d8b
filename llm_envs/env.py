"""`CompletionEnv`: a prompt is the observation, a whole completion is the action, a verifiable score is the reward."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
from gymnasium.error import ResetNeeded

from llm_envs.problem import Problem
from llm_envs.scoring import score_completions
from llm_envs.spaces import MAX_COMPLETION_CHARS, Unicode
from llm_envs.stream import ProblemStream
from llm_envs.turns import Reply, check_turns, next_message
from rewards.base import Reward, RewardResult


def step_info(result: RewardResult, problem: Problem, *, over: bool = True) -> dict[str, Any]:
    """What `step` tells beside the reward.

    Returns:
        `outcome` (str), `answer` (str, or None), `reference` once the episode is `over`, and `metrics` (dict of floats)
        where the reward has any. A reference that is a mapping is given as its JSON text: Gymnasium's vector
        environments would take it apart.
    """
    reference = problem.reference
    if isinstance(reference, Mapping):
        reference = json.dumps(dict(reference), default=repr, skipkeys=True)
    info: dict[str, Any] = {"outcome": str(result.outcome), "answer": result.answer}
    if over:
        info["reference"] = reference
    if result.metrics:
        info["metrics"] = dict(result.metrics)
    return info


class CompletionEnv(gymnasium.Env[str, str]):
    """One problem an episode: `reset` gives its prompt, one `step` takes the completion and ends the episode.

    With a `reply` an episode has up to `max_turns` steps: the observation after a completion is the environment's next
    message, and the reward before the last completion is 0. The terminal observation is the empty string.

    `reset(seed=s)` starts the stream of problems named `s`, each further `reset()` gives the stream's next problem; two
    environments reset with equal seeds get equal problems.

    Args:
        problems: The stream to draw from.
        reward: Scores a completion.
        render_mode: None, `"ansi"` (`render` returns the episode as text) or `"human"` (it is printed as it happens).
        reply: What is said between two completions, for a task of several turns.
        max_turns: The most completions in an episode.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 1}  # type: ignore[misc]

    def __init__(
        self,
        problems: ProblemStream,
        reward: Reward,
        render_mode: str | None = None,
        reply: Reply | None = None,
        max_turns: int = 1,
    ) -> None:
        check_turns(reply, max_turns)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.observation_space = Unicode()
        self.action_space = Unicode(MAX_COMPLETION_CHARS)
        self.render_mode = render_mode
        self._problems = problems
        self._reward = reward
        self._stream_seed: int | None = None
        self._index = 0
        self._problem: Problem | None = None
        self._reply = reply
        self._max_turns = max_turns
        self._completions: list[str] = []
        self._over = True
        self._text = ""

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
    def problem(self) -> Problem:
        """The current problem, its reference included.

        Raises:
            ResetNeeded: `reset` has not been called.
        """
        if self._problem is None:
            raise ResetNeeded("there is no problem yet: call reset() first")
        return self._problem

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Name of the stream of problems to start; None goes on in the current one.
            options: Not used by this environment.

        Returns:
            The prompt, and an empty info.
        """
        super().reset(seed=seed)
        if seed is not None or self._stream_seed is None:
            self._stream_seed = seed if seed is not None else int(self.np_random.integers(2**63))
            self._index = 0
        else:
            self._index += 1
        self._problem = self._problems.draw(self._stream_seed, self._index)
        self._completions = []
        self._over = False
        self._text = ""
        self._show(f"prompt: {self._problem.prompt}")
        return self._problem.prompt, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Score a completion, and end the episode or go on with the environment's next message.

        Args:
            action: The completion, any string.

        Returns:
            At the end, the empty string, the reward, True (terminated), False (truncated), and the info of
            `step_info`. Before it, the next message, 0.0, False, False, and an info without the reference.

        Raises:
            ResetNeeded: The episode is over, or none has begun.
            TypeError: The action is not a string, or the reward's result no `RewardResult`.
        """
        if not isinstance(action, str):
            raise TypeError(f"an action is a completion (str), got {type(action).__name__}")
        problem = self.problem
        if self._over:
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        [result] = score_completions(self._reward, [problem.prompt], [action], [problem.reference])
        self._completions.append(action)
        message = next_message(self._reply, self._max_turns, problem, self._completions, result)
        self._over = message is None
        self._show(f"completion: {action}")
        if message is not None:
            self._show(f"reply: {message}")
            return message, 0.0, False, False, step_info(result, problem, over=False)
        self._show(
            f"{result.outcome}: reward {result.reward:g}, answer {result.answer!r}, reference {problem.reference!r}"
        )
        return "", float(result.reward), True, False, step_info(result, problem)

    def render(self) -> str | None:
        """The episode so far as text in mode `"ansi"`; None otherwise (mode `"human"` prints by itself)."""
        return self._text if self.render_mode == "ansi" else None

    def _show(self, line: str) -> None:
        self._text += f"\n{line}" if self._text else line
        if self.render_mode == "human":
            # a completion may hold characters that the terminal's encoding lacks; rendering must not end the episode
            encoding = sys.stdout.encoding or "utf-8"
            print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
