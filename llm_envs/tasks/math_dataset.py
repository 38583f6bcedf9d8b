"""`llm_envs/MATH-v0`: competition mathematics (Hendrycks et al. 2021, arXiv:2103.03874), from a local copy."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from llm_envs.datasets import RowShape, read_problems, register_problems, versions
from llm_envs.problem import HeldOut, Problem
from llm_envs.tasks.hub import load_from_hub
from rewards.extract import MARKED_RULES, Rule, extract_answer
from rewards.math import MathReward

# many problems ask to simplify, expand or factor: there the question's own expression is equal to the answer
_REWARD = MathReward(rules=MARKED_RULES, allow_echo=False)


def boxed_answer(row: Mapping[str, Any]) -> str:
    r"""The row's `answer`, where it has one, or what is in the last `\boxed{}` of its solution.

    Raises:
        ValueError: There is no box, or it is not whole.
    """
    if row.get("answer"):
        return str(row["answer"])
    found = extract_answer(str(row["solution"]), rules=(Rule.BOXED,))
    if found is None:
        raise ValueError("the solution has no \\boxed{}")
    return found.text


@register_problems("llm_envs/MATH-v0", reward=_REWARD)
def math_dataset(path: str = "", held_out: HeldOut = "fifth", skip_bad_rows: bool = False) -> Sequence[Problem]:
    r"""Solve the problems of MATH (columns `problem`, and `solution` with `\boxed{}`).

    Some references of the original data are not in a form that `MathReward` reads; `skip_bad_rows=True` leaves them
    out.

    Args:
        path: A folder with `train` and `test` files (JSONL or Parquet), whose split is kept, or a single file. By
            default the package `datasets` is asked for `HuggingFaceH4/MATH-500`, of which all rows are held out.
        held_out: Of a single file, which rows are the split `"test"`: `"fifth"`, `"all"` or `"none"`.
        skip_bad_rows: Whether rows that cannot be used are left out, instead of an error.

    Raises:
        BadRow: A row cannot be used; the message names it.
        FileNotFoundError: There is no such file, or `datasets` could not load the data set.
        ModuleNotFoundError: There is no path, and `datasets` is missing; or the file is Parquet, and pyarrow is.
    """
    source = path or load_from_hub("HuggingFaceH4/MATH-500")
    shape = RowShape(
        prompt="problem",
        reference=boxed_answer,
        solution="solution",
        split=held_out,
        instruction=_REWARD.instruction,
        skip_bad_rows=skip_bad_rows,
    )
    return _read(path, versions(source), shape) if path else read_problems(source, shape, _REWARD)


@functools.lru_cache(maxsize=4)
def _read(source: str, version: object, shape: RowShape) -> Sequence[Problem]:
    return read_problems(source, shape, _REWARD)
