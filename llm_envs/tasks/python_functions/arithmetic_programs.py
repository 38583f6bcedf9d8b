"""Levels 0 and 1: a chain of steps on one number; an expression, perhaps with a condition, on two or three."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm_envs.tasks.python_functions.program import Program

VERBS = {"+": "add", "-": "subtract", "*": "multiply by"}
_PARAMETERS = "abc"
_OPERATIONS = (
    ("the sum of {l} and {r}", "{l} + {r}"),
    ("{l} minus {r}", "{l} - {r}"),
    ("the product of {l} and {r}", "{l} * {r}"),
    ("the larger of {l} and {r}", "max({l}, {r})"),
    ("the smaller of {l} and {r}", "min({l}, {r})"),
    ("the absolute difference of {l} and {r}", "abs({l} - {r})"),
    ("the remainder of {l} divided by {k}", "{l} % {k}"),
    ("{l} divided by {k} and rounded down", "{l} // {k}"),
    ("the square of {l}", "{l} ** 2"),
    ("{k} times {l}", "{k} * {l}"),
)
_CALLS = ("max(", "min(", "abs(")  # as whole expressions: what goes inside another is in brackets
_CONDITIONS = (
    ("{l} is greater than {r}", "{l} > {r}"),
    ("{l} is less than {r}", "{l} < {r}"),
    ("{l} is greater than {k}", "{l} > {k}"),
    ("{l} is at most {k}", "{l} <= {k}"),
    ("{l} is even", "{l} % 2 == 0"),
    ("{l} is odd", "{l} % 2 == 1"),
    ("{l} is divisible by {k}", "{l} % {k} == 0"),
    ("{l} is negative", "{l} < 0"),
    ("{l} is negative or greater than {r}", "{l} < 0 or {l} > {r}"),
    ("{l} is positive and less than {r}", "0 < {l} and {l} < {r}"),
)


@dataclass(frozen=True, slots=True)
class _Text:
    """An expression in words and in code; a compound one stands in brackets inside another."""

    words: str
    code: str
    compound: bool = True

    def inside(self) -> tuple[str, str]:
        """Words and code as an operand."""
        if not self.compound:
            return self.words, self.code
        return f"({self.words})", self.code if self.code.startswith(_CALLS) else f"({self.code})"


def chain(rng: np.random.Generator) -> Program:
    """One to three steps on one number, such as `add 3, then multiply by 4`.

    >>> chain(np.random.default_rng(2)).source
    'def f(x): return (x+1+4)*5'
    """
    while True:
        steps = [("+-*"[rng.integers(3)], int(rng.integers(1, 10))) for _ in range(rng.integers(1, 4))]
        body, is_sum = "x", False
        for op, number in steps:
            if op == "*" and is_sum:
                body = f"({body})"
            body, is_sum = f"{body}{op}{number}", op != "*"
        words = ", then ".join(f"{VERBS[op]} {number}" for op, number in steps)
        if not _changes_nothing(steps):
            return Program("f", (("x", "int"),), "int", words, f"def f(x): return {body}")


def _changes_nothing(steps: list[tuple[str, int]]) -> bool:
    def run(x: int) -> int:
        for op, number in steps:
            x = {"+": x + number, "-": x - number, "*": x * number}[op]
        return x

    return run(0) == 0 and run(1) == 1


def expression(rng: np.random.Generator) -> Program:
    """An expression of two or three numbers, or two of them and a condition."""
    while True:
        names = _PARAMETERS[: int(rng.integers(2, 4))]
        if rng.random() < 0.5:
            value = _draw(rng, names, int(rng.integers(2, 4)))
            words, code = f"Return {value.words}.", f"    return {value.code}"
        else:
            condition = _apply(rng, _CONDITIONS, names, int(rng.integers(0, 2)))
            yes, no = (_draw(rng, names, int(rng.integers(1, 3))) for _ in range(2))
            words = f"If {condition.words}, return {yes.words}. Otherwise return {no.words}."
            code = f"    if {condition.code}:\n        return {yes.code}\n    return {no.code}"
            if yes == no:
                continue
        used = set(code.replace("(", " ").replace(")", " ").replace(",", " ").split())
        if used >= set(names):
            source = f"def f({', '.join(names)}):\n{code}"
            return Program("f", tuple((name, "int") for name in names), "int", words, source)


def _draw(rng: np.random.Generator, names: str, operations: int) -> _Text:
    """An expression with so many operations."""
    if operations == 0:
        if rng.random() < 0.2:
            number = str(int(rng.integers(2, 10)))
            return _Text(number, number, compound=False)
        name = names[int(rng.integers(len(names)))]
        return _Text(name, name, compound=False)
    return _apply(rng, _OPERATIONS, names, operations - 1)


def _apply(rng: np.random.Generator, table: tuple[tuple[str, str], ...], names: str, operations: int) -> _Text:
    """A row of the table on operands that have so many operations between them."""
    while True:
        words, code = table[int(rng.integers(len(table)))]
        on_the_left = int(rng.integers(0, operations + 1)) if "{r}" in code else operations
        left, right = _draw(rng, names, on_the_left), _draw(rng, names, operations - on_the_left)
        if left.code.isdigit() or ("{r}" in code and left == right):
            continue
        number = int(rng.integers(2, 10))
        (left_words, left_code), (right_words, right_code) = left.inside(), right.inside()
        return _Text(
            words.format(l=left_words, r=right_words, k=number), code.format(l=left_code, r=right_code, k=number)
        )
