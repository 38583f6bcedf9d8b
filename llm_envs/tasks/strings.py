"""`llm_envs/Strings-v0`: reverse, rotate, replace and pick letters, one step or several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.sorting import word
from llm_envs.tasks.writing import boxed, check_level, pick, whole
from rewards.exact import ExactTextReward

LEVELS = ((1, 2, 3), (1, 4, 6), (2, 3, 5), (4, 4, 6))
"""How many steps, and the fewest and most syllables of the word, of each level."""
_REWARD = ExactTextReward()
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"

Step = Callable[[np.random.Generator, str], tuple[str, str]]
"""From a text to what is to be done with it, and the result."""


def _reverse(rng: np.random.Generator, text: str) -> tuple[str, str]:
    return "reverse it", text[::-1]


def _rotate(rng: np.random.Generator, text: str) -> tuple[str, str]:
    n = whole(rng, 1, min(4, len(text) - 1))
    return f"move its first {n} letters to the end" if n > 1 else "move its first letter to the end", text[n:] + text[
        :n
    ]


def _replace(rng: np.random.Generator, text: str) -> tuple[str, str]:
    old = pick(rng, sorted(set(text)))
    new = pick(rng, [letter for letter in _ALPHABET if letter != old])
    return f"replace each {old} by {new}", text.replace(old, new)


def _every_second(rng: np.random.Generator, text: str) -> tuple[str, str]:
    return "keep its first, third, fifth letter and so on, and drop the others", text[::2]


def _remove(rng: np.random.Generator, text: str) -> tuple[str, str]:
    letter = pick(rng, sorted(set(text)))
    return f"remove each {letter}", text.replace(letter, "")


def _double(rng: np.random.Generator, text: str) -> tuple[str, str]:
    return "write each letter twice", "".join(2 * letter for letter in text)


def _upper(rng: np.random.Generator, text: str) -> tuple[str, str]:
    return "write it in capital letters", text.upper()


def _shift(rng: np.random.Generator, text: str) -> tuple[str, str]:
    n = whole(rng, 1, 3)
    moved = {letter: _ALPHABET[(i + n) % 26] for i, letter in enumerate(_ALPHABET)}
    moved |= {letter.upper(): to.upper() for letter, to in list(moved.items())}
    times = "letter" if n == 1 else f"letter that is {n} places"
    what = "replace each letter by the next one" if n == 1 else f"replace each letter by the {times} further"
    return f"{what} in the alphabet (after z comes a)", "".join(moved[letter] for letter in text)


_STEPS: tuple[Step, ...] = (_reverse, _rotate, _replace, _every_second, _remove, _double, _shift)


@register_task("llm_envs/Strings-v0", reward=_REWARD)
def strings(rng: np.random.Generator, level: int = 0) -> Problem:
    """Change a word as told; the answer is the result, letter by letter.

    Args:
        rng: Source of randomness.
        level: 0: one step on a short word; 1: one step on a longer one; 2: two steps; 3: four steps.

    Raises:
        ValueError: `level` is out of range.
    """
    check_level(level, len(LEVELS))
    count, fewest, most = LEVELS[level]
    while True:
        given = text = word(rng, whole(rng, fewest, most))
        told: list[str] = []
        results: list[str] = []
        for i in range(count):
            step = _upper if i == count - 1 and rng.random() < 0.15 else _STEPS[int(rng.integers(len(_STEPS)))]
            what, text = step(rng, text)
            told.append(what)
            results.append(text)
            if len(text) < 2:
                break
        if 2 <= len(text) <= 60 and text != given and len({given, *results}) == count + 1:
            break
    question = f"Take the word {given}. " + " ".join(
        f"{'First' if i == 0 and count > 1 else 'Then' if i else 'Now'} {what}." for i, what in enumerate(told)
    )
    return Problem(
        prompt=f"{question} What do you get? {_REWARD.instruction}",
        reference=text,
        solution=f"{' -> '.join([given, *results])}. {boxed(text)}",
        metadata={"level": level},
        key=question,
    )
