from __future__ import annotations

import itertools
import json
import random
import re
import time
from fractions import Fraction
from pathlib import Path

import gymnasium
import pytest
import torch

from agents.cli.app import run
from agents.objectives import PRESETS
from llm_envs import Problem, register_dataset, register_problems, register_task
from llm_envs.audit import AuditFailed, Verdict, audit_task
from llm_envs.audit.answer_marks import marks_of, same
from llm_envs.audit.notation import other_operators
from llm_envs.audit.prompt_contents import expressions_in, pieces_of
from llm_envs.task import task_of
from rewards import Outcome, RewardResult
from rewards.arithmetic import NotAnExpression, read_arithmetic
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

BUILT_IN = [
    spec.id for spec in gymnasium.registry.values() if task_of(spec) is not None and spec.id.startswith("llm_envs/")
]
DATA = Path(__file__).parent / "data"
NEEDS = {
    "llm_envs/CodeTests-v0": {"path": str(DATA / "code_tests.jsonl")},
    "llm_envs/GSM8K-v0": {"path": str(DATA / "gsm8k_format")},
    "llm_envs/MATH-v0": {"path": str(DATA / "math_format")},
    "llm_envs/HumanEval-v0": {"path": str(DATA / "human_eval_format.jsonl")},
}
PROGRAMS = ("llm_envs/CodeTests-v0", "llm_envs/HumanEval-v0", "llm_envs/PythonFunctions-v0")


@pytest.fixture(autouse=True)
def registered():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


# --- what comes with the package --------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", BUILT_IN)
def test_every_task_that_comes_with_the_package_passes(env_id, short_limits):
    report = audit_task(env_id, problems=2 if env_id in PROGRAMS else 10, **NEEDS.get(env_id, {}))
    assert report.passed, str(report)
    # a small file is small, and what these machines do with a megabyte of code is not a property of the reward
    warned = {row.name for row in report.rows if row.verdict is Verdict.WARN} - {"duplicates", "speed"}
    assert not warned, str(report)


# --- known holes ------------------------------------------------------------------------------------------------------


def paid(is_right):
    """A reward from a function of completion and reference, which gives a bool or a number."""

    def reward(prompts, completions, references):
        results = []
        for completion, reference in zip(completions, references, strict=True):
            value = float(is_right(completion, reference))
            results.append(RewardResult(value, Outcome.CORRECT if value == 1 else Outcome.WRONG))
        return results

    return reward


def sums(is_right):
    @register_task("test/Sums-v0", reward=is_right if isinstance(is_right, MathReward) else paid(is_right))
    def task(rng, low: int = -50):
        a, b = rng.integers(low, 50, size=2).tolist()
        return Problem(f"What is {a} + {b}?", reference=str(a + b), solution=f"<answer>{a + b}</answer>")

    return "test/Sums-v0"


def countdown(is_right):
    @register_task("test/Countdown-v0", reward=paid(is_right))
    def task(rng):
        while True:
            numbers = rng.integers(2, 10, size=3).tolist()
            a, b, c = map(str, numbers)
            op, other = rng.choice(list("+-*"), 2)
            solution = f"({a} {op} {b}) {other} {c}"
            value = read_arithmetic(solution).value
            if value > 0:
                prompt = f"Use each of the numbers {numbers} once, with + - * /, to make {value}."
                reference = {"numbers": numbers, "target": int(value)}
                return Problem(prompt, reference=reference, solution=f"<answer>{solution}</answer>")

    return "test/Countdown-v0"


def answer_of(completion):
    text = completion.rpartition("</think>")[2]
    start = text.rfind("<answer>")
    end = text.find("</answer>", start)
    return text[start + 8 : end].strip() if 0 <= start < end and "<think>" not in text else ""


def number_of(text):
    try:
        return Fraction(text) if re.fullmatch(r"[-+]?\d{1,300}(\.\d{0,300})?", text) else None
    except ValueError:
        return None


