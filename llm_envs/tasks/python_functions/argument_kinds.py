"""Kinds of values: their annotation, their edge cases, and how others are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_WORDS = (
    "apple",
    "Banana",
    "kiwi",
    "sun",
    "Level",
    "noon",
    "a",
    "on",
    "to",
    "tree",
    "stone",
    "Moon",
    "egg",
    "data",
    "rust",
)
_LETTERS = "aabbcdeeoxyzABEZ"
_SIGNS = "  .,-!019"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        annotation: As it is written in a signature.
        noun: What a description calls a value of this kind, and the name of a variable.
        edges: Values that every problem is tried on.
        draw: Another value.
    """

    annotation: str
    noun: str
    edges: tuple[Any, ...] = ()
    draw: Callable[[np.random.Generator], Any] | None = None


def _int(rng: np.random.Generator) -> int:
    bound = (5, 12, 40, 1000)[int(rng.integers(4))]
    return int(rng.integers(-bound, bound + 1))


def _count(rng: np.random.Generator) -> int:
    return int(rng.integers(3, 25 if rng.random() < 0.5 else 120))


def _ints(rng: np.random.Generator) -> list[int]:
    bound = (5, 12, 50)[int(rng.integers(3))]
    low = 0 if rng.random() < 0.25 else -bound
    values = rng.integers(low, bound + 1, size=int(rng.integers(2, 11))).tolist()
    return sorted(values) if rng.random() < 0.1 else values


def _text(rng: np.random.Generator) -> str:
    if rng.random() < 0.5:
        return " ".join(_words(rng))
    alphabet = _LETTERS + (_SIGNS if rng.random() < 0.5 else "")
    return "".join(alphabet[int(at)] for at in rng.integers(len(alphabet), size=int(rng.integers(2, 13))))


def _word(rng: np.random.Generator) -> str:
    if rng.random() < 0.7:
        return _WORDS[int(rng.integers(len(_WORDS)))]
    return "".join(_LETTERS[int(at)] for at in rng.integers(len(_LETTERS), size=int(rng.integers(1, 7))))


def _words(rng: np.random.Generator) -> list[str]:
    return [_word(rng) for _ in range(int(rng.integers(2, 8)))]


def _grid(rng: np.random.Generator) -> list[list[int]]:
    rows, columns = (int(size) for size in rng.integers(1, 5, size=2))
    return rng.integers(-6, 10, size=(rows, columns)).tolist()


KINDS = {
    "int": Kind("int", "result", (0, 1, -1, 2, 7, -10, 100), _int),
    "count": Kind("int", "n", (0, 1, 2, 3, 10), _count),
    "bool": Kind("bool", "result"),
    "ints": Kind(
        "list[int]",
        "numbers",
        (
            [],
            [0],
            [4],
            [-3],
            [1, 2],
            [2, 2, 2],
            [5, -5, 5, 1, -2],
            [1, 2, 3, 4, 5, 6, 7, 8, 9],
            [9, 7, 7, 4, 0, -1, -6],
        ),
        _ints,
    ),
    "text": Kind("str", "text", ("", "a", "Z", " ", "aa", "abba", "a b  c", "Hello, World 42!"), _text),
    "words": Kind("list[str]", "words", ([], ["a"], ["Kiwi"], ["b", "b", "a", "b"], ["level", "go", "Tree"]), _words),
    "counts": Kind("dict[str, int]", "counts"),
    "tally": Kind("dict[int, int]", "counts"),
    "grid": Kind("list[list[int]]", "grid", ([[1]], [[-2, 3]], [[4], [0], [-1]], [[1, 2], [3, 4]]), _grid),
}
"""Name to kind. Those without `draw` are only results."""
