from __future__ import annotations

import random

import pytest
import sympy

from rewards import InvalidReference, Outcome
from rewards.polynomial import PolynomialReward

REWARD = PolynomialReward()


def outcome(answer, value, form):
    return REWARD([""], [f"\\boxed{{{answer}}}"], [{"value": value, "form": form}])[0].outcome


EXPANDED = "x^2 + 3x + 2"
FACTORED = "2(x + 1)(x + 2)"
INTEGRAL = "x^3/3 + x^2"


@pytest.mark.parametrize(
    ("answer", "value", "form", "right"),
    [
        ("x^2 + 3x + 2", EXPANDED, "expanded", True),
        ("2 + 3x + x^2", EXPANDED, "expanded", True),
        ("x^{2}+3 \\cdot x+2", EXPANDED, "expanded", True),
        ("(x^2 + 3x + 2)", EXPANDED, "expanded", True),
        ("f(x) = x^2 + 3x + 2", EXPANDED, "expanded", True),
        ("(x + 1)(x + 2) = x^2 + 3x + 2", EXPANDED, "expanded", True),
        ("(x + 1)(x + 2)", EXPANDED, "expanded", False),
        ("x^2 + 3x + 2 = (x + 1)(x + 2)", EXPANDED, "expanded", False),
        ("x^2 + x + 2x + 2", EXPANDED, "expanded", False),
        ("x^2 + 3x + 3 - 1", EXPANDED, "expanded", False),
        ("x^2 + 3x + 2 + 0", EXPANDED, "expanded", False),
        ("x(x + 3) + 2", EXPANDED, "expanded", False),
        ("x \\cdot x + 3x + 2", EXPANDED, "expanded", False),
        ("x^2 + 3x + 2 = 0", EXPANDED, "expanded", False),
        ("x = x^2 + 3x + 2", EXPANDED, "expanded", False),
        ("x^2 + 3x + 1", EXPANDED, "expanded", False),
        ("y^2 + 3y + 2", EXPANDED, "expanded", False),
        ("2(3x^2) + 3x + 2", "6x^2 + 3x + 2", "expanded", False),
        ("-(6x^2) + 3x", "-6x^2 + 3x", "expanded", True),
        ("2(x + 1)(x + 2)", FACTORED, "factored", True),
        ("2(x + 2)(x + 1)", FACTORED, "factored", True),
        ("-2(-x - 1)(x + 2)", FACTORED, "factored", True),
        ("2x^2 + 6x + 4 = 2(x + 1)(x + 2)", FACTORED, "factored", True),
        ("2x^2 + 6x + 4", FACTORED, "factored", False),
        ("(2x + 2)(x + 2)", FACTORED, "factored", False),
        ("2(x^2 + 3x + 2)", FACTORED, "factored", False),
        ("(x + 1)(x + 2)", FACTORED, "factored", False),
        ("2(x + 1)(x + 2) \\cdot 1", FACTORED, "factored", True),
        ("2(x + 1)(x + (1 + 1))", FACTORED, "factored", False),
        ("3x(x - 1)^2", "3x(x-1)^2", "factored", True),
        ("3x(x - 1)(x - 1)", "3x(x-1)^2", "factored", True),
        ("3x(x^2 - 2x + 1)", "3x(x-1)^2", "factored", False),
        ("\\frac{x^3}{3} + x^2 + C", INTEGRAL, "antiderivative", True),
        ("\\frac{1}{3}x^3 + x^2 + c", INTEGRAL, "antiderivative", True),
        ("F(x) = x^3/3 + x^2 + C", INTEGRAL, "antiderivative", True),
        ("C + x^2 + x^3/3", INTEGRAL, "antiderivative", True),
        ("x^3/3 + x^2 - C", INTEGRAL, "antiderivative", True),
        ("x^3/3 + x^2 + 5 + C", INTEGRAL, "antiderivative", True),
        ("x^3/3 + x^2", INTEGRAL, "antiderivative", False),
        ("x^3/3 + x^2 + 5", INTEGRAL, "antiderivative", False),
        ("x^3/3 + C", INTEGRAL, "antiderivative", False),
        ("x^3/3 + x^2 + Cx", INTEGRAL, "antiderivative", False),
        ("x^3/3 + x^2 + C^2", INTEGRAL, "antiderivative", False),
        ("x^3/3 + x^2 + C - C", INTEGRAL, "antiderivative", False),
        ("x^3/3 + x^2 + C + K", INTEGRAL, "antiderivative", False),
        ("x^2 + 2x + C", INTEGRAL, "antiderivative", False),
        ("C", INTEGRAL, "antiderivative", False),
        ("3(x + 1)^2", "3x^2 + 6x + 3", "any", True),
        ("\\frac{x^4 - 1}{x^2 + 1}", "x^2 - 1", "any", False),
        ("\\sin x", "x", "any", False),
    ],
)
def test_verdicts(answer, value, form, right):
    assert (outcome(answer, value, form) is Outcome.CORRECT) is right


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("x^{41}", Outcome.TOO_LARGE),
        ("(x^9 + 1)^9", Outcome.TOO_LARGE),
        ("((x + 1)^{40})^{40}", Outcome.TOO_LARGE),
        ("x + " * 200 + "x", Outcome.TOO_LARGE),
        ("(" * 200, Outcome.TOO_LARGE),
        ("x^(1/2)", Outcome.UNPARSED),
        ("x +", Outcome.UNPARSED),
        ("\\int x dx", Outcome.UNPARSED),
    ],
)
def test_what_is_not_read(answer, expected):
    assert outcome(answer, EXPANDED, "any") is expected


def test_random_products_agree_with_sympy():
    rng = random.Random(0)
    x = sympy.Symbol("x")
    for _ in range(100):
        factors = [(rng.choice([-3, -2, -1, 1, 2, 3]), rng.randint(-5, 5)) for _ in range(rng.randint(1, 3))]
        text = "".join(f"({a}x + {b})" if b >= 0 else f"({a}x - {-b})" for a, b in factors)
        value = sympy.expand(sympy.prod(a * x + b for a, b in factors))
        shown = str(value).replace("**", "^")
        assert outcome(shown, text, "expanded") is Outcome.CORRECT
        assert outcome(text, shown, "any") is Outcome.CORRECT
        wrong = str(value + rng.choice([1, x, -x])).replace("**", "^")
        assert outcome(wrong, text, "any") is not Outcome.CORRECT


@pytest.mark.parametrize(
    "reference",
    [
        None, "x", {"value": "x"}, {"value": "x", "form": "solved"}, {"value": "x + y", "form": "any"},
        {"value": "3", "form": "any"}, {"value": "x^2 + 1", "form": "antiderivative"},
        {"value": "sin x", "form": "any"},
        {"value": "(2x + 2)(x + 1)", "form": "factored"}, {"value": 3, "form": "any"}, {"value": "x +", "form": "any"},
    ],
    ids=repr,
)  # fmt: skip
def test_references_that_are_none(reference):
    with pytest.raises(InvalidReference):
        REWARD.check_reference(reference)


def test_mistakes_of_the_caller():
    with pytest.raises(ValueError, match="rules is empty"):
        PolynomialReward(rules=())
    with pytest.raises(ValueError, match="equally many"):
        REWARD([""], [], [])
    assert REWARD([""], ["x^2"], [{"value": "x^2", "form": "any"}])[0].outcome is Outcome.NO_ANSWER