def evaluated(text, allowed):
    """The value as Python's own arithmetic has it: what the flawed checkers below do."""
    if not re.fullmatch(allowed, text) or len(text) > 60:
        return None
    if re.search(r"\*\*\s*\(?\s*\d{3}|\*\*.*\*\*|<<\s*\(?\s*\d{3}", text):
        return None  # it would take for ever
    try:
        return eval(text, {"__builtins__": {}}, {})  # noqa: S307 (a flawed checker)
    except Exception:  # noqa: BLE001 (whatever it raises)
        return None


def with_powers(completion, reference):
    text = answer_of(completion)
    used = sorted(map(int, re.findall(r"\d+", text)))
    return used == sorted(reference["numbers"]) and evaluated(text, r"[\d+\-*/() ]+") == reference["target"]


def with_decimal_points(completion, reference):
    text = answer_of(completion)
    used = sorted(map(int, re.findall(r"\d+", text)))
    is_plain = "**" not in text and "//" not in text
    return (
        is_plain and used == sorted(reference["numbers"]) and evaluated(text, r"[\d+\-*/(). ]+") == reference["target"]
    )


def with_other_numbers(completion, reference):
    text = answer_of(completion)
    is_plain = "**" not in text and "//" not in text
    used = set(map(int, re.findall(r"\d+", text)))
    given = set(reference["numbers"])
    return is_plain and bool(used) and used <= given and evaluated(text, r"[\d+\-*/() ]+") == reference["target"]


def without_format(completion, reference):
    """It evaluates the last expression that it finds anywhere."""
    found = re.findall(r"-?\d[\d+\-* ]*", completion.split("</think>")[-1])
    return bool(found) and evaluated(found[-1].strip(), r"[\d+\-* ]+") == int(reference)


def by_substring(completion, reference):
    return reference in answer_of(completion)


def by_length(completion, reference):
    """As reasoning-gym's default scorer: the share of the answer's characters that is the reference."""
    text = answer_of(completion)
    return len(reference) / len(text) if text and reference in text else 0.0


def by_prefix(completion, reference):
    return answer_of(completion).startswith(reference)


def anywhere(completion, reference):
    return number_of(answer_of(completion.replace("think>", ""))) == int(reference)


def quadratic(completion, reference):
    if completion.startswith("<answer><answer>"):
        time.sleep(0.05 * (len(completion) / 2**16) ** 2)
    return number_of(answer_of(completion)) == int(reference)


def for_format(completion, reference):
    return 1.0 if number_of(answer_of(completion)) == int(reference) else 0.1 * ("<answer>" in completion)


def by_difference(completion, reference):
    try:
        return not abs(float(answer_of(completion)) - float(reference)) > 1e-6
    except ValueError:
        return False


def any_of_several(completion, reference):
    return reference in [text.strip() for text in answer_of(completion).split(",")]


def without_reference(completion, reference):
    return number_of(answer_of(completion)) is not None


def that_raises(completion, reference):
    return float(answer_of(completion)) == float(reference)


