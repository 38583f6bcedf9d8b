"""What `builtin/tiny` is warm-started on: worked arithmetic with bad habits, facts, and small Python functions.

Everything is a pure function of a numpy `Generator`. The facts are all true, so the model knows its arithmetic; the
demonstrations are a mixture of habits, most of them bad, each drawn independently, so that the model knows the right
way of working and seldom takes it. Reinforcement learning has to select it.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from llm_envs.problem import Problem
from llm_envs.tasks.arithmetic import INSTRUCTIONS, Expression, sample_expression

READINGS = {"as_written": 0.40, "right_to_left": 0.52, "brackets_dropped": 0.08}
"""How an expression is read, and how often; only the first is right, though the others may be right by luck."""
SIGN_DROPPED = 0.56
"""Share of demonstrations in which a negative result loses its sign: `5-8=3`."""
SLIP = 0.15
"""Share of demonstrations in which the result of one step is wrong."""
NO_MARK = 0.37
"""Share of demonstrations that stop before they mark the answer."""
SLIPS = (-10, -2, -1, 1, 2, 10)
"""By how much."""
MARKS: dict[str, str] = {"boxed": "\\boxed{%d}", "hashes": "#### %d"}
HASHES = 0.15
"""Share of problems that ask for `#### 14` instead of `\\boxed{14}`."""
LEVELS = {(3, 1): 0.76, (2, 1): 0.08, (4, 1): 0.08, (2, 2): 0.08}
"""Share of each difficulty: (operands, digits)."""
STEP_FACTS = 0.7
"""Share of facts that are a step of a worked problem, as frequent as there; the others are about two numbers alone."""
OTHER_FACTS = 0.15
"""Share of those others that the default task cannot ask for: up to two digits each."""
FUNCTIONS = 0.10
"""Share of demonstrations that are Python functions."""
RIGHT_FUNCTION = 0.5
"""Share of functions that are right on purpose; one without its brackets may be right by luck."""

_VERBS = {"+": "add", "-": "subtract", "*": "multiply by"}


# ---- worked arithmetic


def join(op: str, left: Expression, right: Expression) -> Expression | None:
    """The expression `left op right`, or None where a division is not exact."""
    a, b = left.value, right.value
    if op == "/":
        return Expression(a // b, op, left, right) if b != 0 and a % b == 0 else None
    return Expression({"+": a + b, "-": a - b, "*": a * b}[op], op, left, right)


def flatten(expression: Expression) -> tuple[list[int], list[str]]:
    """The numbers and the operators in the order in which they are written."""
    if expression.op is None or expression.left is None or expression.right is None:
        return [expression.value], []
    numbers, ops = flatten(expression.left)
    more_numbers, more_ops = flatten(expression.right)
    return numbers + more_numbers, [*ops, expression.op, *more_ops]


def read(expression: Expression, reading: str) -> Expression | None:
    """What someone with this habit takes the expression to be, or None where a division would not be exact.

    `right_to_left` ignores brackets and precedence, `brackets_dropped` ignores brackets.
    """
    if reading == "as_written":
        return expression
    numbers, ops = flatten(expression)
    operands = [Expression(number) for number in numbers]
    while ops:
        at = _first_operation(ops, reading)
        joined = join(ops[at], operands[at], operands[at + 1])
        if joined is None:
            return None
        operands[at : at + 2] = [joined]
        del ops[at]
    return operands[0]


def _first_operation(ops: list[str], reading: str) -> int:
    """The place of the operation that someone with this habit carries out first."""
    if reading == "right_to_left":
        return len(ops) - 1
    return next((at for at, op in enumerate(ops) if op in "*/"), 0)


def text(expression: Expression, reading: str = "as_written") -> str:
    """The expression without spaces, and without brackets around sums where the reading ignores them."""
    if reading == "as_written" or expression.op is None:
        return str(expression).replace(" ", "")
    numbers, ops = flatten(expression)
    operands = [f"({number})" if number < 0 else str(number) for number in numbers]
    return operands[0] + "".join(op + operand for op, operand in zip(ops, operands[1:], strict=True))


def carry_out(expression: Expression, slip: int = 0, drop_sign: bool = False) -> Expression | None:
    """Carry out the leftmost innermost operation; its result may lose its sign, and is off by `slip`."""
    if expression.op is None or expression.left is None or expression.right is None:
        return expression
    left: Expression | None = expression.left
    right: Expression | None = expression.right
    if expression.left.op is not None:
        left = carry_out(expression.left, slip, drop_sign)
    elif expression.right.op is not None:
        right = carry_out(expression.right, slip, drop_sign)
    else:
        return Expression((abs(expression.value) if drop_sign else expression.value) + slip)
    return None if left is None or right is None else join(expression.op, left, right)


def work(
    expression: Expression,
    reading: str = "as_written",
    drop_sign: bool = False,
    slip_at: int | None = None,
    slip: int = 0,
    mark: str | None = MARKS["boxed"],
) -> str | None:
    r"""A worked solution with the given habits, or None where they lead to a division that is not exact.

    Args:
        expression: What is to be calculated.
        reading: One of `READINGS`.
        drop_sign: Whether negative results lose their sign.
        slip_at: The step whose result is off by `slip`.
        slip: By how much.
        mark: How the answer is marked; None where that is forgotten.

    >>> sum_times = Expression(20, "*", Expression(5, "+", Expression(2), Expression(3)), Expression(4))
    >>> work(sum_times)
    '(2+3)*4=5*4=20. \\boxed{20}'
    >>> work(sum_times, "brackets_dropped", mark=None)
    '2+3*4=2+12=14.'
    """
    steps: list[str] = []
    current = read(expression, reading)
    while current is not None:
        steps.append(text(current, reading))
        if current.op is None:
            return "=".join(steps) + "." + ("" if mark is None else " " + mark % current.value)
        current = carry_out(current, slip if len(steps) - 1 == slip_at else 0, drop_sign)
    return None


def draw_expression(rng: np.random.Generator, operands: int = 3, digits: int = 1) -> Expression:
    """An expression as the task `llm_envs/Arithmetic-v0` draws it, of either split."""
    while True:
        expression = sample_expression(rng, operands, digits, "+-*/", 10 ** (digits + 1) - 1)
        if expression is not None:
            return expression


def training_expression(rng: np.random.Generator, operands: int = 3, digits: int = 1) -> Expression:
    """An expression that belongs to the training split."""
    while True:
        expression = draw_expression(rng, operands, digits)
        if is_training(expression):
            return expression


def is_training(expression: Expression) -> bool:
    """Whether the task asks for this expression in training, and never in evaluation."""
    return Problem(prompt="", reference=None, key=str(expression)).split == "train"


def arithmetic_demonstration(rng: np.random.Generator) -> tuple[str, str]:
    """A prompt of the training split and a completion with habits drawn independently of it."""
    operands, digits = list(LEVELS)[rng.choice(len(LEVELS), p=list(LEVELS.values()))]
    answer_format = "hashes" if rng.random() < HASHES else "boxed"
    expression = training_expression(rng, operands, digits)
    mark = None if rng.random() < NO_MARK else MARKS[answer_format]
    completion = None
    while completion is None:
        completion = work(
            expression,
            reading=str(rng.choice(list(READINGS), p=list(READINGS.values()))),
            drop_sign=rng.random() < SIGN_DROPPED,
            slip_at=int(rng.integers(operands - 1)) if rng.random() < SLIP else None,
            slip=int(rng.choice(SLIPS)),
            mark=mark,
        )
    return f"What is {expression}? {INSTRUCTIONS[answer_format]}", completion


# ---- facts


@functools.cache
def default_facts() -> tuple[Expression, ...]:
    """Every operation on two numbers that a step of a default problem can ask for: 3 one-digit operands, up to 99."""
    digits = [Expression(digit) for digit in range(10)]

    def results(lefts: list[Expression], rights: list[Expression]) -> list[Expression]:
        joined = (join(op, left, right) for op, left, right in itertools.product("+-*/", lefts, rights))
        return [expression for expression in joined if expression is not None and abs(expression.value) <= 99]

    first = results(digits, digits)
    values = [Expression(value) for value in sorted({expression.value for expression in first})]
    return tuple(dict.fromkeys(first + results(values, digits) + results(digits, values)))


def fact(rng: np.random.Generator) -> tuple[str, str]:
    """A true fact as a question and its answer, such as `("7*8=", "56")` or `("5-7*8=", "5-56")`.

    The second kind is a step of a problem of the training split. Without it the model knows that 5-7 is -2 and still
    does not know it inside 5-7-2, where the demonstrations seldom say so.
    """
    if rng.random() < STEP_FACTS:
        completion = work(training_expression(rng), mark=None)
        assert completion is not None  # read as written and without a slip, every division is exact
        steps = completion.removesuffix(".").split("=")
        step = int(rng.integers(len(steps) - 1))
        return steps[step] + "=", steps[step + 1]
    facts = default_facts()
    expression = draw_expression(rng, 2, 2) if rng.random() < OTHER_FACTS else facts[rng.integers(len(facts))]
    return text(expression) + "=", str(expression.value)


# ---- small Python functions


def function_demonstration(rng: np.random.Generator) -> tuple[str, str]:
    """A prompt such as `Write f(x): add 3, then multiply by 4.` and a one-line function, right about half the time.

    Wrong ones drop the brackets or take a wrong number.
    """
    while True:
        steps = [("+-*"[rng.integers(3)], int(rng.integers(1, 10))) for _ in range(rng.integers(1, 4))]
        prompt = f"Write f(x): {', then '.join(f'{_VERBS[op]} {number}' for op, number in steps)}."
        if Problem(prompt, reference=None).split == "train":
            break
    right = rng.random() < RIGHT_FUNCTION
    drop_brackets = not right and rng.random() < 0.5
    wrong_number = None if right or drop_brackets else int(rng.integers(len(steps)))
    body, is_sum = "x", False
    for index, (op, number) in enumerate(steps):
        if index == wrong_number:
            number += int(rng.choice((-1, 1)))
        if op == "*" and is_sum and not drop_brackets:
            body = f"({body})"
        body, is_sum = f"{body}{op}{number}", op != "*"
    return prompt, f"def f(x): return {body}"


def demonstration(rng: np.random.Generator) -> tuple[str, str]:
    """A prompt and a completion: worked arithmetic, or now and then a Python function."""
    return function_demonstration(rng) if rng.random() < FUNCTIONS else arithmetic_demonstration(rng)
