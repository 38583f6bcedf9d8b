"""`llm_envs/Arithmetic-v0`: whole-number expressions with precedence, parentheses and exact division."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

AnswerFormat = Literal["boxed", "hashes", "unstated"]
INSTRUCTIONS: dict[str, str] = {
    "boxed": "End with \\boxed{answer}.",
    "hashes": "End with #### and the answer.",
    "unstated": "",
}
_SYMBOLS = "+-*/"
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}
_APPLY: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,  # only ever applied where the division is exact
}
_MAX_OPERANDS = 12
_MAX_DIGITS = 12
_TRIES = 20


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
    """Draw a binary tree over `operands` numbers of 1 to `digits` digits.

    The operator of a node is drawn first and its operands redrawn until they suit it, so that exact divisions are as
    frequent as the other operations.

    Returns:
        The expression, or None where no operands were found for which every division is exact and no result, final or
        intermediate, is larger than `max_value` in magnitude.
    """
    if operands == 1:
        number_of_digits = int(rng.integers(1, digits + 1))
        return Expression(int(rng.integers(10 ** (number_of_digits - 1), 10**number_of_digits)))
    op = operators[int(rng.integers(len(operators)))]
    on_the_left = int(rng.integers(1, operands))
    for _ in range(_TRIES):
        left = sample_expression(rng, on_the_left, digits, operators, max_value)
        right = sample_expression(rng, operands - on_the_left, digits, operators, max_value)
        if left is None or right is None:
            return None
        if op == "/" and (right.value == 0 or left.value % right.value != 0):
            continue
        value = _APPLY[op](left.value, right.value)
        if abs(value) <= max_value:
            return Expression(value, op, left, right)
    return None


def worked_solution(expression: Expression, answer_format: AnswerFormat = "boxed") -> str:
    r"""The expression reduced one operation at a time, then the answer as the prompt asks for it.

    >>> worked_solution(Expression(14, "+", Expression(2), Expression(12, "*", Expression(2), Expression(6))))
    '2 + 2 * 6 = 2 + 12 = 14. \\boxed{14}'
    """
    steps = [str(expression)]
    while expression.op is not None:
        expression = expression.reduce_once()
        steps.append(str(expression))
    answer = f"#### {expression.value}" if answer_format == "hashes" else f"\\boxed{{{expression.value}}}"
    return f"{' = '.join(steps)}. {answer}"


@register_task("llm_envs/Arithmetic-v0", reward=MathReward(rules=MARKED_RULES))
def arithmetic(
    rng: np.random.Generator,
    operands: int = 3,
    digits: int = 1,
    operators: str = "+-*/",
    max_value: int | None = None,
    answer_format: AnswerFormat = "boxed",
) -> Problem:
    r"""Calculate an expression such as `2 + 2 * 6`; the answer is always an integer.

    Args:
        rng: Source of randomness.
        operands: How many numbers the expression has, 2 to 12.
        digits: How many digits a number has at most, 1 to 12.
        operators: The operators to draw from, a selection of `+-*/`; repeating one makes it more frequent.
        max_value: Bound on the magnitude of every intermediate and final result; by default one digit more than the
            operands have (99 for one-digit operands).
        answer_format: What the prompt asks for: `"boxed"` (`\\boxed{14}`), `"hashes"` (`#### 14`), or nothing
            (`"unstated"`, for a policy that is shown the format, as by a worked example). The reward accepts any marked
            answer, but not a number that is not marked as the answer.

    Raises:
        ValueError: An argument is out of range, or no expression fits them.
    """
    if not 2 <= operands <= _MAX_OPERANDS:
        raise ValueError(f"operands must be between 2 and {_MAX_OPERANDS}, got {operands}")
    if not 1 <= digits <= _MAX_DIGITS:
        raise ValueError(f"digits must be between 1 and {_MAX_DIGITS}, got {digits}")
    if not operators or not set(operators) <= set(_SYMBOLS):
        raise ValueError(f"operators must be a selection of {_SYMBOLS!r}, got {operators!r}")
    if answer_format not in INSTRUCTIONS:
        raise ValueError(f"answer_format must be one of {sorted(INSTRUCTIONS)}, got {answer_format!r}")
    bound = 10 ** (digits + 1) - 1 if max_value is None else max_value
    for _ in range(1000):
        expression = sample_expression(rng, operands, digits, operators, bound)
        if expression is not None:
            return Problem(
                prompt=f"What is {expression}? {INSTRUCTIONS[answer_format]}".rstrip(),
                reference=str(expression.value),
                solution=worked_solution(expression, answer_format),
                key=str(expression),  # however the answer is to be written, it is the same problem
            )
    raise ValueError(f"no expression of {operands} operands with {digits=}, {operators=} stays within {max_value=}")
