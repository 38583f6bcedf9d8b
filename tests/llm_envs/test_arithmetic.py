from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from llm_envs.tasks.arithmetic import Expression, arithmetic, sample_expression, worked_solution


def evaluate(text: str) -> Fraction:
    """Python's own precedence rules, with exact division: an independent reading of the printed expression."""
    assert re.fullmatch(r"[0-9+\-*/() ]+", text)
    return eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction})  # noqa: S307


@pytest.mark.parametrize(("operands", "digits"), [(2, 1), (3, 1), (3, 2), (4, 1), (6, 2)])
def test_references_are_right_and_every_step_is_equal(operands, digits):
    rng = np.random.default_rng(operands * 10 + digits)
    for _ in range(200):
        problem = arithmetic(rng, operands=operands, digits=digits)
        expression = problem.prompt.removeprefix("What is ").partition("?")[0]
        assert evaluate(expression) == int(problem.reference)
        assert len(re.findall(r"\d+", expression)) == operands
        assert all(len(number) <= digits for number in re.findall(r"\d+", expression))
        work, _, box = problem.solution.partition(". ")
        steps = work.split(" = ")
        assert len(steps) == operands
        assert {evaluate(step) for step in steps} == {Fraction(problem.reference)}
        assert box == f"\\boxed{{{problem.reference}}}"


def test_operators_are_equally_frequent_and_parentheses_occur():
    rng = np.random.default_rng(0)
    text = "".join(arithmetic(rng).prompt.partition("?")[0] for _ in range(3000))
    counts = {op: text.count(op) for op in "+-*/"}
    assert min(counts.values()) > 0.75 * max(counts.values())
    assert text.count("(") > 500


def test_no_intermediate_result_exceeds_the_bound():
    rng = np.random.default_rng(0)

    def largest(expression: Expression) -> int:
        if expression.left is None or expression.right is None:
            return abs(expression.value)
        return max(abs(expression.value), largest(expression.left), largest(expression.right))

    drawn = [sample_expression(rng, 4, 1, "+-*/", 20) for _ in range(500)]
    assert all(largest(expression) <= 20 for expression in drawn if expression is not None)
    assert sum(expression is not None for expression in drawn) > 100


def n(value: int) -> Expression:
    return Expression(value)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (Expression(14, "+", n(2), Expression(12, "*", n(2), n(6))), "2 + 2 * 6"),
        (Expression(24, "*", Expression(4, "+", n(2), n(2)), n(6)), "(2 + 2) * 6"),
        (Expression(-7, "-", n(1), Expression(8, "+", n(3), n(5))), "1 - (3 + 5)"),
        (Expression(3, "+", Expression(-2, "-", n(1), n(3)), n(5)), "1 - 3 + 5"),
        (Expression(4, "/", n(8), Expression(2, "/", n(4), n(2))), "8 / (4 / 2)"),
        (Expression(-6, "*", n(-2), n(3)), "(-2) * 3"),
    ],
)
def test_parentheses_where_they_are_needed_and_nowhere_else(expression, text):
    assert str(expression) == text


def test_worked_solution_formats():
    expression = Expression(14, "+", n(2), Expression(12, "*", n(2), n(6)))
    assert worked_solution(expression) == r"2 + 2 * 6 = 2 + 12 = 14. \boxed{14}"
    assert worked_solution(expression, "hashes") == "2 + 2 * 6 = 2 + 12 = 14. #### 14"


@pytest.mark.parametrize(
    ("answer_format", "ending"),
    [("boxed", "End with \\boxed{answer}."), ("hashes", "End with #### and the answer."), ("unstated", "?")],
)
def test_the_prompt_asks_for_the_format(answer_format, ending):
    assert arithmetic(np.random.default_rng(0), answer_format=answer_format).prompt.endswith(ending)
