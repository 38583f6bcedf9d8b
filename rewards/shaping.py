"""Rewards for what a completion looks like, not for what it answers: terms beside a verdict (`rewards.compose`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.base import Outcome, RewardResult, check_lengths

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class TagsReward:
    """1.0 for a completion that is these tags in this order, each once and with text in it, and nothing beside them.

    Attributes:
        tags: Their names: the default is `<think>...</think><answer>...</answer>`, white space around each allowed.
        opened: Whether the prompt ends with the first opening tag, as some chat templates do. A completion then begins
            inside it, or with the tag where the policy writes what its template opened before the text.

    Raises:
        ValueError: There is no tag, one occurs twice, or one is no name.
    """

    tags: tuple[str, ...] = ("think", "answer")
    opened: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.tags, tuple) or not self.tags or len(set(self.tags)) < len(self.tags):
            raise ValueError(f"tags must be different names, at least one, got {self.tags!r}")
        for tag in self.tags:
            if not _NAME.fullmatch(tag):
                raise ValueError(f"a tag is a name without brackets, such as 'think', got {tag!r}")

    @property
    def instruction(self) -> str:
        """A sentence for the prompt that asks for the form."""
        return f"Write your reply as {' '.join(f'<{tag}>...</{tag}>' for tag in self.tags)}."

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion; the references are not looked at.

        Raises:
            ValueError: The three sequences differ in length.
        """
        check_lengths(prompts, completions, references)
        return [RewardResult(float(self._has_form(completion)), Outcome.SCORED) for completion in completions]

    def _has_form(self, completion: str) -> bool:
        first = f"<{self.tags[0]}>"
        is_opened = self.opened and not completion.lstrip().startswith(first)
        rest = (first if is_opened else "") + completion
        if any(rest.count(mark) != 1 for tag in self.tags for mark in (f"<{tag}>", f"</{tag}>")):
            return False
        for tag in self.tags:
            before, _, rest = rest.partition(f"<{tag}>")
            content, _, rest = rest.partition(f"</{tag}>")
            if before.strip() or not content.strip():
                return False
        return not rest.strip()


@dataclass(frozen=True, slots=True)
class LengthReward:
    """0 for completions of up to `free` characters, from there linearly down to -1 at `limit` characters and beyond.

    The form of DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13), in characters, which are all that a reward
    sees; `GRPOConfig.overlong_buffer` is the same in tokens.

    Attributes:
        free: Characters that cost nothing.
        limit: Characters from which on it is -1.

    Raises:
        ValueError: Not `0 <= free < limit`.
    """

    free: int
    limit: int

    def __post_init__(self) -> None:
        if not 0 <= self.free < self.limit:
            raise ValueError(f"expected 0 <= free < limit, got free={self.free}, limit={self.limit}")

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion; the references are not looked at.

        Raises:
            ValueError: The three sequences differ in length.
        """
        check_lengths(prompts, completions, references)
        return [RewardResult(self._penalty(len(completion)), Outcome.SCORED) for completion in completions]

    def _penalty(self, length: int) -> float:
        return -min(1.0, max(0, length - self.free) / (self.limit - self.free))
