"""`llm_envs/Arithmetic-v0`: whole-number expressions with precedence, parentheses and exact division."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from rewards.math import MathReward

AnswerFormat = Literal["boxed", "hashes"]
INSTRUCTIONS: dict[str, str] = {
    "boxed": "End with \\boxed{answer}.",
    "hashes": "End with #### and the answer.",
}
_SYMBOLS = "+-*/"
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,  # only ever applied where the division is exact
}
_MAX_OPERANDS = 20
_MAX_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Expression:
    """A number (`op` is None) or two expressions joined by one of `+ - * /`."""

    value: int
    op: str | None = None
    left: Expression | None = None
    right: Expression | None = None

    def __str__(self) -> str:
        if self.op is None or self.left is None or self.right is None:
            return str(self.value)
        return f"{_bracket(self.left, self.op, right=False)} {self.op} {_bracket(self.right, self.op, right=True)}"

    @property
    def has_parentheses(self) -> bool:
        """Whether the written form needs parentheses."""
        return "(" in str(self)

    def reduce_once(self) -> Expression:
        """The expression with its leftmost innermost operation carried out."""
        if self.left is None or self.right is None:
            return self
        if self.left.op is not None:
            return Expression(self.value, self.op, self.left.reduce_once(), self.right)
        if self.right.op is not None:
            return Expression(self.value, self.op, self.left, self.right.reduce_once())
        return Expression(self.value)


def _bracket(child: Expression, op: str, *, right: bool) -> str:
    """The child as text, in parentheses where the parent's operator binds tighter or a right operand would regroup."""
    if child.op is None:
        return f"({child})" if child.value < 0 else str(child)
    looser = _PRECEDENCE[child.op] < _PRECEDENCE[op]
    regroups = right and _PRECEDENCE[child.op] == _PRECEDENCE[op]
    return f"({child})" if looser or regroups else str(child)


def sample_expression(
    rng: np.random.Generator, operands: int, digits: int, operators: str, max_value: int
) -> Expression | None:
    """Draw a random binary tree over `operands` numbers; None where a division is not exact or a value too large."""
    if operands == 1:
        number_of_digits = int(rng.integers(1, digits + 1))
        return Expression(int(rng.integers(10 ** (number_of_digits - 1), 10**number_of_digits)))
    on_the_left = int(rng.integers(1, operands))
    left = sample_expression(rng, on_the_left, digits, operators, max_value)
    right = sample_expression(rng, operands - on_the_left, digits, operators, max_value)
    if left is None or right is None:
        return None
    op = operators[int(rng.integers(len(operators)))]
    if op == "/" and (right.value == 0 or left.value % right.value != 0):
        return None
    value = _APPLY[op](left.value, right.value)
    return None if abs(value) > max_value else Expression(value, op, left, right)


def worked_solution(expression: Expression) -> str:
    """The expression reduced one operation at a time, then the answer in a box.

    >>> worked_solution(Expression(14, "+", Expression(2), Expression(12, "*", Expression(2), Expression(6))))
    '2 + 2 * 6 = 2 + 12 = 14. \\\\boxed{14}'
    """
    steps = [str(expression)]
    while expression.op is not None:
        expression = expression.reduce_once()
        steps.append(str(expression))
    return f"{' = '.join(steps)}. \\boxed{{{expression.value}}}"
