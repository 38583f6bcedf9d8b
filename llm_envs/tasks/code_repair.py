"""`llm_envs/CodeRepair-v0`: repair a small Python function, in several turns."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.python_functions import INSTRUCTION, content, docstring, draw_program, reference
from llm_envs.tasks.python_functions.hidden_tests import TestSet, catches
from llm_envs.tasks.python_functions.interpreter import Function, parse
from llm_envs.tasks.python_functions.mutants import changed, changes
from llm_envs.tasks.python_functions.program import Program
from rewards.base import Outcome, RewardResult
from rewards.code import CodeTestsReward

MAX_TURNS = 3
_EXAMPLES = 2
_PROBLEMS = {
    Outcome.NO_ANSWER: "There is no function in a ```python block.",
    Outcome.SYNTAX_ERROR: "That is not valid Python.",
    Outcome.TIMEOUT: "That takes too long.",
    Outcome.MEMORY: "That takes too much memory.",
    Outcome.FORBIDDEN: "That does something that is not allowed here.",
    Outcome.CRASHED: "That ends with an error.",
}


def break_program(rng: np.random.Generator, program: Program, tests: TestSet) -> str | None:
    """The program with one change that its hidden tests notice; None where there is no such change."""
    tree = parse(program.source)
    possible = changes(tree)
    for number in rng.permutation(len(possible)):
        mutant = changed(tree, possible[int(number)])
        if mutant.body and catches(Function(mutant), tests.hidden):
            return ast.unparse(ast.fix_missing_locations(mutant))
    return None


def tell(problem: Problem, completions: Sequence[str], result: RewardResult) -> str | None:
    """What is wrong with a repair; None where nothing is."""
    if result.outcome is Outcome.CORRECT:
        return None
    passed, total = int(result.metrics.get("passed", 0)), int(result.metrics.get("tests", 0))
    wrong = _PROBLEMS.get(Outcome(result.outcome), f"{passed} of {total} hidden tests pass.")
    return f"{wrong} Write the whole function again."


@register_task("llm_envs/CodeRepair-v0", reward=CodeTestsReward(count_all=True), reply=tell, max_turns=MAX_TURNS)
def code_repair(rng: np.random.Generator, level: int = 0) -> Problem:
    """Repair a Python function that differs in one place from what its docstring says; hidden tests decide.

    The functions and their tests are those of `llm_envs/PythonFunctions-v0`, and so is the split. The place is one
    constant, operator, name, branch or statement. After a wrong repair the environment says how many tests pass, or
    what happened instead, up to twice.

    Args:
        rng: Source of randomness.
        level: 0 to 4, as for `llm_envs/PythonFunctions-v0`.

    Raises:
        ValueError: The level is out of range.
    """
    while True:
        program, tests = draw_program(rng, level, _EXAMPLES)
        broken = break_program(rng, program, tests)
        if broken is not None:
            break
    body = broken.partition("\n")[2]
    return Problem(
        prompt=f"This Python function does not do what its docstring says. Repair it. {INSTRUCTION}\n\n"
        f"```python\n{program.signature}\n{docstring(program, tests)}\n{body}\n```",
        reference=reference(program, tests),
        solution=f"```python\n{program.source}\n```",
        metadata={"level": level},
        key=content(program, level),
    )
