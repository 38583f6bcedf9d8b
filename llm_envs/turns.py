"""Episodes of several turns: what an environment says between two completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llm_envs.problem import Problem
from rewards.base import RewardResult

Reply = Callable[[Problem, Sequence[str], RewardResult], str | None]
"""What an environment says next: a function of the problem, the completions of the episode so far, and the verdict on
the latest of them. None ends the episode, whose reward is that verdict's. It must depend on its arguments alone."""


def next_message(
    reply: Reply | None, max_turns: int, problem: Problem, completions: Sequence[str], result: RewardResult
) -> str | None:
    """The environment's message after a completion; None where the episode is over.

    Raises:
        TypeError: `reply` returns neither a text nor None.
    """
    if reply is None or len(completions) >= max_turns:
        return None
    message = reply(problem, tuple(completions), result)
    if message is not None and not isinstance(message, str):
        raise TypeError(f"a reply must be a text, or None at the end of an episode, got {type(message).__name__}")
    return message


def check_turns(reply: Reply | None, max_turns: int) -> None:
    """Refuse a number of turns that does not fit.

    Raises:
        TypeError: `reply` cannot be called.
        ValueError: `max_turns` is below 1, or above 1 without a `reply`, or 1 with one.
    """
    if reply is not None and not callable(reply):
        raise TypeError(f"reply must be callable, got {type(reply).__name__}")
    if (reply is None and max_turns != 1) or (reply is not None and max_turns < 2):
        raise ValueError(f"max_turns must be at least 2 with a reply and 1 without, got {max_turns}")
