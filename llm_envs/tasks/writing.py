"""What the tasks share: levels, answers in boxes, and how polynomials are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def check_level(level: int, levels: int) -> None:
    """Refuse a level that there is not.

    Raises:
        ValueError: `level` is not one of 0 to `levels - 1`.
    """
    if not isinstance(level, int) or isinstance(level, bool) or not 0 <= level < levels:
        raise ValueError(f"level must be a whole number between 0 and {levels - 1}, got {level!r}")


def check_choice(name: str, value: str | None, choices: Sequence[str]) -> None:
    """Refuse a choice that there is not; None stands for any.

    Raises:
        ValueError: `value` is neither None nor one of `choices`.
    """
    if value is not None and value not in choices:
        raise ValueError(f"{name} must be None or one of {tuple(choices)}, got {value!r}")


def boxed(answer: object) -> str:
    r"""The answer in a box.

    >>> boxed(14)
    '\\boxed{14}'
    """
    return f"\\boxed{{{answer}}}"


def pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def whole(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(rng.integers(low, high + 1))


def nonzero(rng: np.random.Generator, bound: int) -> int:
    """A whole number from `-bound` to `bound` that is not zero."""
    value = whole(rng, 1, bound)
    return value if rng.random() < 0.5 else -value


def term(coefficient: object, variable: str, power: int) -> str:
    """One term of a polynomial, its sign in front.

    >>> term(-1, "x", 2), term("1/2", "x", 1), term(3, "x", 0)
    ('-x^2', '1/2 x', '3')
    """
    letters = "" if power == 0 else variable if power == 1 else f"{variable}^{power}"
    text = str(coefficient)
    if not letters:
        return text
    if text in ("1", "-1"):
        return text[:-1] + letters
    return f"{text} {letters}" if "/" in text else text + letters


def polynomial(coefficients: Sequence[object], variable: str = "x") -> str:
    """A polynomial as one writes it, from its coefficients, the constant term first.

    >>> polynomial([6, -5, 1])
    'x^2 - 5x + 6'
    """
    text = ""
    for power in reversed(range(len(coefficients))):
        if coefficients[power] == 0:
            continue
        piece = term(coefficients[power], variable, power)
        if not text:
            text = piece
        elif piece.startswith("-"):
            text += f" - {piece[1:]}"
        else:
            text += f" + {piece}"
    return text or "0"
