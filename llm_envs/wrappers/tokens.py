"""What both token views share: the tokenizer's side of a task, and rows of token ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from llm_envs.chat_template import completion_text, opened_reasoning_of_ids, template_marks

NOTHING = -1
"""What fills a row behind its last token. It is no token id, so that every id, also that of padding, means itself."""
MAX_EXACT_ID = 2**24
"""Libraries that keep observations and actions as float32 hold whole numbers exactly up to here."""


class TokenView(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs, ABC):
    """A text environment whose observations and actions are token ids; the base of both views.

    Args:
        env: An environment of text, such as a `CompletionEnv`: an episode is one completion.
        tokenizer: A tokenizer of transformers, or an object with the same `decode`, `__len__` and `eos_token_id`.
        max_completion_tokens: A completion is cut at this length, the end token included.
        max_prompt_tokens: The longest prompt that fits into an observation.
        encode: Turns a prompt into ids; by default the chat template with the prompt as the user's turn, or where the
            tokenizer has none, the prompt as it is.
        end_token_ids: The tokens that end a completion; by default the tokenizer's `eos_token_id`, and the token by
            which its chat template ends a turn.
        vocab_size: How many ids the model gives a probability; by default `len(tokenizer)`.

    Raises:
        ValueError: A limit is not positive, no token ends a completion, or the vocabulary is too large for float32.
    """

    def __init__(
        self,
        env: gymnasium.Env[str, str],
        tokenizer: Any,
        max_completion_tokens: int,
        *,
        max_prompt_tokens: int = 256,
        encode: Callable[[str], Sequence[int]] | None = None,
        end_token_ids: Collection[int] | None = None,
        vocab_size: int | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(
            self,
            _disable_deepcopy=True,
            tokenizer=tokenizer,
            max_completion_tokens=max_completion_tokens,
            max_prompt_tokens=max_prompt_tokens,
            encode=encode,
            end_token_ids=end_token_ids,
            vocab_size=vocab_size,
        )
        gymnasium.Wrapper.__init__(self, env)
        for name, value in (
            ("max_completion_tokens", max_completion_tokens),
            ("max_prompt_tokens", max_prompt_tokens),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._marks = template_marks(tokenizer)
        if end_token_ids is None:
            eos = frozenset() if tokenizer.eos_token_id is None else frozenset({tokenizer.eos_token_id})
            end_token_ids = eos | self._marks.turn_end_ids
        if not end_token_ids:
            raise ValueError("no token ends a completion: the tokenizer has no eos_token_id; pass end_token_ids")
        self.max_completion_tokens = max_completion_tokens
        self.max_prompt_tokens = max_prompt_tokens
        self.end_token_ids = frozenset(end_token_ids)
        self.vocab_size = len(tokenizer) if vocab_size is None else vocab_size
        check_vocab_size(self.vocab_size)
        self._tokenizer = tokenizer
        self._encode = encode or self._encode_as_user
        self._prompt_ids: list[int] = []

    def _encode_as_user(self, prompt: str) -> list[int]:
        if self._tokenizer.chat_template is None:
            return list(self._tokenizer(prompt)["input_ids"])
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Returns:
            The observation, and the environment's info with the prompt as text under `"prompt"`.

        Raises:
            ValueError: The prompt has more tokens than `max_prompt_tokens`.
        """
        prompt, info = self.env.reset(seed=seed, options=options)
        self._prompt_ids = list(self._encode(prompt))
        check_prompt_length(len(self._prompt_ids), self.max_prompt_tokens, prompt)
        return self._start(), {**info, "prompt": prompt}

    @abstractmethod
    def _start(self) -> np.ndarray:
        """Begin an episode, and return its first observation."""

    def _finish(self, ids: Sequence[int]) -> tuple[float, dict[str, Any]]:
        """Score a completion; its reward, and the environment's info with the completion as text.

        Where the prompt ends with an opened block of reasoning (`<think>`), the text begins with that mark.

        Raises:
            NotImplementedError: The environment's episode goes on after it.
        """
        opened = opened_reasoning_of_ids(self._tokenizer, self._prompt_ids, self._marks.generation_prompt)
        text = opened + completion_text(self._tokenizer, ids, self.end_token_ids)
        _, reward, terminated, truncated, info = self.env.step(text)
        if not (terminated or truncated):
            raise NotImplementedError("an episode of several turns has no token view: it went on after one completion")
        return float(reward), {**info, "completion": text, "truncated_by_tokens": ids[-1] not in self.end_token_ids}


def check_vocab_size(vocab_size: int) -> None:
    """Refuse a vocabulary whose ids would be rounded.

    Raises:
        ValueError: It has more than 2**24 ids.
    """
    if vocab_size > MAX_EXACT_ID:
        raise ValueError(f"a vocabulary of {vocab_size} ids has ids that float32 cannot hold exactly (beyond 2**24)")


def check_prompt_length(length: int, max_prompt_tokens: int, prompt: str) -> None:
    """Refuse a prompt that does not fit, instead of cutting it.

    Raises:
        ValueError: It has more tokens than `max_prompt_tokens`.
    """
    if length > max_prompt_tokens:
        raise ValueError(
            f"a prompt of {length} tokens does not fit into observations of max_prompt_tokens={max_prompt_tokens}; "
            f"raise it. The prompt begins: {prompt[:80]!r}"
        )


def row_space(length: int, vocab_size: int) -> Box:
    """The space of rows of `length` token ids; MultiDiscrete would be one-hot encoded by stable-baselines3."""
    return Box(NOTHING, vocab_size - 1, (length,), np.int64)


def as_row(ids: Sequence[int], length: int) -> np.ndarray:
    """(length,) the ids, then `NOTHING`."""
    row = np.full(length, NOTHING, dtype=np.int64)
    row[: len(ids)] = ids
    return row


def through_first_end(ids: Sequence[int] | np.ndarray, end_token_ids: Collection[int]) -> list[int]:
    """The ids up to and including the first end token; all of them where there is none.

    >>> through_first_end([5, 6, 1, 7], {1})
    [5, 6, 1]
    """
    for i, token in enumerate(ids):
        if token in end_token_ids:
            return [int(token) for token in ids[: i + 1]]
    return [int(token) for token in ids]
