"""`TokenCompletion`: one step is one whole completion, in token ids."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import MultiDiscrete

from llm_envs.wrappers.tokens import TokenView, as_row, row_space, through_first_end


class TokenCompletion(TokenView):
    """The completion view: the prompt's ids are the observation, `max_completion_tokens` ids are the action.

    What counts of an action goes through its first end token. The episode ends with the step, also where there is no
    end token: a completion that the limit cut is over, and nothing after it has a value.

    The observation is `Box` of int64, (max_prompt_tokens,), filled up with -1; it is all -1 at the end. The action is
    `MultiDiscrete([V] * max_completion_tokens)`. `TokenView` documents the arguments and errors.
    """

    def __init__(
        self, env: gymnasium.Env[str, str], tokenizer: Any, max_completion_tokens: int, **options: Any
    ) -> None:
        super().__init__(env, tokenizer, max_completion_tokens, **options)
        self.observation_space = row_space(self.max_prompt_tokens, self.vocab_size)
        self.action_space = MultiDiscrete([self.vocab_size] * max_completion_tokens)

    def _start(self) -> np.ndarray:
        return as_row(self._prompt_ids, self.max_prompt_tokens)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Score a completion and end the episode.

        Args:
            action: (max_completion_tokens,) token ids; those after the first end token mean nothing.

        Raises:
            ValueError: The number of ids is wrong.
        """
        if len(action) != self.max_completion_tokens:
            raise ValueError(f"expected an action of {self.max_completion_tokens} token ids, got {len(action)}")
        reward, info = self._finish(through_first_end(action, self.end_token_ids))
        return as_row([], self.max_prompt_tokens), reward, True, False, info
