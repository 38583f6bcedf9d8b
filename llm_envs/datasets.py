"""`register_dataset`: a table of questions and answers as a task; a finite set, visited in epochs."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from llm_envs.problem import SPLITS, BadRow, HeldOut, Problem, check_prompt, key_in_split
from llm_envs.registration import register
from llm_envs.stream import FiniteStream
from llm_envs.tables import KINDS, Source, files_of, read_tables
from llm_envs.task import Task, calling_module
from llm_envs.tasks.hub import load_from_hub
from rewards.base import InvalidReference, Reward, check_reference
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

Column = str | Callable[[Mapping[str, Any]], Any]
"""The name of a column, or a function of the row."""
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(:[\w.-]+)?")
Loader = TypeVar("Loader", bound=Callable[..., Sequence[Problem]])


@dataclass(frozen=True)
class FiniteTask(Task):
    """A task whose problems are a finite set; its sampler draws one of them with equal probability.

    Attributes:
        load: Returns the problems of all splits; its keyword arguments are the task's.
    """

    load: Callable[..., Sequence[Problem]]

    def problems(self, split: str = "train", prompt_template: str | None = None, **kwargs: Any) -> FiniteStream:
        """The stream of this task's problems, each once in an epoch.

        Raises:
            TypeError: `load` has no argument of that name, or one of another type.
            BadRow: A row cannot be used.
        """
        self.check_arguments(kwargs)
        return FiniteStream(self.load(**kwargs), self.reward, split, prompt_template)

    @property
    def _takes_arguments(self) -> Callable[..., Any]:
        return self.load

    @property
    def sampler_arguments(self) -> dict[str, Any]:
        """The keyword arguments of `load` with their defaults."""
        return {name: parameter.default for name, parameter in inspect.signature(self.load).parameters.items()}


def register_problems(
    id: str, *, reward: Reward, check: bool = False, module: str | None = None, metric: str | None = None
) -> Callable[[Loader], Loader]:
    """Register the decorated function, which returns a finite set of problems, as a Gymnasium environment.

    Its keyword arguments become those of `gymnasium.make(id, ...)`, beside `split`, `prompt_template` and
    `render_mode`. In training each problem of a split is visited once before any is repeated, and an evaluation visits
    each at most once; see `llm_envs.stream.FiniteStream`. The function is called for each environment that is made: it
    should keep what it has read.

    Args:
        id: Namespace, name and version.
        reward: Scores the completions.
        check: Whether a short version of `audit_task` attacks the reward at once; then the function is called at once.
        module: The module that registers the task, which another process imports; by default the caller's.
        metric: The figure that tables and curves show in place of the accuracy, see `register_task`.

    Returns:
        The decorator; it returns the function unchanged.

    Raises:
        TypeError: `reward` cannot be called.
        gymnasium.error.Error: The id is malformed.
        llm_envs.audit.AuditFailed: With `check`: the reward does not hold.
    """
    if not callable(reward):
        raise TypeError(f"reward must be callable, got {type(reward).__name__}")
    registered_in = module or calling_module()

    def decorate(load: Loader) -> Loader:
        @functools.wraps(load)
        def sampler(rng: np.random.Generator, **kwargs: Any) -> Problem:
            problems = load(**kwargs)
            return problems[int(rng.integers(len(problems)))]

        register(FiniteTask(id, sampler, reward, registered_in, load, metric=metric), check=check)
        return load

    return decorate


def register_dataset(
    id: str,
    path_or_dataset: Source,
    *,
    prompt: Column,
    reference: Column,
    solution: Column | None = None,
    split: HeldOut | str = "fifth",
    reward: Reward | None = None,
    instruction: str | None = None,
    skip_bad_rows: bool = False,
    check: bool = False,
    metric: str | None = None,
) -> None:
    r"""Register a table as a task.

    Nothing is read before the first environment is made, and files that have changed are read again.

    >>> import gymnasium
    >>> rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(100)]
    >>> register_dataset("doc/Successors-v0", rows, prompt="question", reference="answer")
    >>> gymnasium.make("doc/Successors-v0").reset(seed=0)[0]
    'What is 0 + 1? Put your final answer in \\boxed{}.'

    Args:
        id: Namespace, name and version.
        path_or_dataset: A file of JSON lines (`.jsonl`, `.ndjson`), JSON (`.json`: a list of objects), CSV (`.csv`,
            with commas or semicolons, or `.tsv`; all values are texts) or Parquet (`.parquet`, extra `parquet`), each
            but the last also compressed (`.gz`); a folder with files whose names begin with `train` and `test`; a
            list of mappings, a `datasets.Dataset`, or a data frame of pandas or polars; a mapping from `"train"` and
            `"test"` to any of these but a folder; or the name of a data set on the hub, with a configuration where it
            has several, such as `"openai/gsm8k:main"` (extra `datasets`).
        prompt: What is asked: a column, or a function of the row.
        reference: What the reward compares with: a column, or a function of the row.
        solution: A right completion, for `evaluate` and the audit: a column, or a function of the row.
        split: Which rows are held out, where the table does not say: `"fifth"` (by a hash of the prompt, as for every
            task), `"all"` (a benchmark), `"none"`, or the name of a column that holds `"train"` or `"test"`.
        reward: Scores the completions; by default `MathReward(rules=MARKED_RULES)`.
        instruction: A sentence that is put behind each prompt; by default the reward's own, which says how to mark
            the answer. It moves no row between the splits.
        skip_bad_rows: Whether rows that cannot be used are left out, instead of an error.
        check: Whether a short version of `audit_task` attacks the reward at once; then the table is read at once.
        metric: The figure that tables and curves show in place of the accuracy, see `register_task`.

    Raises:
        TypeError: `reward` cannot be called.
        gymnasium.error.Error: The id is malformed.
        BadRow: When an environment is made: a column is missing, a row is empty or asks the same as another, or the
            reward cannot use a reference. The message names the row.
        FileNotFoundError: When an environment is made: there is no such file, folder or data set.
        ModuleNotFoundError: When an environment is made: pyarrow, for Parquet, or datasets, for the hub, is missing.
        ValueError: When an environment is made: a split that there is not, or a file that is not what its name says.
    """
    scored = MathReward(rules=MARKED_RULES) if reward is None else reward
    shape = RowShape(
        prompt=prompt,
        reference=reference,
        solution=solution,
        split=split,
        instruction=str(getattr(scored, "instruction", "")) if instruction is None else instruction,
        skip_bad_rows=skip_bad_rows,
    )
    kept: dict[tuple[tuple[str, int, int], ...], Sequence[Problem]] = {}

    def load() -> Sequence[Problem]:
        hub_name = _hub_name(path_or_dataset)
        version = () if hub_name else versions(path_or_dataset)
        if version not in kept:
            kept.clear()
            source = _from_hub(hub_name) if hub_name else path_or_dataset
            kept[version] = read_problems(source, shape, scored)
        return kept[version]

    load.__doc__ = f"Answer the questions of {_name_of(path_or_dataset)}."
    register_problems(id, reward=scored, check=check, module=calling_module(), metric=metric)(load)


def _hub_name(source: Source) -> str:
    """The name of a data set on the hub, such as `"openai/gsm8k:main"`; empty where a source is something else."""
    if not isinstance(source, str) or not _HUB_NAME.fullmatch(source) or source.lower().endswith(KINDS):
        return ""
    return "" if Path(source).expanduser().exists() else source


def _from_hub(name: str) -> Source:
    """The tables of a data set on the hub; where it has rows for training alone, one table.

    Raises:
        FileNotFoundError: There is neither a folder nor a data set of this name.
    """
    data_set, _, config = name.partition(":")
    try:
        tables = load_from_hub(data_set, config or None)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file or folder {name}, and as a data set of the hub: {error}") from error
    return tables["train"] if set(tables) == {"train"} else tables


@dataclass(frozen=True, kw_only=True, slots=True)
class RowShape:
    """How a row becomes a problem; the attributes are arguments of `register_dataset`."""

    prompt: Column
    reference: Column
    solution: Column | None = None
    split: HeldOut | str = "fifth"
    instruction: str = ""
    skip_bad_rows: bool = False


def versions(source: Source) -> tuple[tuple[str, int, int], ...]:
    """The files of a source with the time of their last change and their size.

    Raises:
        FileNotFoundError: There is no such file.
    """
    found = []
    for file in files_of(source):
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}")
        status = file.stat()
        found.append((str(file.resolve()), status.st_mtime_ns, status.st_size))
    return tuple(found)


def read_problems(source: Source, shape: RowShape, reward: Reward) -> tuple[Problem, ...]:
    """The problems of a table.

    Raises:
        BadRow: A row cannot be used; with `skip_bad_rows`, none can.
        ValueError: There are no rows.
    """
    problems: dict[str, tuple[str, Problem]] = {}
    first_error: BadRow | None = None
    for assigned, rows in read_tables(source).items():
        for where, row in rows:
            try:
                if isinstance(row, BadRow):
                    raise row
                content, problem = _problem(where, row, assigned, shape, reward)
                if content in problems:
                    raise BadRow(f"{where}: asks the same as {problems[content][0]}")
            except BadRow as error:
                if not shape.skip_bad_rows:
                    raise
                first_error = first_error or error
                continue
            problems[content] = where, problem
    if not problems:
        detail = f"; the first error: {first_error}" if first_error else ""
        raise ValueError(f"{_name_of(source)} has no rows that can be used{detail}")
    return tuple(problem for _, problem in problems.values())


def _problem(
    where: str, row: Mapping[str, Any], assigned: str | None, shape: RowShape, reward: Reward
) -> tuple[str, Problem]:
    """What a row asks, without the white space around it, and the problem that it is."""
    prompt = _text(where, row, shape.prompt, "prompt")
    reference = _value(where, row, shape.reference, "reference")
    if _is_missing(reference):
        raise BadRow(f"{where}, {_of(shape.reference, 'reference')}: is empty")
    try:
        check_reference(reward, reference)
    except InvalidReference as error:
        raise BadRow(f"{where}, {_of(shape.reference, 'reference')}: {error}") from error
    solution = None if shape.solution is None else _text(where, row, shape.solution, "solution")
    held_out = _held_out(where, row, assigned, shape)
    problem = Problem(
        prompt=f"{prompt} {shape.instruction}".rstrip(),
        reference=reference,
        solution=solution,
        metadata={"row": where},
        key=key_in_split(prompt, held_out) or prompt,
    )
    return prompt.replace("\r\n", "\n").strip(), problem


def _is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, white space, or the NaN that tables have in its place."""
    return (
        value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and value != value)
    )


