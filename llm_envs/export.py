"""Tasks for other trainers, and other trainers' rewards for tasks: TRL and verl.

TRL (1.16.0, with which the tests train) calls `function(prompts, completions, **columns)` with one list for each column
of the data set and takes a list of floats, None where a function does not apply; prompts and completions are texts, or
lists of messages. verl calls `compute_score(data_source, solution_str, ground_truth, extra_info)` for one completion
and takes a float, or a mapping with `score`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm_envs.chat_template import opened_reasoning, template_marks
from llm_envs.problem import Problem
from llm_envs.stream import ProblemStream
from llm_envs.task import Task, find_task
from rewards.base import Outcome, Reward, RewardResult, score

SEED_COLUMN = "problem_seed"
"""The column that names a row's problem. References stay out of the data set: a column is shown to every function."""

TrlFunction = Callable[..., Sequence[float | None]]
VerlFunction = Callable[..., float | Mapping[str, Any]]


def to_trl(
    id: str,
    *,
    problems: int = 1000,
    split: str = "train",
    seed: int = 0,
    conversational: bool = True,
    tokenizer: Any = None,
    **kwargs: Any,
) -> tuple[Any, TrlFunction]:
    """A task as what TRL's trainers take.

    `dataset, reward = to_trl("llm_envs/Arithmetic-v0")`, then `GRPOTrainer(model, reward, train_dataset=dataset, ...)`.

    Args:
        id: The task's id.
        problems: How many rows; a finite task gives each of its problems once and at most this many.
        split: `"train"` or `"test"`.
        seed: Names the problems.
        conversational: Whether a prompt is a user's message, for models with a chat template, or a plain text.
        tokenizer: Of the model that TRL trains. Where its chat template ends with an opened block of reasoning
            (`<think>`), TRL's completions lack that mark; the reward then gets it in front, and pays nothing for
            reasoning that was cut. A plain prompt that ends with the mark needs no tokenizer.
        kwargs: Arguments of the task.

    Returns:
        A `datasets.Dataset` with the columns `prompt` and `problem_seed`, and a reward function for it.

    Raises:
        ModuleNotFoundError: The package `datasets` is missing.
        TypeError: The id is no task of `register_task`, or has no argument of that name.
        ValueError: `problems` is less than 1, or an argument is refused.
    """
    datasets = _datasets("to_trl")
    task, stream, seeds = _problems(id, problems, split, seed, kwargs)
    texts = [stream.draw(s).prompt for s in seeds]
    prompts: list[Any] = [[{"role": "user", "content": text}] for text in texts] if conversational else list(texts)
    dataset = datasets.Dataset.from_dict({"prompt": prompts, SEED_COLUMN: seeds})
    generation_prompt = "" if tokenizer is None else template_marks(tokenizer).generation_prompt
    return dataset, _trl_reward(stream, task.reward, task.id, generation_prompt)


_REWARD_FILE = '''"""The reward for tables of prompts in verl; llm_envs.to_verl wrote this file."""

from llm_envs.export import verl_score


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return verl_score(solution_str, extra_info)
'''
_WRITTEN_BY_US = "llm_envs.to_verl wrote this file"


