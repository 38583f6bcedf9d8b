"""Prompts that leave no room for a completion: drawing others in their place, and counting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from agents.policies import PromptTooLong
from agents.policies.language_model import TooLong

_ATTEMPTS = 100


def seeds_that_fit(
    seeds: Sequence[int],
    draw: Callable[[int], list[int]],
    prompts_of: Callable[[Sequence[int]], list[str]],
    fits: Callable[[str], bool],
    count: Counter[str],
) -> list[int]:
    """As many seeds as are given, with further ones behind those whose prompts fit.

    Args:
        seeds: The problems that are wanted.
        draw: Gives the seeds of further problems.
        prompts_of: The prompts of problems.
        fits: Whether a prompt leaves room for a completion.
        count: `prompts_skipped` is counted in it.

    Raises:
        PromptTooLong: Of a hundred times as many prompts too few fit.
    """
    found: list[int] = []
    skipped = 0
    candidates = list(seeds)
    for _ in range(_ATTEMPTS):
        prompts = prompts_of(candidates)
        fitting = [seed for seed, prompt in zip(candidates, prompts, strict=True) if fits(prompt)]
        skipped += len(candidates) - len(fitting)
        found += fitting
        if len(found) == len(seeds):
            count["prompts_skipped"] += skipped
            return found
        candidates = draw(len(seeds) - len(found))
    raise PromptTooLong(
        f"of {len(found) + skipped} prompts only {len(found)} leave room for a completion: lower "
        f"max_completion_tokens or take the end of each (too_long='truncate'). The last begins: {prompts[-1][:80]!r}"
    )


def too_long_metrics(too_long: TooLong, count: Counter[str]) -> dict[str, float]:
    """What was counted since the last call; nothing where such prompts are errors."""
    name = {"skip": "prompts_skipped", "truncate": "prompts_truncated"}.get(too_long)
    return {} if name is None else {name: count.pop(name, 0)}
