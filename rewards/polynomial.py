r"""The reward for polynomials where the form counts: expanded, factored, an antiderivative with its constant.

`MathReward` pays any expression that equals the reference. Where a task asks to expand `(x + 1)(x + 2)`, that
expression is the question itself. Here the answer is read by the same parser (`rewards.math.parser`) and its tree is
looked at; the arithmetic is exact, on rational coefficients, in the calling process and without sympy.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rewards.base import InvalidReference, Outcome
from rewards.extract import tidy
from rewards.marked_answer import MarkedAnswerReward
from rewards.math.nodes import Node, Unreadable
from rewards.math.numerals import TooLarge
from rewards.math.parser import parse

FORMS = ("expanded", "factored", "antiderivative", "any")
MAX_DEGREE = 40
MAX_CHARACTERS = 500

_CONSTANTS = frozenset("CcKk")
# f(x), F(x), p'(x), y, dy/dx: what an answer may be said to be the value of
_NAME = re.compile(r"[a-zA-Z]'{0,2}\([a-z]\)|[yFfp]'{0,2}|d[a-z]/d[a-z]|\\frac\{d[a-z]\}\{d[a-z]\}")

Polynomial = tuple[Fraction, ...]
"""Coefficients from the constant term upwards, the last one not zero; empty for zero."""


@dataclass(frozen=True, slots=True)
class ExpectedPolynomial:
    """A polynomial, and the form in which it is asked for."""

    value: Polynomial
    form: str
    variable: str
    factors: Mapping[Polynomial, int]

    def is_answered_by(self, text: str) -> bool:
        """Return whether a text is the polynomial in that form.

        Raises:
            TooLarge: It is too long, or its degree too high.
            Unreadable: It is no polynomial.
        """
        if len(text) > MAX_CHARACTERS:
            raise TooLarge(f"a polynomial of {len(text)} characters")
        *left, right = text.split("=")
        node = parse(right)
        if len(left) > 1 or (left and not self._names(left[0], node)):
            return False
        if self.form == "antiderivative":
            return self._is_antiderivative(node)
        if _polynomial(node, self.variable) != self.value:
            return False
        if self.form == "expanded":
            return _is_expanded(node, self.variable)
        return self.form == "any" or self._is_factored(node)

    def _names(self, left: str, right: Node) -> bool:
        """Whether the left side of an equation is a name of the answer, or equal to it."""
        if _NAME.fullmatch(left.strip().replace(" ", "")):
            return True
        return self.form != "antiderivative" and _polynomial(parse(left), self.variable) == _polynomial(
            right, self.variable
        )

    def _is_antiderivative(self, node: Node) -> bool:
        letters = {name for name in _letters(node) if name in _CONSTANTS and name != self.variable}
        if len(letters) != 1 or node.op != "+":
            return False
        # the letter is a term of its own, added or subtracted once
        constants = [term for term in node.args if _letters(term) == letters]
        rest = [term for term in node.args if not _letters(term) & letters]
        if len(constants) != 1 or len(constants) + len(rest) != len(node.args) or not _is_plus_or_minus(constants[0]):
            return False
        value: Polynomial = ()
        for term in rest:
            value = _add(value, _polynomial(term, self.variable))
        return _without_constant(value) == self.value

    def _is_factored(self, node: Node) -> bool:
        factors: Counter[Polynomial] = Counter()
        for factor, times in _factors(node):
            value = _polynomial(factor, self.variable)
            if len(value) < 2:
                continue  # a number
            if not _is_expanded(factor, self.variable) or not _is_primitive(value):
                return False
            factors[_positive(value)] += times
        return factors == self.factors


@dataclass(frozen=True, slots=True)
class PolynomialReward(MarkedAnswerReward[ExpectedPolynomial]):
    r"""1.0 for a polynomial that equals the reference and has the form that was asked for.

    A reference is a mapping with `value`, a polynomial in one variable, and `form`:

    - `"expanded"`: a sum of terms `c x^n`, each power once, in any order, and no term that is zero;
    - `"factored"`: a product of a number and polynomials that are multiplied out, have whole coefficients without a
      common divisor and are those of the reference (up to order and sign), repeated ones written out or as powers;
    - `"antiderivative"`: the reference, which has no constant, plus one letter `C`, `c`, `K` or `k` for the constant,
      and perhaps a number; without the letter the answer is one antiderivative and not all of them, and wrong;
    - `"any"`: an equal polynomial in any form.

    `f(x) = ...` and `y = ...` name the answer and are allowed, as is an equation whose left side equals the right one.
    """

    def read_reference(self, reference: Any) -> ExpectedPolynomial:
        """Return the polynomial and its form.

        Raises:
            InvalidReference: `reference` is no polynomial of one of the forms.
        """
        return _expected(reference)

    def judge(self, answer: str, expected: ExpectedPolynomial) -> Outcome:
        """Return what an answer is."""
        try:
            return Outcome.CORRECT if expected.is_answered_by(answer) else Outcome.WRONG
        except (TooLarge, RecursionError):
            return Outcome.TOO_LARGE
        except Unreadable:
            return Outcome.UNPARSED


@lru_cache(maxsize=4096)
def _read_reference(value: str, form: str) -> ExpectedPolynomial:
    if form not in FORMS:
        raise InvalidReference(f"'form' must be one of {FORMS}, got {form!r:.100}")
    try:
        node = parse(tidy(value))
        letters = _letters(node)
        if len(letters) != 1:
            raise InvalidReference(f"expected a polynomial in one variable, got {value!r:.200}")
        (variable,) = letters
        polynomial = _polynomial(node, variable)
        factors: Counter[Polynomial] = Counter()
        if form == "factored":
            for factor, times in _factors(node):
                read = _polynomial(factor, variable)
                if len(read) > 1:
                    factors[_positive(read)] += times
    except (Unreadable, TooLarge, RecursionError) as error:
        raise InvalidReference(f"the reference {value!r:.200} cannot be used: {error}") from error
    if form == "antiderivative" and (not polynomial or polynomial[0] != 0):
        raise InvalidReference(f"an antiderivative is given without its constant, got {value!r:.200}")
    if not all(_is_primitive(factor) for factor in factors):
        raise InvalidReference(f"a factor of {value!r:.200} has coefficients that are not whole or share a divisor")
    return ExpectedPolynomial(polynomial, form, variable, factors)


def _expected(reference: Any) -> ExpectedPolynomial:
    if not isinstance(reference, Mapping) or set(reference) != {"value", "form"}:
        raise InvalidReference(f"expected a mapping with 'value' and 'form', got {reference!r:.200}")
    if not isinstance(reference["value"], str) or not isinstance(reference["form"], str):
        raise InvalidReference(f"'value' and 'form' must be texts, got {reference!r:.200}")
    return _read_reference(reference["value"], reference["form"])


# --- trees ------------------------------------------------------------------------------------------------------------


def _polynomial(node: Node, variable: str) -> Polynomial:
    """The coefficients of an expression.

    Raises:
        Unreadable: It is no polynomial in the variable.
        TooLarge: Its degree exceeds the cap.
    """
    if node.value is not None and node.op in ("number", "+", "*", "/", "^"):
        return _trimmed((node.value,))
    if node.op == "symbol" and node.name == variable:
        return (Fraction(0), Fraction(1))
    if node.op == "+":
        total: Polynomial = ()
        for arg in node.args:
            total = _add(total, _polynomial(arg, variable))
        return total
    if node.op == "*":
        product: Polynomial = (Fraction(1),)
        for arg in node.args:
            product = _multiply(product, _polynomial(arg, variable))
        return product
    if node.op == "/":
        bottom = node.args[1].value
        if bottom is None:
            raise Unreadable("a quotient that is not a polynomial")
        return _trimmed(tuple(c / bottom for c in _polynomial(node.args[0], variable)))
    if node.op == "^":
        power: Polynomial = (Fraction(1),)
        base = _polynomial(node.args[0], variable)
        for _ in range(_exponent(node)):
            power = _multiply(power, base)
        return power
    raise Unreadable(f"not a polynomial in {variable}")


def _exponent(node: Node) -> int:
    exponent = node.args[1].value
    if exponent is None or exponent.denominator > 1 or exponent < 0:
        raise Unreadable("an exponent that is not a whole number")
    if exponent > MAX_DEGREE:
        raise TooLarge(f"an exponent beyond {MAX_DEGREE}")
    return int(exponent)


def _is_expanded(node: Node, variable: str) -> bool:
    """Whether it is a sum of terms, each power once, or a single term."""
    terms = node.args if node.op == "+" else (node,)
    powers = [_power_of_term(term, variable) for term in terms]
    return None not in powers and len(set(powers)) == len(powers)


def _power_of_term(node: Node, variable: str) -> int | None:
    """The power of `c x^n`, also of `x^n / c` and `c`; None where it is no such term."""
    if not _letters(node):
        written = node.op == "number" or node.is_evaluated
        return 0 if written and node.value not in (None, 0) else None
    if node.op == "symbol":
        return 1
    if node.op == "^":
        return _exponent(node) if node.args[0].op == "symbol" else None
    if node.op == "/":
        whole = node.args[1].op == "number"
        return _power_of_term(node.args[0], variable) if whole else None
    if node.op == "*":
        numbers = [arg for arg in node.args if not _letters(arg)]
        powers = [arg for arg in node.args if _letters(arg)]
        signs = [arg for arg in numbers if arg.value == -1]
        written = all(arg.is_evaluated and arg.value for arg in numbers) and len(numbers) - len(signs) <= 1
        if len(numbers) > len(signs) and any(arg.op == "*" for arg in powers):
            return None  # 4(2x^2)
        return _power_of_term(powers[0], variable) if len(powers) == 1 and written and len(signs) <= 1 else None
    return None


def _factors(node: Node) -> list[tuple[Node, int]]:
    """The factors of a product with their multiplicities; a quotient by a number is one by its top."""
    if node.op == "*":
        return [factor for arg in node.args for factor in _factors(arg)]
    if node.op == "/":
        return _factors(node.args[0])
    if node.op == "^":
        times = _exponent(node)
        return [(factor, times * inner) for factor, inner in _factors(node.args[0])]
    return [(node, 1)]


def _letters(node: Node) -> set[str]:
    names = {node.name} if node.op in ("symbol", "constant") else set()
    return names.union(*(_letters(arg) for arg in node.args))


def _is_plus_or_minus(node: Node) -> bool:
    """Whether it is a letter, or minus one."""
    if node.op == "symbol":
        return True
    return node.op == "*" and len(node.args) == 2 and node.args[0].value == -1 and node.args[1].op == "symbol"


# --- coefficients -----------------------------------------------------------------------------------------------------


def _trimmed(polynomial: Polynomial) -> Polynomial:
    length = len(polynomial)
    while length and polynomial[length - 1] == 0:
        length -= 1
    return polynomial[:length]


def _add(left: Polynomial, right: Polynomial) -> Polynomial:
    size = max(len(left), len(right))
    padded = [[*some, *[Fraction(0)] * (size - len(some))] for some in (left, right)]
    return _trimmed(tuple(a + b for a, b in zip(*padded, strict=True)))


def _multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    if not left or not right:
        return ()
    if len(left) + len(right) - 2 > MAX_DEGREE:
        raise TooLarge(f"a degree beyond {MAX_DEGREE}")
    product = [Fraction(0)] * (len(left) + len(right) - 1)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            product[i + j] += a * b
    return _trimmed(tuple(product))


def _without_constant(polynomial: Polynomial) -> Polynomial:
    return _trimmed((Fraction(0), *polynomial[1:]))


def _is_primitive(polynomial: Polynomial) -> bool:
    """Whether the coefficients are whole and have no common divisor."""
    return all(c.denominator == 1 for c in polynomial) and math.gcd(*(int(c) for c in polynomial)) == 1


def _positive(polynomial: Polynomial) -> Polynomial:
    """The polynomial or its negative, whichever has a positive leading coefficient."""
    return polynomial if polynomial[-1] > 0 else tuple(-c for c in polynomial)
