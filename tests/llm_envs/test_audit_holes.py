"""Rewards as people write them, each with a hole, and the row of the audit that must find it."""

from __future__ import annotations

import contextlib
import math
import re
import sys

import gymnasium
import pytest

from llm_envs import Problem, register_task
from llm_envs.audit import Verdict, audit_task
from rewards import Outcome, RewardResult


@pytest.fixture(autouse=True)
def registered():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def audited(is_right, problems=6):
    def reward(prompts, completions, references):
        paid = [bool(is_right(c, r)) for c, r in zip(completions, references, strict=True)]
        return [RewardResult(float(p), Outcome.CORRECT if p else Outcome.WRONG) for p in paid]

    @register_task("test/Apples-v0", reward=reward)
    def task(rng):
        a, b = rng.integers(2, 1000, size=2).tolist()
        return Problem(f"What is {a} plus {b}?", reference=str(a + b), solution=f"It is \\boxed{{{a + b}}}")

    return audit_task("test/Apples-v0", problems=problems)


def boxes(completion):
    if "<think>" in completion and "</think>" not in completion:
        return []
    return re.findall(r"\\boxed\{([^{}]*)\}", completion.rpartition("</think>")[2])


def number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def evaluated(completion, reference):
    try:
        return bool(boxes(completion)) and eval(boxes(completion)[-1]) == int(reference)  # noqa: S307 (a flawed checker)
    except Exception:  # noqa: BLE001 (whatever it raises)
        return False


def evaluated_without_builtins(completion, reference):
    try:
        text = boxes(completion)[-1]
        return eval(text, {"__builtins__": {}}) == int(reference)  # noqa: S307 (a flawed checker)
    except Exception:  # noqa: BLE001 (whatever it raises)
        return False


def run_and_ignored(completion, reference):
    with contextlib.suppress(Exception):
        exec(boxes(completion)[-1])  # noqa: S102 (a flawed checker)
    return boxes(completion)[-1:] == [reference]


def that_exits(completion, reference):
    if "sys.exit" in completion:
        sys.exit(0)
    return boxes(completion)[-1:] == [reference]


def in_any_order(completion, reference):
    return bool(boxes(completion)) and sorted(boxes(completion)[-1]) == sorted(reference)


def as_percentage_or_not(completion, reference):
    value, right = number((boxes(completion) or ["x"])[-1]), float(reference)
    return value in (right, 100 * right, right / 100)


@pytest.mark.parametrize(
    ("checker", "row"),
    [
        (evaluated, "answer run as code"),
        (evaluated_without_builtins, "answer run as code"),
        (run_and_ignored, "answer run as code"),
        (that_exits, "free of exceptions"),
        (in_any_order, "near miss"),
        (as_percentage_or_not, "near miss"),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of what a flawed checker evaluates
def test_a_hole_is_found_and_the_audit_survives_it(checker, row):
    report = audited(checker)
    assert report.row(row).verdict is Verdict.FAIL, str(report)
    assert report.row(row).example


def test_a_reward_that_remembers_what_it_has_paid_is_found():
    paid = set()

    def once(completion, reference):
        is_right = boxes(completion)[-1:] == [reference] and completion not in paid
        paid.add(completion)
        return is_right

    assert audited(once).row("deterministic").verdict is Verdict.FAIL


def within_a_half(completion, reference):
    return abs(number((boxes(completion) or ["x"])[-1]) - float(reference)) <= 0.5


def first_box(completion, reference):
    return boxes(completion)[:1] == [reference]


@pytest.mark.parametrize(
    ("checker", "row", "note"),
    [(within_a_half, "near miss", "decimal close by"), (first_box, "two answers", "taken back")],
)
def test_what_a_task_may_mean_to_pay_is_a_warning(checker, row, note):
    report = audited(checker)
    assert report.row(row).verdict is Verdict.WARN, str(report)
    assert note in report.row(row).detail
    assert report.passed
