"""`llm_envs/GSM8K-v0`: grade school word problems (Cobbe et al. 2021, arXiv:2110.14168), from a local copy."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llm_envs.datasets import RowShape, read_problems, register_problems, versions
from llm_envs.problem import HeldOut, Problem
from llm_envs.tasks.hub import load_from_hub
from llm_envs.tasks.writing import boxed
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

_REWARD = MathReward(rules=MARKED_RULES)
_CALCULATOR = re.compile(r"<<[^<>]*>>")


def final_answer(row: Mapping[str, Any]) -> str:
    """What stands behind `####`, without the commas in numbers.

    Raises:
        ValueError: There is no `####`.
    """
    _, mark, answer = str(row["answer"]).rpartition("####")
    if not mark:
        raise ValueError("the answer has no ####")
    return answer.strip().replace(",", "")


def worked_solution(row: Mapping[str, Any]) -> str:
    """The explanation without its calculator marks, and the answer in a box."""
    explanation = str(row["answer"]).rpartition("####")[0]
    return f"{_CALCULATOR.sub('', explanation).strip()}\n{boxed(final_answer(row))}"


@register_problems("llm_envs/GSM8K-v0", reward=_REWARD)
def gsm8k(path: str = "", held_out: HeldOut = "fifth", skip_bad_rows: bool = False) -> Sequence[Problem]:
    """Solve the word problems of GSM8K (columns `question`, and `answer` with `####`).

    Args:
        path: A folder with `train` and `test` files (JSONL or Parquet), whose split is kept, or a single file. By
            default the package `datasets` is asked for `openai/gsm8k`, which needs a network or a filled cache.
        held_out: Of a single file, which rows are the split `"test"`: `"fifth"`, `"all"` or `"none"`.
        skip_bad_rows: Whether rows that cannot be used are left out, instead of an error.

    Raises:
        BadRow: A row cannot be used; the message names it.
        FileNotFoundError: There is no such file, or `datasets` could not load the data set.
        ModuleNotFoundError: There is no path, and `datasets` is missing; or the file is Parquet, and pyarrow is.
    """
    source = path or load_from_hub("openai/gsm8k", "main")
    shape = RowShape(
        prompt="question",
        reference=final_answer,
        solution=worked_solution,
        split=held_out,
        instruction=_REWARD.instruction,
        skip_bad_rows=skip_bad_rows,
    )
    return _read(path, versions(source), shape) if path else read_problems(source, shape, _REWARD)


@functools.lru_cache(maxsize=4)
def _read(source: str, version: object, shape: RowShape) -> Sequence[Problem]:
    return read_problems(source, shape, _REWARD)