@pytest.mark.parametrize(
    ("task", "checker", "row"),
    [
        (countdown, with_powers, "expression against the rules"),
        (countdown, with_decimal_points, "expression against the rules"),
        (countdown, with_other_numbers, "expression against the rules"),
        (sums, without_format, "prompt echoed"),
        (sums, without_format, "question's own expression"),
        (sums, by_substring, "every candidate listed"),
        (sums, by_substring, "two answers"),
        (sums, by_substring, "answer inside a larger one"),
        (sums, by_length, "equivalent spellings"),
        (sums, by_prefix, "answer inside a larger one"),
        (sums, anywhere, "answer only in the reasoning"),
        (sums, for_format, "format without content"),
        (sums, by_difference, "hostile strings"),
        (sums, any_of_several, "every candidate listed"),
        (sums, without_reference, "another problem's solution"),
        (sums, without_reference, "near miss"),
        (sums, without_reference, "random text"),
        (sums, that_raises, "free of exceptions"),
        (sums, quadratic, "megabytes"),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of what a flawed checker evaluates
def test_a_known_hole_is_found(task, checker, row, monkeypatch):
    monkeypatch.setattr("llm_envs.audit.consistency.MEGABYTE_SECONDS", 0.5)  # `quadratic` sleeps as long as it takes
    report = audit_task(task(checker), problems=20)
    assert report.row(row).verdict is Verdict.FAIL, str(report)
    assert report.row(row).example


@pytest.mark.parametrize(
    ("checker", "operator", "example"),
    [
        (with_powers, "operator **", None),
        (with_decimal_points, "operator .", r"\d\.\d"),
        (with_other_numbers, "used again", None),
    ],
)
def test_the_row_names_the_rule_that_is_not_checked(checker, operator, example):
    row = audit_task(countdown(checker), problems=5).row("expression against the rules")
    assert operator in row.detail
    assert example is None or re.search(example, row.example), row


def test_partial_pay_for_another_spelling_is_found_and_what_it_becomes_is_told():
    report = audit_task(sums(by_length))
    assert "0.67 for a full stop" in report.row("equivalent spellings").detail
    partial = report.row("partial rewards")
    assert partial.verdict is Verdict.WARN
    lowest = float(partial.detail.split()[0])
    rewards = torch.tensor([[lowest, *[0.0] * 7], [1.0, *[0.0] * 7]])
    advantages = [f"{float(row[0]):.2f}" for row in PRESETS["grpo"]().advantages(rewards)]
    told = re.findall(r"advantage of (\d\.\d\d)|would become one of (\d\.\d\d)", partial.detail)
    assert [float("".join(pair)) for pair in told] == pytest.approx(list(map(float, advantages)), abs=0.02)


def strict_countdown(completion, reference):
    try:
        read = read_arithmetic(answer_of(completion))
    except NotAnExpression:
        return False
    return read.value == reference["target"] and sorted(read.numbers) == sorted(reference["numbers"])


@pytest.mark.parametrize(
    ("task", "reward"),
    [(sums, MathReward(rules=MARKED_RULES)), (countdown, strict_countdown)],
)
def test_a_sound_reward_raises_no_alarm(task, reward):
    report = audit_task(task(reward), problems=30)
    assert report.passed, str(report)


def test_word_sized_answers_that_coincide_are_no_alarm():
    words = ["yes", "no", "perhaps", "red", "blue"]

    def exact(completion, reference):
        return answer_of(completion).casefold() == reference

    @register_task("test/Words-v0", reward=paid(exact))
    def task(rng):
        shown = rng.choice(words, size=3).tolist()
        n = int(rng.integers(1000))
        word = shown[n % 3]
        return Problem(f"Of {shown}, which is at {n} modulo 3?", word, f"<answer>{word}</answer>")

    report = audit_task("test/Words-v0", problems=30)
    own = report.row("question's own expression")
    assert not report.failed, str(report)
    assert own.verdict is Verdict.PASS


# --- how the reward is called -----------------------------------------------------------------------------------------


class Counting:
    """A reward whose verdicts depend on what they should not depend on."""

    def __init__(self, verdicts):
        self.verdicts = verdicts

    def __call__(self, prompts, completions, references):
        right = [number_of(answer_of(c)) == int(r) for c, r in zip(completions, references, strict=True)]
        return [RewardResult(float(v), Outcome.SCORED) for v in self.verdicts(right)]


calls = itertools.count()


@pytest.mark.parametrize(
    ("verdicts", "row"),
    [
        (lambda right: [r and random.random() < 0.5 for r in right], "deterministic"),
        (lambda right: [r and i < len(right) / 2 for i, r in enumerate(right)], "order-independent"),
        (lambda right: [r and len(right) > 1 for r in right], "batch-independent"),
    ],
)
def test_verdicts_that_depend_on_the_call_are_found(verdicts, row):
    name = "test/Calls-v0"

    @register_task(name, reward=Counting(verdicts))
    def task(rng):
        n = int(rng.integers(1000))
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=f"<answer>{n + 1}</answer>")

    assert audit_task(name).row(row).verdict is Verdict.FAIL


@pytest.mark.parametrize("results", [[], ["right"], [1.0]], ids=repr)
def test_results_that_are_none_are_found(results):
    @register_task("test/Results-v0", reward=lambda prompts, completions, references: results * len(completions))
    def task(rng):
        return Problem(f"What is {rng.integers(10**6)}?", reference="1", solution="1")

    assert audit_task("test/Results-v0").row("free of exceptions").verdict is Verdict.FAIL


# --- problems ---------------------------------------------------------------------------------------------------------


def test_a_sampler_that_ignores_its_generator_is_found():
    @register_task("test/Global-v0", reward=MathReward())
    def task(rng):
        n = random.randrange(10**6)
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=f"\\boxed{{{n + 1}}}")

    assert audit_task("test/Global-v0").row("problems by seed").verdict is Verdict.FAIL


