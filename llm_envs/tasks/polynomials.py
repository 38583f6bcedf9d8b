"""`llm_envs/Polynomials-v0`: expand, factor, differentiate and integrate polynomials."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_choice, check_level, nonzero, pick, polynomial, whole
from rewards.polynomial import PolynomialReward

KINDS = ("expand", "factor", "differentiate", "integrate")
LEVELS = 3
_REWARD = PolynomialReward()


def _multiplied(left: list[int], right: list[int]) -> list[int]:
    product = [0] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            product[i + j] += a * b
    return product


def _binomial(rng: np.random.Generator, bound: int, lead: int) -> list[int]:
    """`ax + b` without a common divisor, both not zero."""
    while True:
        a, b = whole(rng, 1, lead), nonzero(rng, bound)
        if gcd(a, b) == 1:
            return [b, a]


def expand(rng: np.random.Generator, level: int) -> Problem:
    """A product of two or three factors."""
    factors = [_binomial(rng, 12, (1, 6, 4)[level]) for _ in range((2, 2, 3)[level])]
    product = [1]
    for factor in factors:
        product = _multiplied(product, factor)
    asked = "".join(f"({polynomial(factor)})" for factor in factors)
    return _problem("Expand and collect like terms", asked, polynomial(product), "expanded", level)


def factor(rng: np.random.Generator, level: int) -> Problem:
    """The product of linear factors over the rational numbers, with a number in front from level 1 on."""
    number = 1 if level == 0 else whole(rng, 2, 6)
    factors = [_binomial(rng, 9, (1, 3, 2)[level]) for _ in range((2, 2, 3)[level])]
    product = [number]
    for some in factors:
        product = _multiplied(product, some)
    answer = "".join(f"({polynomial(some)})" for some in sorted(factors, key=lambda some: (some[1], some[0])))
    answer = answer if number == 1 else f"{number}{answer}"
    return _problem("Factor completely over the integers", polynomial(product), answer, "factored", level)


def _sampled(rng: np.random.Generator, degree: int, bound: int) -> list[int]:
    return [*(whole(rng, -bound, bound) for _ in range(degree)), nonzero(rng, bound)]


def differentiate(rng: np.random.Generator, level: int) -> Problem:
    """The derivative of a polynomial, from level 2 on of a product."""
    if level < 2:
        given = _sampled(rng, whole(rng, 2, (3, 5)[level]), 9)
        asked = polynomial(given)
    else:
        left, right = _sampled(rng, 2, 5), _sampled(rng, whole(rng, 1, 2), 5)
        given, asked = _multiplied(left, right), f"({polynomial(left)})({polynomial(right)})"
    answer = polynomial([power * c for power, c in enumerate(given)][1:])
    return _problem("Differentiate with respect to x", asked, answer, "any", level)


def integrate(rng: np.random.Generator, level: int) -> Problem:
    """The indefinite integral of a polynomial; its coefficients are whole numbers at level 0."""
    degree = whole(rng, 1, (2, 3, 4)[level])
    if level == 0:
        given = [(power + 1) * c for power, c in enumerate(_sampled(rng, degree, 6))]
    else:
        given = _sampled(rng, degree, 12)
    result = [Fraction(0), *(Fraction(c, power + 1) for power, c in enumerate(given))]
    return _problem(
        "Find the indefinite integral with respect to x, with + C for the constant,",
        polynomial(given),
        polynomial(result),
        "antiderivative",
        level,
    )


def _problem(task: str, asked: str, answer: str, form: str, level: int) -> Problem:
    question = f"{task} of {asked}." if task.endswith(",") else f"{task}: {asked}."
    shown = f"{answer} + C" if form == "antiderivative" else answer
    return Problem(
        prompt=f"{question} {_REWARD.instruction}",
        reference={"value": answer, "form": form},
        solution=f"The result is {shown}. {boxed(shown)}",
        metadata={"level": level, "form": form},
        key=question,
    )


_MAKERS = {"expand": expand, "factor": factor, "differentiate": differentiate, "integrate": integrate}


@register_task("llm_envs/Polynomials-v0", reward=_REWARD)
def polynomials(rng: np.random.Generator, level: int = 0, kind: str | None = None) -> Problem:
    """Expand, factor, differentiate or integrate a polynomial; the form of the answer counts.

    Args:
        rng: Source of randomness.
        level: 0 to 2: higher degrees, more factors, coefficients that are fractions.
        kind: `"expand"`, `"factor"`, `"differentiate"`, `"integrate"`, or None for any of them.

    Raises:
        ValueError: An argument is out of range.
    """
    check_level(level, LEVELS)
    check_choice("kind", kind, KINDS)
    make = _MAKERS[kind or pick(rng, KINDS)]
    problem = make(rng, level)
    # a derivative that is a number, or a polynomial that vanishes, is not worth asking
    while "x" not in str(problem.reference["value"]):
        problem = make(rng, level)
    return problem