def _held_out(where: str, row: Mapping[str, Any], assigned: str | None, shape: RowShape) -> HeldOut:
    sides: dict[Any, HeldOut] = {"train": "none", "test": "all"}
    if assigned is not None:
        return sides[assigned]
    for held_out in get_args(HeldOut):
        if shape.split == held_out:
            return held_out
    value = _value(where, row, shape.split, "split")
    if value not in sides:
        raise BadRow(f"{where}, column {shape.split!r}: expected one of {SPLITS}, got {value!r:.80}")
    return sides[value]


def _value(where: str, row: Mapping[str, Any], column: Column, role: str) -> Any:
    if not isinstance(column, str):
        try:
            return column(row)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise BadRow(f"{where}: the function for the {role} failed: {type(error).__name__}: {error}") from error
    if column not in row:
        raise BadRow(f"{where}: has no column {column!r} for the {role}; it has {sorted(map(str, row))}")
    return row[column]


def _text(where: str, row: Mapping[str, Any], column: Column, role: str) -> str:
    value = _value(where, row, column, role)
    if not isinstance(value, str):
        raise BadRow(f"{where}, {_of(column, role)}: expected a text, got {value!r:.80}")
    if not value.strip():
        raise BadRow(f"{where}, {_of(column, role)}: is empty")
    if role == "prompt":
        try:
            check_prompt(value)
        except ValueError as error:
            raise BadRow(f"{where}, {_of(column, role)}: {error}") from error
    return value


def _of(column: Column, role: str) -> str:
    return f"column {column!r}" if isinstance(column, str) else role


def _name_of(source: Source) -> str:
    if isinstance(source, str | Path):
        return str(source)
    return "the tables" if isinstance(source, Mapping) else "the table"