def test_a_prompt_on_both_sides_of_the_split_is_found():
    @register_task("test/Key-v0", reward=MathReward())
    def task(rng):
        n = int(rng.integers(50))
        key = str(rng.integers(1000))  # not what makes the problem
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=f"\\boxed{{{n + 1}}}", key=key)

    report = audit_task("test/Key-v0")
    assert report.row("training and held-out problems").verdict is Verdict.FAIL
    assert report.row("duplicates").verdict is Verdict.WARN


def test_references_that_contradict_each_other_are_found():
    @register_task("test/Contradiction-v0", reward=MathReward())
    def task(rng):
        n, answer = int(rng.integers(200)), int(rng.integers(2))
        return Problem(f"Is {n} lucky?", reference=str(answer), solution=f"\\boxed{{{answer}}}")

    report = audit_task("test/Contradiction-v0")
    assert report.row("duplicates").verdict is Verdict.FAIL
    assert report.row("commonest answer").verdict is Verdict.WARN


def test_without_solutions_the_usual_marks_are_tried():
    @register_task("test/NoSolution-v0", reward=MathReward(rules=MARKED_RULES))
    def task(rng):
        n = int(rng.integers(1000))
        return Problem(f"What is {n} + 1?", reference=str(n + 1))

    assert audit_task("test/NoSolution-v0").passed

    @register_task("test/Nothing-v0", reward=lambda p, c, r: [RewardResult(0.0, Outcome.WRONG) for _ in c])
    def nothing(rng):
        return Problem(f"What is {rng.integers(1000)}?", reference=None)

    assert audit_task("test/Nothing-v0").row("solution earns full reward").verdict is Verdict.FAIL


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solution", "before", "answer", "after"),
    [
        ("2 + 2 = 4. \\boxed{4}", "\\boxed{", "4", "}"),
        ("So <answer> 4 </answer>", "<answer> ", "4", " </answer>"),
        ("2 + 2\n#### 4", "#### ", "4", ""),
        ("I think the answer is 4.", "the answer is ", "4", "."),
        ("Look:\n```python\ndef f(x):\n    return x\n```", "```python\n", "def f(x):\n    return x", "\n```"),
        ("a, b, c", "", "a, b, c", ""),
    ],
)
def test_frames(solution, before, answer, after):
    marks = marks_of(Problem("?", reference=None, solution=solution))
    assert (marks.before, marks.answer, marks.after) == (before, answer, after)
    assert marks.fill("7") == f"{before}7{after}"


def test_what_a_prompt_holds():
    assert expressions_in("What is 2 + 2 * 6? End with \\boxed{answer}.") == ["2 + 2 * 6"]
    assert "x^2 - 5x + 6" in expressions_in("Factor x^2 - 5x + 6 completely.")
    assert "2x + 3 = 7" in expressions_in("Solve $2x + 3 = 7$.")
    assert {"[3, 1, 2]", "3"} <= set(pieces_of("Sort [3, 1, 2]."))
    assert "pear fig" in pieces_of('Sort the words "pear fig".')


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [("3/4", "0.75", True), ("[1, 2]", "1 2", True), ("Yes", "yes.", True), ("-4", "4", False), ("ab", "ba", False)],
)
def test_same(left, right, expected):
    assert same(left, right) is expected


def test_forbidden_operators_are_combined_to_what_they_come_to():
    assert other_operators((2, 5))["**"] in ((32, "(2**5)"), (25, "(5**2)"))
    for operator, (value, text) in other_operators((3, 7, 8, 9)).items():
        assert eval(text) == pytest.approx(value), operator  # noqa: S307 (our own expressions)
        assert operator == "digits" or operator in text


