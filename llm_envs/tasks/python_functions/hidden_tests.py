"""Examples and hidden tests of a program: chosen so that every wrong version of it that can be told apart is."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_envs.tasks.python_functions.argument_kinds import KINDS
from llm_envs.tasks.python_functions.interpreter import RAISES, Function, parse
from llm_envs.tasks.python_functions.mutants import mutants
from llm_envs.tasks.python_functions.program import Program

MIN_TESTS, MAX_TESTS = 8, 16
_POOL = {1: 60, 2: 200, 3: 300}  # how many random arguments, for so many parameters
_MAX_EXAMPLE_CHARS = 160
_RAISED = object()
Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """Arguments, and the value that the right program gives."""

    arguments: Arguments
    expected: Any


@dataclass(frozen=True, slots=True)
class TestSet:
    """What a program is shown and tested with.

    Attributes:
        examples: Shown in the prompt.
        hidden: Never shown; no two have the same arguments, and none has those of an example.
    """

    examples: tuple[Case, ...]
    hidden: tuple[Case, ...]

    __test__ = False  # pytest would take it for a class of tests because of its name


@functools.lru_cache(maxsize=4096)
def make_tests(program: Program, examples: int) -> TestSet | None:
    """Examples and hidden tests; a pure function of the program, whichever seed drew it.

    Candidates are the edge cases of the parameters' kinds and random values. From them are taken, one after the other,
    those that catch a mutant (see `mutants`) not caught so far; then others, in order, up to `MIN_TESTS`.

    Args:
        program: The program.
        examples: How many examples.

    Returns:
        The tests, or None where the program is not worth asking: a line of it can be left out, its values hardly
        differ, it returns its argument, or its mutants need more than `MAX_TESTS` tests.
    """
    tree = parse(program.source)
    right = Function(tree)
    shown, pool = _split_pool(
        [Case(a, right(*a)) for a in candidates(program, _POOL[len(program.parameters)])], examples
    )
    if len(shown) < examples or len(pool) < MIN_TESTS or _is_dull([case.expected for case in pool]):
        return None
    chosen: list[Case] = []
    for i in range(len(program.parameters)):  # who returns an argument must fail
        if not any(not same(case.arguments[i], case.expected) for case in chosen):
            catcher = next((case for case in pool if not same(case.arguments[i], case.expected)), None)
            if catcher is None:
                return None
            chosen.append(catcher)
    for mutant in mutants(tree):
        wrong = Function(mutant)
        if catches(wrong, chosen):
            continue
        catcher = next((case for case in pool if catches(wrong, [case])), None)
        if catcher is not None:
            chosen.append(catcher)
        elif len(mutant.body) < len(tree.body):
            return None  # a statement that does nothing
    for case in pool:
        if len(chosen) >= MIN_TESTS and not _is_dull([case.expected for case in chosen]):
            break
        if not any(case is other for other in chosen):
            chosen.append(case)
    return TestSet(shown, tuple(chosen)) if len(chosen) <= MAX_TESTS else None


def candidates(program: Program, count: int, salt: str = "") -> list[Arguments]:
    """Arguments for the program, edge cases first; another `salt` gives others."""
    digest = hashlib.blake2b((salt + program.source).encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    kinds = [KINDS[kind] for _, kind in program.parameters]
    if len(kinds) == 1:
        drawn: list[Arguments] = [(edge,) for edge in kinds[0].edges]
    else:  # not all combinations: each edge of each parameter meets a random one of the others
        drawn = [
            tuple(_pick(rng, k.edges) if k is not own else edge for k in kinds) for own in kinds for edge in own.edges
        ]
        drawn += [(n,) * len(kinds) for n in (0, 1, -1)]
    for _ in range(count):
        drawn.append(tuple(kind.draw(rng) for kind in kinds if kind.draw is not None))
    return list({repr(arguments): arguments for arguments in drawn}.values())


def catches(wrong: Function, cases: Sequence[Case]) -> bool:
    """Whether a program fails at least one of the cases."""
    return any(not same(_run(wrong, case.arguments), case.expected) for case in cases)


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal, and of the same type of container all the way down."""
    if isinstance(left, bool) is not isinstance(right, bool) or type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def _run(function: Function, arguments: Arguments) -> Any:
    try:
        return function(*arguments)
    except RAISES:
        return _RAISED


def _split_pool(cases: list[Case], examples: int) -> tuple[tuple[Case, ...], list[Case]]:
    """The examples (short, unlike each other, from the random cases) and the rest."""
    shown: list[Case] = []
    for case in reversed(cases):
        if len(shown) == examples:
            break
        short = len(repr(case.arguments)) + len(repr(case.expected)) <= _MAX_EXAMPLE_CHARS
        if short and all(not same(case.expected, other.expected) for other in shown[:1]):
            shown.append(case)
    return tuple(shown), [case for case in cases if not any(case is other for other in shown)]


def _is_dull(values: Sequence[Any]) -> bool:
    """Whether one value is more frequent than two thirds."""
    most = max(sum(same(value, other) for other in values) for value in values)
    return 3 * most > 2 * len(values)


def _pick(rng: np.random.Generator, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]
