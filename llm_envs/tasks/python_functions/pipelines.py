"""Levels 2 to 4: steps one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from llm_envs.tasks.python_functions.algorithm_steps import ON_A_COUNT, ON_GRIDS, ON_NUMBERS, ON_TEXTS
from llm_envs.tasks.python_functions.argument_kinds import KINDS
from llm_envs.tasks.python_functions.program import Piece, Program
from llm_envs.tasks.python_functions.simple_steps import NUMBERS, RESULTS, SUMMARIES, TABLES, TEXTS, WORDS

_STEPS = (*NUMBERS, *SUMMARIES, *TABLES, *TEXTS, *WORDS, *RESULTS)
_CORES = (*ON_NUMBERS, *ON_A_COUNT, *ON_TEXTS, *ON_GRIDS)
_PURE_CORES = tuple(core for core in _CORES if core.takes != core.gives)


def numbers(rng: np.random.Generator) -> Program:
    """Level 2: one or two steps on a list of numbers, then a summary of it."""
    chosen = [_pick(rng, NUMBERS) for _ in range(int(rng.integers(1, 3)))]
    return compose(rng, [*chosen, _pick(rng, SUMMARIES)])


def mixed(rng: np.random.Generator) -> Program:
    """Level 3: three or four steps through numbers, texts, words and dictionaries."""
    kind = ("ints", "text", "words")[int(rng.integers(3))]
    length = int(rng.integers(3, 5))
    chosen: list[Piece] = []
    while len(chosen) < length:
        # one table after the other, so that a table with many rows is not drawn more often than another
        options = [step for step in _STEPS if step.takes == kind and (step.gives != kind or kind != "int")]
        gives = sorted({step.gives for step in options})
        wanted = gives[int(rng.integers(len(gives)))]
        if KINDS[wanted].noun == "result" and len(chosen) < length - 1:
            continue  # a single value is the end of the way
        chosen.append(_pick(rng, [step for step in options if step.gives == wanted]))
        kind = wanted
    return compose(rng, chosen)


def algorithm(rng: np.random.Generator) -> Program:
    """Level 4: a core (search, dynamic programming, number theory, matrices) between other steps."""
    core = _pick(rng, _PURE_CORES)
    same = [step for step in (*NUMBERS, *TEXTS, *ON_GRIDS) if step.takes == step.gives]
    before = [step for step in same if step.takes == core.takes]
    chosen = [_pick(rng, before)] * int(rng.integers(0, 2)) if before else []
    chosen.append(core)
    if core.gives == "ints":
        if rng.random() < 0.6:
            chosen.append(_pick(rng, NUMBERS))
        chosen.append(_pick(rng, SUMMARIES))
    elif not before or rng.random() < 0.6:
        chosen.append(_pick(rng, RESULTS))
    return compose(rng, chosen)


def compose(rng: np.random.Generator, pieces: Sequence[Piece]) -> Program:
    """The steps as one function; their parameters are drawn.

    Raises:
        ValueError: A step does not take what the one before it gives.
    """
    for first, second in itertools.pairwise(pieces):
        if first.gives != second.takes:
            raise ValueError(f"{second.words!r} takes {second.takes}, not {first.gives}")
    takes, gives = pieces[0].takes, pieces[-1].gives
    parameter = name = KINDS[takes].noun
    lines, clauses = [], []
    for place, step in enumerate(pieces):
        words, statements, expression = step.fill(rng, name)
        name = KINDS[step.gives].noun
        lines += statements
        lines.append(f"return {expression}" if place == len(pieces) - 1 else f"{name} = {expression}")
        clauses.append(words)
    source = f"def solve({parameter}):\n" + "\n".join(f"    {line}" for line in lines)
    description = f"With {parameter}: {'; then '.join(clauses)}. Return the result."
    return Program("solve", ((parameter, takes),), gives, description, source)


def _pick(rng: np.random.Generator, pieces: Sequence[Piece]) -> Piece:
    return pieces[int(rng.integers(len(pieces)))]
