from __future__ import annotations

import ast
import copy
import hashlib
import re
import types

import gymnasium
import numpy as np
import pytest

from llm_envs.tasks.python_functions import LEVELS, algorithm_steps, python_functions, simple_steps
from llm_envs.tasks.python_functions.argument_kinds import KINDS
from llm_envs.tasks.python_functions.hidden_tests import MAX_TESTS, MIN_TESTS, candidates, make_tests, same
from llm_envs.tasks.python_functions.interpreter import RAISES, Function, OutOfSteps
from llm_envs.tasks.python_functions.mutants import mutants
from tools.tiny_model.corpus import function_demonstration

ID = "llm_envs/PythonFunctions-v0"
PIECES = [
    *(simple_steps.NUMBERS + simple_steps.SUMMARIES + simple_steps.TABLES),
    *(simple_steps.TEXTS + simple_steps.WORDS + simple_steps.RESULTS),
    *(algorithm_steps.ON_NUMBERS + algorithm_steps.ON_A_COUNT + algorithm_steps.ON_GRIDS + algorithm_steps.ON_TEXTS),
]


# a problem of level 4 takes several times the work of another, and its tests are the same
FEWER = (1, 1, 1, 1, 0.4)


def python(source: str):
    """The function as Python itself runs it: an independent reading of the printed text."""
    names = {}
    exec(source, names)  # noqa: S102 (our own solutions)
    return next(value for value in names.values() if isinstance(value, types.FunctionType))


def problems(level: int, count: int, **kwargs):
    rng = np.random.default_rng((level, 7))
    return [python_functions(rng, level=level, **kwargs) for _ in range(count)]


def programs(level: int, count: int):
    """Programs that are asked, with their tests."""
    rng = np.random.default_rng((level, 8))
    found = []
    while len(found) < count:
        program = LEVELS[level](rng)
        tests = make_tests(program, 2)
        if tests is not None:
            found.append((program, tests))
    return found


@pytest.mark.parametrize("level", range(5))
def test_the_printed_solution_gives_the_expected_values_and_the_examples(level):
    for problem in problems(level, int(150 * FEWER[level])):
        source = problem.solution.removeprefix("```python\n").removesuffix("\n```")
        function = python(source)
        cases = problem.reference["cases"]
        assert MIN_TESTS <= len(cases) <= MAX_TESTS
        for case in cases:
            arguments = copy.deepcopy(case["args"])
            assert same(function(*arguments), case["expected"]), source
            assert arguments == case["args"]  # it changes nothing that it is given
        for call, value in re.findall(r">>> (.*)\n    (.*)\n", problem.prompt):
            assert same(eval(call, {function.__name__: function}), ast.literal_eval(value))  # noqa: S307
        assert problem.prompt.count(">>>") == (0, 2, 2, 3, 3)[level]


@pytest.mark.parametrize("level", range(5))
def test_no_hidden_test_is_shown_or_asked_twice(level):
    for problem in problems(level, 100, examples=3):
        arguments = [case["args"] for case in problem.reference["cases"]]
        assert all(a not in arguments[:i] for i, a in enumerate(arguments))
        name = problem.reference["entry_point"]
        calls = [f"{name}({', '.join(map(repr, a))})" for a in arguments]
        assert not any(f"{call}\n" in problem.prompt or f"{call} is" in problem.prompt for call in calls)


@pytest.mark.parametrize("level", range(5))
def test_there_are_thousands_of_problems(level):
    rng = np.random.default_rng(level)
    sources = {LEVELS[level](rng).source for _ in range(3000)}
    # by Good and Turing: how many would be new if one went on
    rng = np.random.default_rng((level, 1))
    new = np.mean([LEVELS[level](rng).source not in sources for _ in range(1000)])
    assert len(sources) > 1500
    assert new > (0.3 if level == 0 else 0.5)  # level 0 has 20,000 in all


