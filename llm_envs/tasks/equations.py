"""`llm_envs/Equations-v0`: linear and quadratic equations, and systems of linear ones."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_choice, check_level, nonzero, pick, polynomial, whole
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

KINDS = ("linear", "quadratic", "system")
LEVELS = 4
_REWARD = MathReward(rules=MARKED_RULES)
_LETTERS = "xyzabnt"


def linear(rng: np.random.Generator, level: int) -> Problem:
    """`ax + b = cx + d`; from level 2 on, the solution may be a fraction."""
    bound = (9, 12, 20, 50)[level]
    letter = pick(rng, _LETTERS)
    a, b = nonzero(rng, bound), nonzero(rng, 2 * bound)
    c = 0 if level == 0 else nonzero(rng, bound)
    while c == a:
        c = nonzero(rng, bound)
    if level < 2:
        value = Fraction(nonzero(rng, bound))
        d = int(a * value) + b - int(c * value)
    else:
        d = nonzero(rng, 2 * bound)
        value = Fraction(d - b, a - c)
    left, right = polynomial([b, a], letter), polynomial([d, c], letter)
    steps = f"{polynomial([0, a - c], letter)} = {d - b}"
    return _problem(f"Solve for {letter}: {left} = {right}.", str(value), f"{steps}, so {letter} = {value}.", level)


def quadratic(rng: np.random.Generator, level: int) -> Problem:
    """A quadratic equation with two real solutions; from level 3 on they may be irrational."""
    letter = pick(rng, _LETTERS)
    bound = (9, 12, 9, 12)[level]
    if level < 3:
        lead = 1 if level < 2 else nonzero(rng, 5)
        low, high = sorted((nonzero(rng, bound), nonzero(rng, bound)))
        while low == high:
            high = nonzero(rng, bound)
        low, high = sorted((low, high))
        coefficients = [lead * low * high, -lead * (low + high), lead]
        roots, shown = f"{low}, {high}", f"{letter} = {low} or {letter} = {high}"
    else:  # (x - p)^2 = q
        p, q = nonzero(rng, bound), whole(rng, 2, 60)
        while isqrt(q) ** 2 == q:
            q = whole(rng, 2, 60)
        coefficients = [p * p - q, -2 * p, 1]
        roots = f"{p} - \\sqrt{{{q}}}, {p} + \\sqrt{{{q}}}"
        shown = f"({letter} {'-' if p > 0 else '+'} {abs(p)})^2 = {q}"
    moved = nonzero(rng, 9) if level == 1 else 0  # something to bring to the other side
    left = polynomial([coefficients[0] + moved, *coefficients[1:]], letter)
    prompt = f"Find all real solutions: {left} = {moved}. Separate them by a comma."
    return _problem(prompt, roots, f"It is {polynomial(coefficients, letter)} = 0, so {shown}.", level)


def system(rng: np.random.Generator, level: int) -> Problem:
    """Two linear equations in two unknowns, three in three from level 2 on, with one whole solution."""
    size = 2 if level < 2 else 3
    letters = ("x", "y", "z")[:size]
    bound = (4, 9, 4, 9)[level]
    values = [nonzero(rng, bound) for _ in letters]
    while True:
        rows = [[nonzero(rng, bound) for _ in letters] for _ in letters]
        if round(float(np.linalg.det(np.array(rows)))) != 0:
            break
    sides = [sum(a * v for a, v in zip(row, values, strict=True)) for row in rows]
    equations = [f"{_combination(row, letters)} = {side}" for row, side in zip(rows, sides, strict=True)]
    names = f"({', '.join(letters)})"
    listed = ", ".join(equations[:-1]) + f" and {equations[-1]}"
    reference = f"({', '.join(map(str, values))})"
    checked = "; ".join(
        " + ".join(f"{a}*({v})" for a, v in zip(row, values, strict=True)) + f" = {side}"
        for row, side in zip(rows, sides, strict=True)
    )
    return _problem(f"Solve {listed}. Give {names}.", reference, f"It is {reference}, since {checked}.", level)


def _combination(coefficients: list[int], letters: tuple[str, ...]) -> str:
    text = ""
    for coefficient, letter in zip(coefficients, letters, strict=True):
        piece = polynomial([0, abs(coefficient)], letter)
        text += (" - " if coefficient < 0 else " + ") + piece if text else ("-" if coefficient < 0 else "") + piece
    return text


def _problem(question: str, reference: str, steps: str, level: int) -> Problem:
    return Problem(
        prompt=f"{question} {_REWARD.instruction}",
        reference=reference,
        solution=f"{steps} {boxed(reference)}",
        metadata={"level": level},
        key=question,
    )


_MAKERS = {"linear": linear, "quadratic": quadratic, "system": system}


@register_task("llm_envs/Equations-v0", reward=_REWARD)
def equations(rng: np.random.Generator, level: int = 0, kind: str | None = None) -> Problem:
    """Solve an equation or a system of equations.

    Args:
        rng: Source of randomness.
        level: 0 to 3: larger coefficients; unknowns on both sides and terms to move (1), solutions that are fractions,
            leading coefficients, three unknowns (2), irrational solutions (3).
        kind: `"linear"`, `"quadratic"`, `"system"`, or None for any of them.

    Raises:
        ValueError: An argument is out of range.
    """
    check_level(level, LEVELS)
    check_choice("kind", kind, KINDS)
    return _MAKERS[kind or pick(rng, KINDS)](rng, level)
