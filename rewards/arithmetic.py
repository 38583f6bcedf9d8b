"""Expressions of whole numbers in `+ - * /` and parentheses: read by a parser of our own, exact, nothing evaluated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_TOKENS = 200
MAX_DIGITS = 12
MAX_DEPTH = 50

_TOKEN = re.compile(r"\s*([0-9]+|[-+*/()])")
_SPELLINGS = (
    ("\\left", ""),
    ("\\right", ""),
    ("\\times", "*"),
    ("\\cdot", "*"),
    ("\\div", "/"),
    ("\u00d7", "*"),
    ("\u00b7", "*"),
    ("\u22c5", "*"),
    ("\u2217", "*"),
    ("\u00f7", "/"),
    ("\u2212", "-"),
)


class NotAnExpression(ValueError):
    """The text is not an expression of whole numbers in four operations."""


class TooLong(NotAnExpression):
    """The text exceeds a cap and was not read further."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """An expression in `+ - * /`.

    Attributes:
        value: What it comes to.
        numbers: The numbers in it, in order.
    """

    value: Fraction
    numbers: tuple[int, ...]

    @property
    def operators(self) -> int:
        """How many operators it has; each joins two numbers."""
        return len(self.numbers) - 1


def read_arithmetic(text: str) -> Arithmetic:
    r"""Read an expression of whole numbers, `+ - * /` and parentheses.

    An operator stands between two numbers or brackets: there is no sign before a number and no product without `*`.
    `\times`, `\cdot`, `\div` and the typographic signs are other spellings of the operators.

    >>> read_arithmetic("(3 + 5) * 2")
    Arithmetic(value=Fraction(16, 1), numbers=(3, 5, 2))

    Raises:
        NotAnExpression: It is none, or divides by zero.
        TooLong: It has more than 200 tokens or 50 nested brackets, or a number of more than 12 digits.
    """
    reader = _Reader(_tokens(text))
    value = reader.sum()
    if reader.position != len(reader.tokens):
        raise NotAnExpression(f"unexpected {reader.tokens[reader.position]}")
    return Arithmetic(value, tuple(int(token) for token in reader.tokens if token.isdigit()))


def _tokens(text: str) -> list[str]:
    if len(text) > MAX_TOKENS * MAX_DIGITS:
        raise TooLong(f"an expression of {len(text)} characters")
    for spelling, sign in _SPELLINGS:
        text = text.replace(spelling, sign)
    text = text.strip()
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotAnExpression(f"unexpected {text[position]!a}")
        tokens.append(match[1])
        if len(match[1]) > MAX_DIGITS or len(tokens) > MAX_TOKENS:
            raise TooLong("too many tokens or digits")
        position = match.end()
    return tokens


class _Reader:
    """Recursive descent: sums of products of numbers and brackets."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def _accept(self, signs: str) -> str:
        token = self.tokens[self.position] if self.position < len(self.tokens) else ""
        if not token or token not in signs:
            return ""
        self.position += 1
        return token

    def sum(self) -> Fraction:
        value = self._product()
        while sign := self._accept("+-"):
            right = self._product()
            value = value + right if sign == "+" else value - right
        return value

    def _product(self) -> Fraction:
        value = self._atom()
        while sign := self._accept("*/"):
            right = self._atom()
            if sign == "/" and right == 0:
                raise NotAnExpression("a division by zero")
            value = value * right if sign == "*" else value / right
        return value

    def _atom(self) -> Fraction:
        if self._accept("("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise TooLong(f"nested deeper than {MAX_DEPTH}")
            value = self.sum()
            if not self._accept(")"):
                raise NotAnExpression("a bracket that is not closed")
            self.depth -= 1
            return value
        token = self.tokens[self.position] if self.position < len(self.tokens) else "the end"
        if not token.isdigit():
            raise NotAnExpression(f"expected a number, got {token}")
        self.position += 1
        return Fraction(int(token))
