"""The tasks with their own generators: their references are recomputed independently, and all levels are audited."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from math import gcd, lcm

import gymnasium
import pytest
import sympy

from llm_envs.audit import Verdict, audit_task
from llm_envs.task import find_task
from llm_envs.tasks import countdown as countdown_task
from llm_envs.tasks import equations, number_theory, polynomials, sorting, word_problems
from llm_envs.tasks.writing import polynomial
from rewards.extract import extract_answer

LEVELS = {
    "Countdown": 4,
    "Equations": 4,
    "Fractions": 4,
    "GuessNumber": 4,
    "NumberTheory": 3,
    "Polynomials": 3,
    "Sorting": 4,
    "Strings": 4,
    "WordProblems": 4,
}
ALL = [(f"llm_envs/{name}-v0", level) for name, levels in LEVELS.items() for level in range(levels)]


def problems(name, count=60, **kwargs):
    task = find_task(f"llm_envs/{name}-v0")[0]
    stream = task.problems(**kwargs)
    return [stream.draw(seed) for seed in range(count)]


@pytest.mark.parametrize(("env_id", "level"), ALL)
def test_every_level_passes_its_audit(env_id, level, monkeypatch):
    # a megabyte takes half of an audit's time and is tried with each task's reward in test_audit.py
    monkeypatch.setattr("llm_envs.audit.consistency.MEGABYTE_SIZES", (2**14,))
    report = audit_task(env_id, problems=5, seed=level, level=level)
    assert report.passed, str(report)
    warned = {row.name for row in report.rows if row.verdict is Verdict.WARN} - {"speed"}
    assert not warned, str(report)


@pytest.mark.parametrize("env_id", sorted({env_id for env_id, _ in ALL}))
@pytest.mark.parametrize("level", [-1, 9, 1.0, True, "1"])
def test_a_level_that_there_is_not(env_id, level):
    expected = "level must be a whole number between 0 and" if type(level) is int else "level must be int, got"
    with pytest.raises(ValueError if type(level) is int else TypeError, match=expected):
        gymnasium.make(env_id, level=level)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("Equations", equations.KINDS),
        ("Polynomials", polynomials.KINDS),
        ("NumberTheory", number_theory.KINDS),
        ("Sorting", sorting.KINDS),
    ],
)
def test_kinds(name, kinds):
    first_words = [{problem.prompt.split()[0] for problem in problems(name, 10, kind=kind)} for kind in kinds]
    everything = {problem.prompt.split()[0] for problem in problems(name, 100)}
    assert set().union(*first_words) == everything
    with pytest.raises(ValueError, match="kind must be None or one of"):
        gymnasium.make(f"llm_envs/{name}-v0", kind="nothing")


def solvable(numbers, target):
    """By trying every tree: an independent search."""
    if len(numbers) == 1:
        return numbers[0] == target
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
        a, b = numbers[i], numbers[j]
        values = [a + b, a - b, a * b] + ([a / b] if b else [])
        if any(solvable([*rest, value], target) for value in values):
            return True
    return False


def test_countdown_can_be_solved():
    for problem in problems("Countdown", 20):
        reference = problem.reference
        assert solvable([Fraction(n) for n in reference["numbers"]], reference["target"])
    for level, (count, largest, largest_target) in enumerate(countdown_task.LEVELS):
        for problem in problems("Countdown", 30, level=level):
            assert len(problem.reference["numbers"]) == count
            assert max(problem.reference["numbers"]) <= largest
            assert 0 < problem.reference["target"] <= largest_target
    assert len(problems("Countdown", 1, numbers=5)[0].reference["numbers"]) == 5
    with pytest.raises(ValueError, match="numbers must be between 3 and 6"):
        gymnasium.make("llm_envs/Countdown-v0", numbers=7)


def expression(text):
    text = re.sub(r"(\d) ?([a-zA-Z(])", r"\1*\2", text.replace("^", "**")).replace(")(", ")*(")
    return sympy.sympify(text.replace(r"\sqrt{", "sqrt(").replace("}", ")"))


@pytest.mark.parametrize("level", range(equations.LEVELS))
@pytest.mark.parametrize("kind", equations.KINDS)
def test_equations_agree_with_sympy(kind, level):
    for problem in problems("Equations", 8, kind=kind, level=level):
        if kind == "system":
            asked = re.search(r"Solve (.*?)\. Give \((.*?)\)", problem.prompt)
            sides = [side.split("=") for side in re.split(r", | and ", asked[1])]
            letters = [sympy.Symbol(letter) for letter in asked[2].split(", ")]
            [found] = sympy.linsolve([expression(a) - expression(b) for a, b in sides], letters)
            assert list(found) == list(expression(problem.reference))
        else:
            asked = re.search(r": ([^:]*?) = (-?[^.]*)\.", problem.prompt)
            equation = expression(asked[1]) - expression(asked[2])
            [letter] = equation.free_symbols
            found = sympy.solve(equation, letter)
            values = [expression(text) for text in problem.reference.split(", ")]
            assert {sympy.simplify(v) for v in found} == {sympy.simplify(v) for v in values}


@pytest.mark.parametrize("level", range(polynomials.LEVELS))
@pytest.mark.parametrize("kind", polynomials.KINDS)
def test_polynomials_agree_with_sympy(kind, level):
    x = sympy.Symbol("x")
    for problem in problems("Polynomials", 8, kind=kind, level=level):
        asked = expression(re.search(r"(?:: |, of )([^:]*?)\. Put", problem.prompt)[1])
        value = expression(problem.reference["value"])
        if kind == "differentiate":
            asked = sympy.diff(asked, x)
        if kind == "integrate":
            asked = sympy.integrate(asked, x)
            assert problem.solution.endswith("+ C}")
        assert sympy.expand(asked - value) == 0
        if kind == "factor":
            count = sum(times for _, times in sympy.factor_list(asked)[1])
            assert count == problem.reference["value"].count("(")


def test_fractions_agree_with_python():
    for level in range(4):
        for problem in problems("Fractions", 30, level=level):
            asked = re.search(r"Calculate (.*) as a", problem.prompt)[1].replace("[", "(").replace("]", ")")
            value = sympy.Rational(sympy.sympify(asked))
            assert value == sympy.Rational(problem.reference)


CHECKS = {
    "gcd": lambda a, b, answer: answer == gcd(a, b),
    "lcm": lambda a, b, answer: answer == lcm(a, b),
    "to_base": lambda n, base, answer: int(str(answer), base) == n,
    "from_base": lambda digits, base, answer: int(str(digits), base) == answer,
    "remainder": lambda a, n, m, answer: answer == pow(a, n, m),
    "inverse": lambda one, last, a, one_more, m, answer: a * answer % m == 1 and 0 < answer < m == last + 1,
    "largest_prime": lambda n, answer: answer == max(sympy.primefactors(n)),
    "next_prime": lambda n, answer: answer == sympy.nextprime(n),
}


@pytest.mark.parametrize("level", range(number_theory.LEVELS))
@pytest.mark.parametrize("kind", number_theory.KINDS)
def test_number_theory_agrees_with_sympy(kind, level):
    for problem in problems("NumberTheory", 10, kind=kind, level=level):
        numbers = list(map(int, re.findall(r"\d+", problem.prompt)))
        assert CHECKS[kind](*numbers, int(problem.reference)), problem


@pytest.mark.parametrize("level", range(4))
def test_word_problems_are_told_with_the_numbers_of_their_solution(level):
    makers = set()
    for problem in problems("WordProblems", 60, level=level):
        makers.add(problem.key.split()[0])
        known = set(re.findall(r"\d+", problem.prompt))
        for step in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", problem.solution):
            left, operator, right, result = step
            assert sympy.sympify(f"{left}{operator}{right}") == int(result)
            assert {left, right} <= known, problem
            known.add(result)
        assert problem.reference == result
        assert int(problem.reference) > 0
    assert len(makers) == len(word_problems.LEVELS[level][1])


def test_a_story_is_the_same_problem_whoever_is_in_it():
    sides = {}
    for split in ("train", "test"):
        for problem in problems("WordProblems", 300, split=split):
            story = problem.key
            assert sides.setdefault(story, split) == split


@pytest.mark.parametrize("level", range(4))
def test_sorted_lists_are_permutations_in_order(level):
    for problem in problems("Sorting", 40, level=level):
        asked = re.search(r": (.*?)\. Separate", problem.prompt)[1].split(", ")
        ordered = problem.reference
        assert sorted(asked) == sorted(ordered)
        assert asked != ordered
        if problem.metadata["kind"] == "numbers":
            values = [int(item) for item in ordered]
            assert values == sorted(values, reverse="largest to smallest" in problem.prompt)
        elif problem.metadata["kind"] == "words":
            assert ordered == sorted(ordered, reverse="reverse" in problem.prompt)
        else:
            lengths = [len(item) for item in ordered]
            assert lengths == sorted(lengths, reverse="longest to shortest" in problem.prompt)


def replay(word, instruction):
    """The steps of a string task, read from the prompt and done in another way."""
    letters = list(word)
    if instruction == "reverse it":
        return "".join(reversed(letters))
    if found := re.fullmatch(r"move its first (?:(\d) letters|letter) to the end", instruction):
        for _ in range(int(found[1] or 1)):
            letters.append(letters.pop(0))
        return "".join(letters)
    if found := re.fullmatch(r"replace each (\w) by (\w)", instruction):
        return "".join(found[2] if letter == found[1] else letter for letter in letters)
    if instruction.startswith("keep its first, third"):
        return "".join(letter for i, letter in enumerate(letters) if i % 2 == 0)
    if found := re.fullmatch(r"remove each (\w)", instruction):
        return "".join(letter for letter in letters if letter != found[1])
    if instruction == "write each letter twice":
        return re.sub("(.)", r"\1\1", word)
    if instruction == "write it in capital letters":
        return word.upper()
    places = re.search(r"that is (\d) places", instruction)
    shift = int(places[1]) if places else 1
    return "".join(chr((ord(letter) - 97 + shift) % 26 + 97) for letter in letters)


@pytest.mark.parametrize("level", range(4))
def test_strings_are_what_the_steps_make(level):
    for problem in problems("Strings", 60, level=level):
        word = re.search(r"Take the word (\w+)\.", problem.prompt)[1]
        steps = re.findall(r"(?:First|Then|Now) (.*?)\.(?= Then| What)", problem.prompt)
        for step in steps:
            word = replay(word, step)
        assert word == problem.reference


def test_how_polynomials_are_written():
    assert polynomial([6, -5, 1]) == "x^2 - 5x + 6"
    assert polynomial([0, 0, -1], "t") == "-t^2"
    assert polynomial([Fraction(-1, 2), 0, Fraction(3, 4)]) == "3/4 x^2 - 1/2"
    assert polynomial([0]) == "0"


@pytest.mark.parametrize(("env_id", "level"), ALL)
def test_the_solution_ends_with_the_answer(env_id, level):
    for problem in problems(env_id[9:-3], 20, level=level):
        assert extract_answer(problem.solution) is not None
        assert problem.prompt.endswith(("Put your final answer in \\boxed{}.", "Put each guess in \\boxed{}."))
