"""Tasks for other trainers, and other trainers' rewards for tasks: TRL and verl.

TRL (1.16.0, with which the tests train) calls `function(prompts, completions, **columns)` with one list for each column
of the data set and takes a list of floats, None where a function does not apply; prompts and completions are texts, or
lists of messages. verl calls `compute_score(data_source, solution_str, ground_truth, extra_info)` for one completion
and takes a float, or a mapping with `score`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llm_envs.chat_template import opened_reasoning, template_marks
from llm_envs.stream import ProblemStream
from llm_envs.task import find_task
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
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "to_trl makes a datasets.Dataset: pip install datasets (it comes with TRL)"
        ) from error
    if problems < 1:
        raise ValueError(f"problems must be at least 1, got {problems}")
    task, arguments = find_task(id, kwargs)
    if task.reply is not None:
        raise TypeError(f"{task.id} has several turns, and TRL's data sets of prompts have one")
    stream = task.problems(split=split, **arguments)
    seeds = _seeds(stream, problems, seed)
    texts = [stream.draw(s).prompt for s in seeds]
    prompts: list[Any] = [[{"role": "user", "content": text}] for text in texts] if conversational else list(texts)
    dataset = datasets.Dataset.from_dict({"prompt": prompts, SEED_COLUMN: seeds})
    generation_prompt = "" if tokenizer is None else template_marks(tokenizer).generation_prompt
    return dataset, _trl_reward(stream, task.reward, task.id, generation_prompt)


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