def to_verl(
    id: str,
    folder: str | Path,
    *,
    problems: int = 1000,
    split: str = "train",
    seed: int = 0,
    tokenizer: Any = None,
    **kwargs: Any,
) -> tuple[Path, Path]:
    """Write a task as what verl takes: a table of prompts and a file with the function `compute_score`.

    `to_verl("llm_envs/Arithmetic-v0", "data")`, again with `split="test"`, then verl's options
    `data.train_files=data/train.parquet data.val_files=data/test.parquet` and
    `custom_reward_function.path=data/compute_score.py`.

    The references stay out of the table: the column `extra_info` of a row names its task, the task's arguments and its
    problem. So the file is the same for each task, and scores the tables of several tasks and arguments. A table of the
    same split in the same folder is replaced.

    Args:
        id: The task's id. The module that registers it must be importable where verl runs.
        folder: Where both are written; made if it is missing.
        problems: How many rows; a finite task gives each of its problems once and at most this many.
        split: `"train"` or `"test"`, also the name of the table.
        seed: Names the problems.
        tokenizer: Of the model that verl trains. Where its chat template ends with an opened block of reasoning
            (`<think>`), verl's completions lack that mark; the rows then carry it, the reward gets it in front of a
            completion, and pays nothing for reasoning that was cut. Without it, text in reasoning that was cut may be
            paid.
        kwargs: Arguments of the task, as Python literals can write them.

    Returns:
        The table and the file of the function.

    Raises:
        FileExistsError: `compute_score.py` in that folder was written by somebody else.
        ModuleNotFoundError: The package `datasets` is missing.
        TypeError: The id is no task of `register_task`, has several turns, or has no argument of that name.
        ValueError: `problems` is less than 1, an argument is refused, or the task is registered by the program itself.
    """
    datasets = _datasets("to_verl")
    task, stream, seeds = _problems(id, problems, split, seed, kwargs)
    if task.module == "__main__":
        raise ValueError(f"{task.id} is registered by this program; put it into a module that verl's can import")
    if not _is_literal(kwargs):
        raise ValueError(f"arguments for to_verl must be Python literals, got {kwargs!r}")
    folder = Path(folder)
    table, file = folder / f"{split}.parquet", folder / "compute_score.py"
    if file.exists() and _WRITTEN_BY_US not in file.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(f"{file} is not of to_verl and would be replaced; name another folder")
    generation_prompt = "" if tokenizer is None else template_marks(tokenizer).generation_prompt
    named = {
        "task": task.id,
        "module": "llm_envs" if task.module.startswith("llm_envs.") else task.module,
        "arguments": repr(kwargs),
        "split": split,
        "opened_reasoning": opened_reasoning(generation_prompt, generation_prompt),
    }
    rows: list[dict[str, Any]] = [
        {
            "data_source": task.id,
            "prompt": [{"role": "user", "content": stream.draw(s).prompt}],
            "ability": "verifiable",
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": named | {"index": i, SEED_COLUMN: s},
        }
        for i, s in enumerate(seeds)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(str(table))
    file.write_text(_REWARD_FILE, encoding="utf-8")
    return table, file


def verl_score(completion: str, extra_info: Mapping[str, Any] | None) -> dict[str, float]:
    """The verdict on a completion to a row of `to_verl`: `score`, and `acc`, 1 where it is right.

    Args:
        completion: What the model wrote.
        extra_info: The row's column of that name. It says which module to import, which task the row is of, with which
            arguments, which problem it is, and what of the completion the chat template has already written.

    Raises:
        ModuleNotFoundError: The module that registers the task cannot be imported.
        ValueError: The row is not one of `to_verl`.
    """
    names = ("task", "module", "arguments", "split", "opened_reasoning", SEED_COLUMN)
    if extra_info is None or not set(names) <= extra_info.keys():
        raise ValueError(f"extra_info must have {', '.join(names)}, as to_verl writes them, got {extra_info!r}")
    *named, opened, problem_seed = (extra_info[name] for name in names)
    reward, draw = _reward_and_problems(*map(str, named))
    problem = draw(int(problem_seed))
    [result] = score(reward, [problem.prompt], [opened + completion], [problem.reference])
    return {"score": float(result.reward), "acc": float(result.outcome is Outcome.CORRECT)}


@functools.lru_cache(maxsize=16)
def _reward_and_problems(id: str, module: str, arguments: str, split: str) -> tuple[Reward, Callable[[int], Problem]]:
    importlib.import_module(module)  # registers the task
    task, found = find_task(id, ast.literal_eval(arguments))
    return task.reward, functools.lru_cache(maxsize=65_536)(task.problems(split=split, **found).draw)


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def _datasets(function: str) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{function} makes a datasets.Dataset: pip install datasets (it comes with TRL and verl)"
        ) from error
    return datasets


def _problems(
    id: str, problems: int, split: str, seed: int, kwargs: dict[str, Any]
) -> tuple[Task, ProblemStream, list[int]]:
    """A task, its stream and the seeds of some of its problems, for a trainer whose data sets hold prompts."""
    if problems < 1:
        raise ValueError(f"problems must be at least 1, got {problems}")
    task, arguments = find_task(id, kwargs)
    if task.reply is not None:
        raise TypeError(f"{task.id} has several turns, and data sets of prompts have one")
    stream = task.problems(split=split, **arguments)
    return task, stream, _seeds(stream, problems, seed)


def _seeds(stream: ProblemStream, problems: int, seed: int) -> list[int]:
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    if stream.num_problems is not None:
        return [int(s) for s in rng.permutation(stream.num_problems)[:problems]]
    return [int(s) for s in rng.integers(2**62, size=problems)]


