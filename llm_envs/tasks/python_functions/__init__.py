"""`llm_envs/PythonFunctions-v0`: small Python functions, described in words and checked by hidden tests."""

from __future__ import annotations

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.python_functions.arithmetic_programs import chain, expression
from llm_envs.tasks.python_functions.hidden_tests import Case, TestSet, make_tests
from llm_envs.tasks.python_functions.pipelines import algorithm, mixed, numbers
from llm_envs.tasks.python_functions.program import Program
from llm_envs.tasks.writing import check_level
from rewards.code import CodeTestsReward

LEVELS = (chain, expression, numbers, mixed, algorithm)
"""For each level, the function that draws a program from a `numpy.random.Generator`."""
_EXAMPLES = (0, 2, 2, 3, 3)
_MAX_EXAMPLES = 5
INSTRUCTION = "Answer with the whole function in a ```python block."
_TRIES = 1000


def _example(program: Program, case: Case) -> str:
    return f"{program.name}({', '.join(map(repr, case.arguments))})"


def prompt(program: Program, tests: TestSet, level: int) -> str:
    """What the model is asked.

    Level 0 is as short as it can be, and in the words that `builtin/tiny` knows.
    """
    if level == 0:
        examples = "".join(f" {_example(program, case)} is {case.expected!r}." for case in tests.examples)
        return f"Write f(x): {program.description}.{examples}"
    return f"Write a Python function. {INSTRUCTION}\n\n{program.signature}\n{docstring(program, tests)}"


def docstring(program: Program, tests: TestSet) -> str:
    """The description and the examples, as they stand in a function."""
    lines = [
        f'    """{program.description}',
        *(f"\n    >>> {_example(program, case)}\n    {case.expected!r}" for case in tests.examples),
        '    """',
    ]
    return "\n".join(lines)


def reference(program: Program, tests: TestSet) -> dict[str, object]:
    """The hidden tests as `CodeTestsReward` takes them."""
    cases = [{"args": list(case.arguments), "kwargs": {}, "expected": case.expected} for case in tests.hidden]
    return {"kind": "function", "entry_point": program.name, "cases": cases, "rel_tol": 0.0, "abs_tol": 0.0}


def draw_program(rng: np.random.Generator, level: int, examples: int) -> tuple[Program, TestSet]:
    """A program that is worth asking, and its tests.

    Raises:
        ValueError: The level is out of range, or there is no such program.
    """
    check_level(level, len(LEVELS))
    for _ in range(_TRIES):
        program = LEVELS[level](rng)
        tests = make_tests(program, examples)
        if tests is not None:
            return program, tests
    raise ValueError(f"none of {_TRIES} programs of level {level} is worth asking with {examples} examples")


def content(program: Program, level: int) -> str:
    """What decides on which side of the split a program is."""
    # at level 0 what builtin/tiny was warm-started on is split by the prompt without examples
    return f"Write f(x): {program.description}." if level == 0 else program.source


@register_task("llm_envs/PythonFunctions-v0", reward=CodeTestsReward())
def python_functions(rng: np.random.Generator, level: int = 0, examples: int | None = None) -> Problem:
    """Write a small Python function; hidden tests decide.

    The description, the printed solution and the expected values come from one program. Its hidden tests (8 to 16) are
    chosen so that they catch every one-place change of it that any of some 70 to 300 inputs catches; see
    `hidden_tests.make_tests`. They are a function of the program alone: equal problems have equal tests.

    Args:
        rng: Source of randomness.
        level: 0: one to three steps on one number, in the words that `builtin/tiny` was warm-started on, for example
            `Write f(x): add 3, then multiply by 4.`; 1: an expression of two or three numbers, perhaps with a
            condition; 2: two or three steps on a list of numbers; 3: three or four steps through numbers, texts,
            words and dictionaries; 4: dynamic programming, searches, number theory and matrices between such steps.
        examples: How many calls with their values the prompt shows, 0 to 5; by default 0 at level 0, 2 at levels 1 and
            2, and 3 above. It moves no problem between the splits.

    Raises:
        ValueError: An argument is out of range.
    """
    check_level(level, len(LEVELS))
    shown = _EXAMPLES[level] if examples is None else examples
    if not 0 <= shown <= _MAX_EXAMPLES:
        raise ValueError(f"examples must be between 0 and {_MAX_EXAMPLES}, got {examples}")
    program, tests = draw_program(rng, level, shown)
    return Problem(
        prompt=prompt(program, tests, level),
        reference=reference(program, tests),
        solution=f"```python\n{program.source}\n```",
        metadata={"level": level},
        key=content(program, level),
    )
