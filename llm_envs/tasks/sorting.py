"""`llm_envs/Sorting-v0`: put numbers or words in order."""

from __future__ import annotations

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_level, pick, whole
from rewards.exact import ExactTextReward

LEVELS = ((4, 20), (6, 99), (8, 999), (12, 9999))
"""How many items, and the largest number, of each level."""
KINDS = ("numbers", "words", "lengths")
_VOWELS, _CONSONANTS = "aeiou", "bdfgklmnprstvz"
_REWARD = ExactTextReward()


def word(rng: np.random.Generator, syllables: int) -> str:
    """A word that does not exist, so that no list of words runs out."""
    return "".join(pick(rng, _CONSONANTS) + pick(rng, _VOWELS) for _ in range(syllables))


def _distinct_words(rng: np.random.Generator, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        new = word(rng, whole(rng, 1, 3))
        found += [new] if new not in found else []
    return found


@register_task("llm_envs/Sorting-v0", reward=_REWARD)
def sorting(rng: np.random.Generator, level: int = 0, kind: str | None = None) -> Problem:
    """Sort a list; the answer is the whole list, exactly.

    Args:
        rng: Source of randomness.
        level: 0: four items; 1: six; 2: eight; 3: twelve, with larger numbers.
        kind: `"numbers"`, `"words"` (by the alphabet), `"lengths"` (words by length, then by the alphabet), or None for
            any of them.

    Raises:
        ValueError: An argument is out of range.
    """
    check_level(level, len(LEVELS))
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be None or one of {KINDS}, got {kind!r}")
    count, largest = LEVELS[level]
    kind = kind or pick(rng, KINDS)
    backwards = rng.random() < 0.5
    if kind == "numbers":
        numbers = [whole(rng, -largest if level else 0, largest) for _ in range(count)]
        items, ordered = list(map(str, numbers)), list(map(str, sorted(numbers, reverse=backwards)))
        order = "from largest to smallest" if backwards else "from smallest to largest"
    else:
        items = _distinct_words(rng, count)
        if kind == "words":
            ordered = sorted(items, reverse=backwards)
            order = "in reverse alphabetical order" if backwards else "in alphabetical order"
        else:
            ordered = sorted(items, key=lambda item: (-len(item) if backwards else len(item), item))
            order = "from longest to shortest" if backwards else "from shortest to longest"
            order += ", and those of equal length in alphabetical order"
    answer = ", ".join(ordered)
    question = f"Put these {'numbers' if kind == 'numbers' else 'words'} {order}: {', '.join(items)}."
    if items == ordered:  # nothing would be left to do, and an echo would be right
        return sorting(rng, level, kind)
    return Problem(
        prompt=f"{question} Separate them by commas. {_REWARD.instruction}",
        reference=ordered,
        solution=boxed(answer),
        metadata={"level": level, "kind": kind},
        key=question,
    )