def _trl_reward(stream: ProblemStream, reward: Reward, name: str, generation_prompt: str) -> TrlFunction:
    draw = functools.lru_cache(maxsize=65_536)(stream.draw)

    def function(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float | None]:
        if SEED_COLUMN not in columns:
            raise ValueError(f"the data set has no column {SEED_COLUMN!r}: use the one that to_trl returned with this")
        drawn = [draw(int(s)) for s in columns[SEED_COLUMN]]
        ends = [prompt if isinstance(prompt, str) else generation_prompt for prompt in prompts]
        opened = [opened_reasoning(end, generation_prompt) for end in ends]
        texts = [mark + text_of(completion) for mark, completion in zip(opened, completions, strict=True)]
        results = score(reward, [p.prompt for p in drawn], texts, [p.reference for p in drawn])
        return [float(result.reward) for result in results]

    function.__name__ = name  # what TRL calls the reward in its logs
    return function


def text_of(message: Any) -> str:
    """The text of a completion: itself, or what the messages of the assistant say.

    Raises:
        TypeError: It is neither a text nor a list of messages.
    """
    if isinstance(message, str):
        return message
    if isinstance(message, list) and all(isinstance(part, Mapping) for part in message):
        said = (part for part in message if part.get("role", "assistant") == "assistant")  # not what a tool says
        return "\n".join(str(part.get("content") or "") for part in said)
    raise TypeError(f"expected a text or a list of messages, got {message!r:.100}")


def from_trl(
    function: TrlFunction, *, full: float = 1.0, conversational: bool = False, column: str = "answer"
) -> Reward:
    """A TRL reward function as a `Reward`.

    A problem's reference is a mapping from the columns that the function reads to their values; any other reference
    is the value of `column`.

    Args:
        function: Called with `prompts`, `completions` and a list for each column.
        full: What a right completion earns: outcome `correct`. Less is `partial`, nothing (or less) `wrong`.
        conversational: Whether it wants messages instead of texts.
        column: The name of the column for references that are no mappings.
    """

    def reward(prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]) -> list[RewardResult]:
        rows = [dict(r) if isinstance(r, Mapping) else {column: r} for r in references]
        names = set().union(*rows)
        if any(set(row) != names for row in rows):
            raise ValueError(
                f"the references of a batch must have the same columns, got {[sorted(row) for row in rows]}"
            )
        columns = {name: [row[name] for row in rows] for name in sorted(names)}
        asked: Sequence[Any] = prompts
        written: Sequence[Any] = completions
        if conversational:
            asked = [[{"role": "user", "content": text}] for text in prompts]
            written = [[{"role": "assistant", "content": text}] for text in completions]
        values = function(prompts=list(asked), completions=list(written), **columns)
        if len(values) != len(completions):
            raise ValueError(f"{_name(function)} returned {len(values)} rewards for {len(completions)} completions")
        return [_scored(value, full) for value in values]

    return reward


def from_verl(compute_score: VerlFunction, *, data_source: str = "", full: float = 1.0) -> Reward:
    """A verl `compute_score` function as a `Reward`.

    A problem's reference is the `ground_truth`, or a mapping with `ground_truth` and, optionally, `extra_info` and
    `data_source`. Other numbers of a mapping that the function returns become metrics.

    Args:
        compute_score: Called with `data_source`, `solution_str`, `ground_truth` and `extra_info`, by name.
        data_source: For references that do not name one.
        full: What a right completion earns: outcome `correct`. Less is `partial`, nothing (or less) `wrong`.
    """

    def one(completion: str, reference: Any) -> RewardResult:
        fields = reference if isinstance(reference, Mapping) and "ground_truth" in reference else None
        value = compute_score(
            data_source=data_source if fields is None else fields.get("data_source", data_source),
            solution_str=completion,
            ground_truth=reference if fields is None else fields["ground_truth"],
            extra_info=None if fields is None else fields.get("extra_info"),
        )
        if not isinstance(value, Mapping):
            return _scored(value, full)
        if "score" not in value:
            raise ValueError(f"{_name(compute_score)} returned a mapping without 'score': {sorted(value)}")
        others = {str(k): float(v) for k, v in value.items() if k != "score" and isinstance(v, int | float)}
        return _scored(value["score"], full, others)

    def reward(prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]) -> list[RewardResult]:
        return [one(completion, reference) for completion, reference in zip(completions, references, strict=True)]

    return reward


def _scored(value: Any, full: float, metrics: Mapping[str, float] | None = None) -> RewardResult:
    """A verdict from a number; None (a function that does not apply) earns nothing."""
    if value is None:
        return RewardResult(0.0, Outcome.NO_ANSWER, metrics=metrics or {})
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a reward must be a finite number, got {value!r}")
    outcome = Outcome.CORRECT if number >= full else Outcome.PARTIAL if number > 0 else Outcome.WRONG
    return RewardResult(number, outcome, metrics=metrics or {})


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