@pytest.mark.parametrize(
    ("level", "digest"),
    [
        (0, "affafe892a1294d4"),
        (1, "9922bb56971bbd91"),
        (2, "dc9420b59f646ecd"),
        (3, "5b6d5835c955b519"),
        (4, "4731c825ab5e79e4"),
    ],
)
def test_a_seed_gives_the_same_problem_in_every_version(level, digest):
    """Recorded with version 0.1.0: prompts, hidden tests with their values, solutions, and what is drawn afterwards."""
    seen = hashlib.sha256()
    for seed in range(20):
        rng = np.random.default_rng((level, seed, 5))
        problem = python_functions(rng, level=level)
        drawn = problem.prompt, problem.reference, problem.solution, problem.metadata, problem.key
        seen.update(repr((*drawn, int(rng.integers(2**62)))).encode())
    assert seen.hexdigest()[:16] == digest


class Variants(ast.NodeVisitor):
    """Mutations other than those that the generator knows, made on the text of a program."""

    TEXT = (
        (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" // ", " * "), (r" % ", " // "),
        (r"(?<=\w)\+(?=\w)", "-"), (r"(?<=\w)-(?=\w)", "+"), (r"(?<=\w)\*(?=\w)", "+"),
        (r" < ", " <= "), (r" > ", " >= "), (r" <= ", " < "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "),
        (r" and ", " or "), (r" or ", " and "), (r"\bmax\(", "min("), (r"\bmin\(", "max("), (r"\bsum\(", "len("),
        (r"\bsorted\(", "list("), (r", reverse=True", ""), (r"\[::-1\]", ""), (r"\babs\(", "("), (r"\bset\(", "list("),
        (r"\.upper\(\)", ".title()"), (r"\.lower\(\)", ".upper()"), (r"\bnot in\b", "in"),
    )  # fmt: skip

    @classmethod
    def of(cls, source: str):
        start = source.index(":")  # of the body
        for pattern, other in cls.TEXT:
            for match in re.finditer(pattern, source):
                if match.start() > start:
                    yield source[: match.start()] + other + source[match.end() :]
        for match in re.finditer(r"(?<![\w'])\d+\b", source):
            for change in (-2, -1, 1, 2):
                number = int(match[0]) + change
                yield source[: match.start()] + (f"({number})" if number < 0 else str(number)) + source[match.end() :]


def variants(source: str):
    for text in Variants.of(source):
        try:
            yield Function(text)
        except (SyntaxError, ValueError):
            continue  # the interpreter does not have it


def value_of(function, arguments):
    try:
        return function(*arguments)
    except RAISES:
        return "raises", function


@pytest.mark.parametrize("level", range(5))
def test_wrong_versions_fail_a_hidden_test(level):
    killed = survived = 0
    for program, tests in programs(level, int(60 * FEWER[level])):
        right = Function(program.source)
        fresh = [(a, right(*a)) for a in candidates(program, 150, salt="other inputs ")]
        for wrong in [*map(Function, mutants(ast.parse(program.source).body[0])), *variants(program.source)]:
            if any(not same(value_of(wrong, case.arguments), case.expected) for case in tests.hidden):
                killed += 1
            elif any(not same(value_of(wrong, arguments), expected) for arguments, expected in fresh):
                survived += 1  # different, and not caught
    print(f"level {level}: {killed} of {killed + survived} wrong versions fail")
    assert killed > 500
    assert survived <= 0.01 * (killed + survived)


@pytest.mark.parametrize("level", range(5))
def test_constants_echoes_and_lookup_tables_fail(level):
    for program, tests in programs(level, 100):
        values = [case.expected for case in tests.hidden]
        assert all(any(not same(value, other) for other in values) for value in values)  # a constant
        for place in range(len(program.parameters)):
            assert any(not same(case.arguments[place], case.expected) for case in tests.hidden)  # an echo
        table = [(case.arguments, case.expected) for case in tests.examples]
        for default in [*values, *(value for _, value in table)]:
            answers = [next((v for a, v in table if a == case.arguments), default) for case in tests.hidden]
            assert not all(map(same, answers, values))


@pytest.mark.parametrize("step", PIECES, ids=lambda step: step.words[:40])
def test_every_piece_says_and_does_something(step):
    rng = np.random.default_rng(0)
    assert not re.search(r"\{\w\}", step.words.replace("{x}", "").format_map({n: 1 for n, _ in step.choices}))
    makers = {"tally": lambda: {1: 2, 5: 1, 3: 2}, "counts": lambda: {"b": 2, "a": 2, "kiwi": 1}}
    for _ in range(5):
        _, statements, expression = step.fill(rng, "value")
        source = "def f(value):\n" + "\n".join(f"    {line}" for line in [*statements, f"return {expression}"])
        ours, theirs = Function(source), python(source)
        kind = KINDS[step.takes]
        inputs = [*kind.edges, *([kind.draw(rng) for _ in range(20)] if kind.draw else [makers[step.takes]()])]
        changed = False
        for value in inputs:
            result = ours(value)
            assert same(result, theirs(copy.deepcopy(value)))
            origin = KINDS[step.gives].annotation.partition("[")[0]
            assert type(result).__name__ == origin
            changed |= not same(result, value)
        assert changed or step.takes in makers


def test_level_0_asks_in_the_words_of_the_built_in_policy():
    rng = np.random.default_rng(0)
    pattern = r"Write f\(x\): (?:(?:add|subtract|multiply by) [1-9](?:, then |\.$)){1,3}"
    for problem in problems(0, 200):
        assert re.fullmatch(pattern, problem.prompt)
        assert problem.key == problem.prompt  # the corpus splits by the prompt
        assert re.fullmatch(r"```python\ndef f\(x\): return [x()+*\d-]+\n```", problem.solution)
    trained_on = {function_demonstration(rng)[0] for _ in range(3000)}
    env = gymnasium.make(ID, split="test")
    assert all(re.fullmatch(pattern, prompt) for prompt in trained_on)
    assert not trained_on & {env.reset(seed=seed)[0] for seed in range(500)}


@pytest.mark.parametrize("level", range(5))
def test_tests_belong_to_the_problem_and_examples_move_no_problem(level):
    few, many = int(40 * FEWER[level]), int(60 * FEWER[level])
    plain, shown = problems(level, few, examples=1), problems(level, few, examples=1)
    assert [p.reference for p in plain] == [p.reference for p in shown]
    splits = {}
    for problem in [*problems(level, many, examples=0), *problems(level, many, examples=4)]:
        assert splits.setdefault(problem.key, problem.split) == problem.split
    assert problems(level, 1, examples=4)[0].prompt.count(">>>" if level else " is ") == 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"level": 5}, "level must be a whole number between 0 and 4, got 5"),
        ({"level": -1}, "level must be"),
        ({"level": 1.5}, "level must be"),
        ({"level": "hard"}, "got 'hard'"),
        ({"examples": 6}, "examples must be between 0 and 5, got 6"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises((ValueError, TypeError), match=message):
        gymnasium.make(ID, **kwargs)


@pytest.mark.parametrize("level", range(1, 5))
@pytest.mark.parametrize("split", ["train", "test"])
def test_solutions_of_the_higher_levels_earn_the_reward(level, split):
    env = gymnasium.make(ID, level=level, split=split)
    for seed in range(10):
        env.reset(seed=seed)
        problem = env.unwrapped.problem
        assert env.step(problem.solution)[1] == 1.0
        env.reset(seed=seed)
        assert env.step("```python\ndef solve(x): return x\ndef f(*x): return x[0]\n```")[1] == 0.0


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def f(x):\n    while True:\n        x += 1\n    return x", OutOfSteps),
        ("def f(x):\n    return [i for i in range(10 ** 9)]", OutOfSteps),
        ("def f(x):\n    return 'a' * 10 ** 8", OutOfSteps),
        ("def f(x):\n    return 9 ** 10 ** 9", OutOfSteps),
        ("def f(x):\n    return x.__class__", ValueError),
        ("def f(x):\n    return open(x)", ValueError),
        ("def f(x):\n    import os", ValueError),
        ("def f(x):\n    return x.bit_length()", AttributeError),
    ],
)
def test_the_interpreter_refuses_other_names_and_stops_long_runs(source, error):
    with pytest.raises(error):
        Function(source)(1)
