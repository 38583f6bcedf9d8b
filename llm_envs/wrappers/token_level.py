"""`TokenLevel`: the same task, a token a step."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete

from llm_envs.wrappers.tokens import TokenView, as_row, row_space


class TokenLevel(TokenView):
    """The token view: an action is one token, the observation is the prompt and what has been written so far.

    The reward comes with the end and is 0 before. The limit of `max_completion_tokens` *terminates*: a truncation would
    make learners bootstrap from the value of a state in which nothing can follow.

    The observation is `Box` of int64, (max_prompt_tokens + max_completion_tokens,), filled up with -1. The action is
    `Discrete(V)`. `TokenView` documents the arguments and errors.
    """

    def __init__(
        self, env: gymnasium.Env[str, str], tokenizer: Any, max_completion_tokens: int, **options: Any
    ) -> None:
        super().__init__(env, tokenizer, max_completion_tokens, **options)
        self.observation_space = row_space(self.max_prompt_tokens + max_completion_tokens, self.vocab_size)
        self.action_space = Discrete(self.vocab_size)
        self._written: list[int] = []
        self._over = True

    def _start(self) -> np.ndarray:
        self._written = []
        self._over = False
        return self._observation()

    def _observation(self) -> np.ndarray:
        return as_row(self._prompt_ids + self._written, self.max_prompt_tokens + self.max_completion_tokens)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Write a token; the end token, or the last one that fits, ends the episode and is scored.

        Raises:
            ResetNeeded: The episode is over, or none has begun.
        """
        if self._over:
            raise ResetNeeded("the episode is over: call reset() before the next step()")
        self._written.append(int(action))
        self._over = action in self.end_token_ids or len(self._written) == self.max_completion_tokens
        if not self._over:
            return self._observation(), 0.0, False, False, {}
        reward, info = self._finish(self._written)
        return self._observation(), reward, True, False, info
