"""Rewards as people write them, each with a hole, and the row of the audit that must find it."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time

import gymnasium
import pytest

from llm_envs import Problem, register_task
from llm_envs.audit import Verdict, audit_task, consistency, rehearsal
from llm_envs.audit.answer_marks import every_mark_of
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


# --- every mark of a solution -----------------------------------------------------------------------------------------

SOLUTIONS = {
    "tag before box": "<answer>{}</answer> So it is \\boxed{{{}}}",
    "tag behind box": "It is \\boxed{{{}}}.\n<answer>{}</answer>",
    "tag around box": "<answer>\\boxed{{{}}}</answer>",
    "box around tag": "\\boxed{{<answer>{}</answer>}}",
    "hashes behind tag": "<answer>{}</answer>\n#### {}",
    "answer: before tag": "Answer: {}\n<answer>{}</answer> or \\boxed{{{}}}",
    "another tag": "<final>{}</final> \\boxed{{{}}}",
    "fence and box": "```\n{}\n```\n\\boxed{{{}}}",
    "the answer is box": "The answer is $\\boxed{{{}}}$.",
}
MARKS = {
    "tag": r"<(?:answer|final)>(.*?)</(?:answer|final)>",
    "box": r"\\boxed\{([^{}]*)\}",
    "hashes": r"#### *([^\n]*)",
    "answer:": r"(?:Answer: *|answer is )([^\n]*)",
    "fence": r"```\n(.*?)\n```",
}


@pytest.fixture
def short_texts(monkeypatch):
    """The flawed checkers here search in quadratic time, which is not what is tested."""
    monkeypatch.setattr(consistency, "MEGABYTE_SIZES", (2**10,))


def solved_by(solution, is_right):
    gymnasium.registry.pop("test/Marks-v0", None)

    def reward(prompts, completions, references):
        paid = [bool(is_right(c, r)) for c, r in zip(completions, references, strict=True)]
        return [RewardResult(float(p), Outcome.CORRECT if p else Outcome.WRONG) for p in paid]

    @register_task("test/Marks-v0", reward=reward)
    def task(rng):
        a, b = rng.integers(11, 1000, size=2).tolist()
        return Problem(
            f"What is {a} + {b}?", reference=str(a + b), solution=solution.format(*[a + b] * solution.count("{}"))
        )

    return audit_task("test/Marks-v0", problems=4)


def in_mark(mark, value_of):
    def is_right(completion, reference):
        if "<think>" in completion or "</think>" in completion:
            return False
        found = re.findall(MARKS[mark], completion, re.DOTALL)
        if not found:
            return False
        text = re.sub(r"\\boxed\{(.*)\}|</?answer>|\$|\.$", lambda m: m[1] or "", found[-1]).strip()
        try:
            return value_of(text) == int(reference)
        except Exception:  # noqa: BLE001 (whatever it raises)
            return False

    return is_right


def summed(text):
    """A computation, without Python: what the numbers of a sum come to."""
    return sum(map(int, text.split("+")))


def run_as_python(text):
    return eval(text, {"__builtins__": {}})  # noqa: S307 (a flawed checker)


PAIRS = [
    ("tag before box", "tag"),
    ("tag before box", "box"),
    ("tag behind box", "tag"),
    ("tag behind box", "box"),
    ("tag around box", "tag"),
    ("tag around box", "box"),
    ("box around tag", "tag"),
    ("hashes behind tag", "tag"),
    ("hashes behind tag", "hashes"),
    ("answer: before tag", "answer:"),
    ("answer: before tag", "tag"),
    ("another tag", "tag"),
    ("fence and box", "fence"),
    ("the answer is box", "answer:"),
]


@pytest.mark.usefixtures("short_texts")
@pytest.mark.parametrize(("solution", "mark"), PAIRS)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of what a flawed checker evaluates
def test_the_hole_is_found_whichever_mark_the_reward_reads(solution, mark):
    report = solved_by(SOLUTIONS[solution], in_mark(mark, summed))
    assert report.row("question's own expression").verdict is Verdict.FAIL, str(report)
    report = solved_by(SOLUTIONS[solution], in_mark(mark, run_as_python))
    assert report.row("answer run as code").verdict is Verdict.FAIL, str(report)


@pytest.mark.usefixtures("short_texts")
@pytest.mark.parametrize(("solution", "mark"), PAIRS)
def test_a_reward_that_reads_one_of_several_marks_rightly_is_not_blamed(solution, mark):
    report = solved_by(SOLUTIONS[solution], in_mark(mark, lambda text: int(text) if text.isdecimal() else None))
    failed = {row.name for row in report.rows if row.verdict is Verdict.FAIL}
    # the first mark is not the whole of what it reads: these two are about texts between marks
    assert not failed & {"question's own expression", "answer run as code", "tautology", "every candidate listed"}
    assert not failed & {"near miss", "answer inside a larger one", "random text", "prompt echoed"}, str(report)


# --- evaluators that no probe reaches ---------------------------------------------------------------------------------


def powers_alone(text):
    """An evaluator of powers, which runs no Python: `**` from the right, with nothing else."""
    base, *exponents = [int(part) for part in text.replace("^", "**").split("**")]
    value = 1
    for exponent in reversed(exponents):
        value = exponent**value
    return base**value


def ends_the_process(text):
    if "9**9**9" in text:
        os._exit(3)
    return int(text)


def factorials(text):
    return math.factorial(10**9) if "!)!)!)!" in text else int(text)


@pytest.mark.parametrize(
    ("value_of", "what"),
    [
        (powers_alone, "does not come back within 2 s"),
        (factorials, "does not come back within 2 s"),
        (ends_the_process, "ends the process"),
    ],
)
@pytest.mark.usefixtures("short_texts")
@pytest.mark.parametrize("solution", ["tag before box", "tag around box"])
def test_an_evaluator_that_no_probe_reaches_does_not_hang_the_audit(value_of, what, solution, monkeypatch):
    monkeypatch.setattr(rehearsal, "HANG_SECONDS", 2.0)
    report = solved_by(SOLUTIONS[solution], in_mark("tag", value_of))
    assert report.row("hostile strings").verdict is Verdict.FAIL
    assert what in report.row("hostile strings").detail
    assert what in report.row("free of exceptions").detail


@pytest.mark.usefixtures("short_texts")
def test_the_question_itself_may_be_what_an_evaluator_hangs_on(monkeypatch):
    monkeypatch.setattr(rehearsal, "HANG_SECONDS", 2.0)

    def reward(prompts, completions, references):
        right = in_mark("box", lambda text: powers_alone(text) % 10)
        return [
            RewardResult(float(right(c, r)), Outcome.CORRECT if right(c, r) else Outcome.WRONG)
            for c, r in zip(completions, references, strict=True)
        ]

    @register_task("test/Towers-v0", reward=reward)
    def towers(rng):
        a, b = rng.integers(3, 99, size=2).tolist()
        return Problem(f"What is the last digit of {a}**{b}**{a}?", str(a % 10), f"\\boxed{{{a % 10}}}")

    report = audit_task("test/Towers-v0", problems=3)
    assert "does not come back" in report.row("question's own expression").detail, str(report)


def test_a_reward_that_is_only_slow_is_not_blamed():
    def slowly(completion, reference):
        if "**" in completion:
            time.sleep(0.01)
        return boxes(completion)[-1:] == [reference]

    assert audited(slowly).row("hostile strings").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("solution", "filled"),
    [
        ("So it is [[58]]", ["[[x]]"]),
        ("So it is **58**", ["**x**"]),
        ("So it is __58__.", ["__x__."]),
        ("#### 58", ["#### x"]),
        ("It is [[58]], that is \\boxed{58}", ["\\boxed{x}", "[[x]]", "[[x]], that is \\boxed{x}"]),
        ("**<answer>58</answer>**", ["<answer>x</answer>"]),
        ("**Step 1**: add. **58**", ["**x**"]),
    ],
)
def test_brackets_and_bold_text_are_marks_where_they_hold_the_answer(solution, filled):
    marks = every_mark_of(Problem("?", 58, solution))
    found = [mark.fill("x") for mark in marks]
    for text in filled:
        assert any(text == other.strip() or text in other for other in found), found
    assert not any("Step 1" in text and "x" not in text for text in found)
