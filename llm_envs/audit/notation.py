"""Expressions that give the right number against the rules: other operators, numbers that were not given.

A task may ask for an expression in given numbers (countdown, 24). A checker that evaluates one and looks at its digits
pays `2**5` for 2 and 5, `2.5*4` for 2, 5 and 4, or `(8+1)*3+5-5`. From a solution in four operations the forbidden
forms are found by search, without knowing the task: a table from subsets of the numbers to the values they can be
combined to, where at least one step is not `+ - * /`; the problem is then given one of these values as its target.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import permutations

from llm_envs.audit.prompt_contents import numbers_in
from llm_envs.problem import Problem
from rewards.arithmetic import Arithmetic

_MAX_NUMBERS = 4
_MAX_VALUES = 60
"""How many values are kept of each subset and trick."""
_MAX_MAGNITUDE = 10**6
_MAX_TARGET = 10**4
_MAX_EXPONENT = 20


def uses_given_numbers(arithmetic: Arithmetic, prompt: str) -> bool:
    """Whether an answer is a computation with the prompt's own numbers, so that rules about them are likely."""
    given = {int(number) for number in numbers_in(prompt) if number.isdigit()}
    return arithmetic.operators >= 1 and len(arithmetic.numbers) >= 2 and set(arithmetic.numbers) <= given


def rule_breaking(arithmetic: Arithmetic, answer: str) -> Iterator[tuple[str, str]]:
    """Expressions of the solution's value with numbers that were not given, or none, each with what it does."""
    value, numbers = arithmetic.value, arithmetic.numbers
    first, last = numbers[0], numbers[-1]
    unused = next(n for n in range(2, 1000) if n not in numbers)
    yield "a number used again", f"{answer} + {first} - {first}"
    if last:
        yield "a number used again", f"({answer}) * {last} / {last}"
    yield "a number that was not given", f"({answer}) + {unused} - {unused}"
    yield "a number that was not given", f"({answer}) * 1"
    if value.denominator == 1:
        yield "the target itself", str(value)
        yield "the target itself", f"({value})"
        yield "numbers in a comment", f"{value} # {' '.join(map(str, numbers))}"
        yield "numbers in an empty sum", f"{value} + 0 * ({' + '.join(map(str, numbers))})"
        yield "two values", f"{value}, {', '.join(map(str, numbers))}"
        yield "a choice of values", f"{value} or {' or '.join(map(str, numbers))}"
        if sum(numbers) != value:
            yield "a false equation", f"{' + '.join(map(str, numbers))} = {value}"


def with_target(problem: Problem, old: Fraction, new: int) -> Problem | None:
    """The problem with another target, where its reference says in one place what the target is.

    Which values the forbidden operators reach depends on the numbers, and the problem's own target is seldom one of
    them; a checker's rules do not depend on the target.
    """
    reference = problem.reference
    if isinstance(reference, Mapping):
        places = [name for name, value in reference.items() if _is_number(value, old)]
        if len(places) != 1:
            return None
        changed: object = {**reference, places[0]: type(reference[places[0]])(new)}
    elif _is_number(reference, old):
        changed = type(reference)(new)
    else:
        return None
    prompt = re.sub(rf"(?<![\w.]){re.escape(str(old))}(?![\w.]\d|\w)", str(new), problem.prompt)
    return replace(problem, prompt=prompt, reference=changed, solution=None)


def _is_number(value: object, number: Fraction) -> bool:
    if isinstance(value, str):
        return value == str(number)
    return isinstance(value, int | float) and not isinstance(value, bool) and value == number


def other_operators(numbers: tuple[int, ...]) -> dict[str, tuple[int, str]]:
    """For each operator beyond `+ - * /`, an expression of exactly these numbers with it, and its value.

    Returns:
        From the operator (`**`, `//`, `%`, `.` for a decimal point, `digits` for numbers written together, ...) to a
        positive whole number and an expression that comes to it; those for which none was found are left out.
    """
    if not 2 <= len(numbers) <= _MAX_NUMBERS:
        return {}
    table: dict[tuple[int, ...], dict[tuple[Fraction, str], str]] = {}
    for size in range(1, len(numbers) + 1):
        for subset in sorted(set(_subsets(tuple(sorted(numbers)), size))):
            table[subset] = _combined(subset, table)
    found: dict[str, tuple[int, str]] = {}
    plain = {value for value, trick in table[tuple(sorted(numbers))] if not trick}
    for (value, trick), text in table[tuple(sorted(numbers))].items():
        # a value that the four operations reach too would prove as much, but show less
        if trick and value.denominator == 1 and 0 < value < _MAX_TARGET and value not in plain:
            found.setdefault(trick, (int(value), text))
    return found


def _subsets(numbers: tuple[int, ...], size: int) -> Iterator[tuple[int, ...]]:
    for mask in range(1 << len(numbers)):
        if mask.bit_count() == size:
            yield tuple(number for i, number in enumerate(numbers) if mask >> i & 1)


def _combined(
    subset: tuple[int, ...], table: dict[tuple[int, ...], dict[tuple[Fraction, str], str]]
) -> dict[tuple[Fraction, str], str]:
    """What a multiset of numbers can be combined to: from (value, the trick that was used) to the expression."""
    if len(subset) == 1:
        return {(Fraction(subset[0]), ""): str(subset[0])}
    found: dict[tuple[Fraction, str], str] = {}
    kept: Counter[str] = Counter()
    if len(subset) == 2:
        for first, second in dict.fromkeys(permutations(subset)):
            found.setdefault((Fraction(f"{first}.{second}"), "."), f"{first}.{second}")
            found.setdefault((Fraction(f"{first}{second}"), "digits"), f"{first}{second}")
    for left, right in _splits(subset):
        for (a, trick_a), text_a in table[left].items():
            for (b, trick_b), text_b in table[right].items():
                if trick_a and trick_b and trick_a != trick_b:
                    continue
                for operator, value in _steps(a, b):
                    tricks = {trick_a, trick_b, "" if operator in "+-*/" else operator} - {""}
                    if len(tricks) > 1 or abs(value) > _MAX_MAGNITUDE:
                        continue
                    trick = tricks.pop() if tricks else ""
                    if (value, trick) in found or (kept[trick] >= _MAX_VALUES):
                        continue
                    kept[trick] += 1
                    found[value, trick] = f"({text_a}{operator}{text_b})"
    return found


def _splits(subset: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    seen = set()
    for mask in range(1, (1 << len(subset)) - 1):
        left = tuple(number for i, number in enumerate(subset) if mask >> i & 1)
        right = tuple(number for i, number in enumerate(subset) if not mask >> i & 1)
        if (left, right) not in seen:
            seen.add((left, right))
            yield left, right


def _steps(a: Fraction, b: Fraction) -> Iterator[tuple[str, Fraction]]:
    yield "+", a + b
    yield "-", a - b
    yield "*", a * b
    if b:
        yield "/", a / b
    if a.denominator == b.denominator == 1:
        if b:
            yield "//", Fraction(a // b)
            yield "%", a % b
        if 0 <= b <= _MAX_EXPONENT and (a or b):
            yield "**", a ** int(b)
        if a >= 0 and b >= 0:
            left, right = int(a), int(b)
            yield "|", Fraction(left | right)
            yield "^", Fraction(left ^ right)
            if right <= _MAX_EXPONENT:
                yield "<<", Fraction(left << right)