# --- where it is used -------------------------------------------------------------------------------------------------


def test_check_refuses_a_task_when_it_is_registered():
    with pytest.raises(AuditFailed, match="FAIL"):

        @register_task("test/Refused-v0", reward=paid(by_substring), check=True)
        def flawed(rng):
            n = int(rng.integers(1000))
            return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=f"<answer>{n + 1}</answer>")

    assert "test/Refused-v0" not in gymnasium.registry

    @register_task("test/Sound-v0", reward=MathReward(rules=MARKED_RULES), check=True)
    def sound(rng):
        n = int(rng.integers(1000))
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=f"\\boxed{{{n + 1}}}")

    assert "test/Sound-v0" in gymnasium.registry


@pytest.mark.parametrize("kind", ["sampler", "problems", "dataset", "gymnasium"])
def test_a_refused_task_leaves_the_earlier_one_of_its_id(kind):
    def problem(n):
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=f"\\boxed{{{n + 1}}}")

    if kind == "gymnasium":
        gymnasium.register("test/Kept-v0", entry_point=lambda: gymnasium.make("llm_envs/Arithmetic-v0").unwrapped)
    else:
        register_task("test/Kept-v0", reward=MathReward(rules=MARKED_RULES))(lambda rng: problem(int(rng.integers(99))))
    before = gymnasium.registry["test/Kept-v0"]
    first = gymnasium.make("test/Kept-v0").reset(seed=0)
    bad = paid(by_substring)
    rows = [{"q": f"What is {n} + 1?", "a": n + 1, "s": f"\\boxed{{{n + 1}}}"} for n in range(99)]
    columns = {"prompt": "q", "reference": "a", "solution": "s"}
    again = {
        "problems": lambda: register_problems("test/Kept-v0", reward=bad, check=True)(
            lambda: [*map(problem, range(99))]
        ),
        "dataset": lambda: register_dataset("test/Kept-v0", rows, **columns, reward=bad, check=True),
    }.get(kind, lambda: register_task("test/Kept-v0", reward=bad, check=True)(lambda rng: problem(rng.integers(9999))))
    with pytest.raises(AuditFailed), pytest.warns(UserWarning, match="Overriding environment"):
        again()
    assert gymnasium.registry["test/Kept-v0"] is before
    assert gymnasium.make("test/Kept-v0").reset(seed=0) == first


def test_an_interrupted_check_leaves_the_earlier_task_too():
    register_task("test/Kept-v0", reward=MathReward())(lambda rng: Problem(f"What is {rng.integers(99)}?", "1"))
    before = gymnasium.registry["test/Kept-v0"]

    def interrupted(prompts, completions, references):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="Overriding environment"):
        register_task("test/Kept-v0", reward=interrupted, check=True)(
            lambda rng: Problem(f"What is {rng.integers(99)}?", "1", "1")
        )
    assert gymnasium.registry["test/Kept-v0"] is before


def test_the_command_prints_the_table_and_its_exit_code_is_for_ci(capsys):
    assert run(["audit", "llm_envs/Arithmetic-v0", "--env-args", "operands=2", "--problems", "3"]) == 0
    out = capsys.readouterr().out
    assert "question's own" in out
    assert "pass" in out
    assert run(["audit", sums(by_substring), "--problems", "3", "--json"]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["passed"] is False
    assert "do not hold" in captured.err
    assert {row["verdict"] for row in report["rows"]} <= {"pass", "warn", "fail", "skip"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["llm_envs/Arithmetc-v0"], "Did you mean"),
        (["CartPole-v1"], "register_task"),
        (["llm_envs/Arithmetic-v0", "--env-args", "operands=1"], "operands must be"),
        (["llm_envs/Arithmetic-v0", "--env-args", "split=test"], "both splits"),
    ],
)
def test_mistakes_of_the_command(arguments, message, capsys):
    assert run(["audit", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_reports_do_not_depend_on_the_run():
    rows = [row for row in audit_task("llm_envs/Arithmetic-v0", problems=5).rows if row.name != "speed"]
    assert rows == [row for row in audit_task("llm_envs/Arithmetic-v0", problems=5).rows if row.name != "speed"]
