"""Whether a task's problems are those its seed names, stay on their side of the split, and are many."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llm_envs.audit.rows import Row, Verdict, shown
from llm_envs.audit.scorer import Case, Scorer
from llm_envs.problem import SPLITS, Problem
from llm_envs.stream import ProblemStream
from llm_envs.task import Task

FEW_PROBLEMS = 100
_REPEATED = 20
_COMMON = 0.5
"""Share of problems with the same reference above which guessing it is a strategy."""


def problem_rows(
    task: Task, kwargs: Mapping[str, Any], draws: int, seed: int
) -> tuple[dict[str, ProblemStream], list[Row]]:
    """The streams of the splits that have problems, and the rows about `draws` problems of each.

    Raises:
        ValueError: No split has problems.
    """
    streams: dict[str, ProblemStream] = {}
    errors: dict[str, ValueError] = {}
    for split in SPLITS:
        try:
            streams[split] = task.problems(split=split, **kwargs)
        except ValueError as error:
            errors[split] = error
    if not streams:
        raise next(iter(errors.values()))
    drawn = {split: [stream.draw(_seed(seed, split, i)) for i in range(draws)] for split, stream in streams.items()}
    everything = [problem for problems in drawn.values() for problem in problems]
    return streams, [
        _determinism_row(task, kwargs, streams, drawn, seed),
        _overlap_row(drawn, errors),
        _duplicates_row(task, everything),
        _common_row(everything),
    ]


def draw_problems(streams: Mapping[str, ProblemStream], problems: int, seed: int) -> list[Problem]:
    """Different problems of the training split, or of the one that there is; fewer where a task has fewer."""
    split, stream = next(iter(streams.items()))
    found: dict[str, Problem] = {}
    for i in range(20 * problems):
        problem = stream.draw(_seed(seed, split, i))
        found.setdefault(problem.prompt, problem)
        if len(found) == problems:
            break
    return list(found.values())


def _seed(seed: int, split: str, i: int) -> int:
    entropy = np.random.SeedSequence((seed, SPLITS.index(split), i))
    return int(entropy.generate_state(1, np.uint64)[0]) >> 1


def _fingerprint(problem: Problem) -> tuple[str, str, str | None, str | None]:
    return problem.prompt, repr(problem.reference), problem.solution, problem.key


def _determinism_row(
    task: Task,
    kwargs: Mapping[str, Any],
    streams: Mapping[str, ProblemStream],
    drawn: Mapping[str, Sequence[Problem]],
    seed: int,
) -> Row:
    """Draw again, backwards, from new streams, with other global random numbers."""
    name = "problems by seed"
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (a sampler may use it; that is the point)
    try:
        random.seed(987)
        np.random.seed(987)  # noqa: NPY002
        for split in streams:
            stream = task.problems(split=split, **kwargs)
            for i in reversed(range(min(_REPEATED, len(drawn[split])))):
                problem = stream.draw(_seed(seed, split, i))
                if _fingerprint(problem) != _fingerprint(drawn[split][i]):
                    return Row(name, Verdict.FAIL, "the same seed gave another problem", shown(problem.prompt))
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    return Row(
        name, Verdict.PASS, f"{min(_REPEATED, len(drawn[split])) * len(streams)} problems drawn again are the same"
    )


def _overlap_row(drawn: Mapping[str, Sequence[Problem]], errors: Mapping[str, ValueError]) -> Row:
    name = "training and held-out problems"
    if errors:
        (split,) = errors
        return Row(name, Verdict.SKIP, f"the split {split!r} has no problems: {str(errors[split])[:100]}")
    prompts = {split: {" ".join(p.prompt.split()).casefold() for p in problems} for split, problems in drawn.items()}
    shared = sorted(prompts["train"] & prompts["test"])
    counts = f"{len(prompts['train'])} and {len(prompts['test'])} different prompts"
    if shared:
        detail = f"{len(shared)} prompts are in both splits; set Problem.key to what makes a problem this one"
        return Row(name, Verdict.FAIL, detail, shown(shared[0]))
    return Row(name, Verdict.PASS, f"{counts}, none in both")


def _duplicates_row(task: Task, problems: Sequence[Problem]) -> Row:
    """How many problems are drawn twice, and whether equal prompts have references that contradict each other."""
    name = "duplicates"
    by_prompt: dict[str, dict[str, Problem]] = {}
    for problem in problems:
        by_prompt.setdefault(problem.prompt, {})[repr(problem.reference)] = problem
    scorer = Scorer(task.reward)
    for variants in by_prompt.values():
        one, *others = variants.values()
        for other in others:
            if one.solution is not None and other.solution is not None:
                cases = [Case(name, one, other.solution), Case(name, other, one.solution)]
                if any(result is None or result.reward <= 0 for result in scorer.batch(cases)):
                    detail = "a prompt has two references, and the solution of one is not paid for the other"
                    return Row(name, Verdict.FAIL, detail, shown(one.prompt))
    distinct = len(by_prompt)
    detail = f"{len(problems)} draws, {distinct} different prompts"
    if distinct == len(problems):
        return Row(name, Verdict.PASS, detail)
    count, example = max((count, prompt) for prompt, count in Counter(p.prompt for p in problems).items())
    verdict = Verdict.WARN if distinct < FEW_PROBLEMS else Verdict.PASS
    return Row(name, verdict, f"{detail}; one {count} times", shown(example))


def _common_row(problems: Sequence[Problem]) -> Row:
    """What a policy earns that always gives the commonest answer."""
    name = "commonest answer"
    different = {problem.prompt: repr(problem.reference) for problem in problems}
    reference, count = Counter(different.values()).most_common(1)[0]
    share = count / len(different)
    verdict = Verdict.WARN if share >= _COMMON and len(different) > 1 else Verdict.PASS
    return Row(name, verdict, f"right for {100 * share:.1f} % of {len(different)} problems", shown(reference))
