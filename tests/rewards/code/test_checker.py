"""The verdict on one program."""

import os
import signal
import time

import pytest

from rewards.base import InvalidReference, Outcome
from rewards.code import CheckTests, FunctionCase, FunctionTests, ProgramCase, ProgramTests
from rewards.code import check_runner as check_runner_module
from rewards.code.check_runner import CheckerFault, CheckRunner, give_back_runner, take_runner
from rewards.code.checker import judge, same_output
from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, SandboxFault

LIMITS = Limits()
DOUBLE = FunctionTests("f", tuple(FunctionCase((x,), {}, 2 * x) for x in (1, 2, 3)))
NEAR = FunctionTests("f", (FunctionCase((), {}, 1.0),), rel_tol=1e-3)


@pytest.mark.parametrize(
    ("source", "passed", "outcome", "detail"),
    [
        ("def f(x): return 2 * x", 3, Outcome.CORRECT, ""),
        ("def f(x): return 2.0 * x", 3, Outcome.CORRECT, ""),
        ("def f(x): return 2", 1, Outcome.WRONG, "cases[1]: returned another int"),
        ("def f(x): return [2 * x]", 0, Outcome.WRONG, "cases[0]: returned another list"),
        ("def f(x): return str(2 * x)", 0, Outcome.WRONG, "cases[0]: returned another str"),
        ("def f(x): pass", 0, Outcome.WRONG, "NoneType"),
        ("def f(x): return 2 * x if x != 2 else 1 / 0", 2, Outcome.WRONG, "cases[1]: raised ZeroDivisionError"),
        ("def f(): return 2", 0, Outcome.WRONG, "TypeError"),
        ("def g(x): return 2", 0, Outcome.WRONG, "KeyError"),
        ("def f(x): return f", 0, Outcome.WRONG, "function"),
        ("1 / 0", 0, Outcome.WRONG, "raised ZeroDivisionError"),
        ("def f(x) return", 0, Outcome.SYNTAX_ERROR, "line 1"),
        ("end('timeout')", 0, Outcome.TIMEOUT, ""),
        ("def f(x): return 2 * x if x < 3 else end('timeout')", 2, Outcome.TIMEOUT, ""),
        ("def f(x): return 2 * x if x != 2 else end('memory')", 1, Outcome.MEMORY, ""),
        ("def f(x): end('crashed')", 0, Outcome.CRASHED, ""),
        ("def f(x): end('forbidden')", 0, Outcome.FORBIDDEN, ""),
        ("def f(x):\n if x == 2: raise PermissionError('no')\n return 2 * x", 2, Outcome.FORBIDDEN, "PermissionError"),
        (
            "class Liar(int):\n __eq__ = lambda *_: True\n __hash__ = int.__hash__\ndef f(x): return Liar(7)",
            0,
            Outcome.WRONG,
            "int",
        ),
    ],
)
def test_function_tests(sandbox, source, passed, outcome, detail):
    verdict = judge(DOUBLE, source, sandbox, LIMITS)
    assert (verdict.passed, verdict.total, verdict.outcome) == (passed, 3, outcome)
    assert detail in verdict.detail
    assert sandbox.closed == sandbox.opened


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("1.0001", Outcome.CORRECT),
        ("1.01", Outcome.WRONG),
        ("float('nan')", Outcome.WRONG),
        ("float('inf')", Outcome.WRONG),
        ("10 ** 5000", Outcome.WRONG),
    ],
)
def test_tolerance(sandbox, value, outcome):
    assert judge(NEAR, f"def f(): return {value}", sandbox, LIMITS).outcome is outcome


def test_a_candidate_cannot_change_what_later_cases_get(sandbox):
    tests = FunctionTests("f", (FunctionCase(([1],), {"y": {}}, 1), FunctionCase(([1],), {"y": {}}, 1)))
    source = "def f(x, y):\n    y[0] = 1\n    x.append(1)\n    return len(x) - len(y)"
    for _ in range(2):
        assert judge(tests, source, sandbox, LIMITS).outcome is Outcome.CORRECT
    assert tests.cases[0].args == ([1],)
    assert tests.cases[0].kwargs == {"y": {}}


def test_faults_are_no_verdicts(sandbox):
    with pytest.raises(SandboxFault):
        judge(DOUBLE, "def f(x): fault()", sandbox, LIMITS)
    with pytest.raises(SandboxFault, match="correct"):
        judge(DOUBLE, "def f(x): end('correct')", sandbox, LIMITS)
    with pytest.raises(SandboxFault):
        judge(CheckTests("f", "assert f(1)"), "def f(x): fault(2)", sandbox, LIMITS)
    assert sandbox.closed == sandbox.opened


PROGRAMS = ProgramTests((ProgramCase("1\n", "2\n"), ProgramCase("5\n", "10")))


@pytest.mark.parametrize(
    ("source", "passed", "outcome"),
    [
        ("print(2 * int(input()))", 2, Outcome.CORRECT),
        ("print(f'{2 * int(input())}  ')\nprint()", 2, Outcome.CORRECT),
        ("print(2)", 1, Outcome.WRONG),
        ("print(2 * int(input()))\nraise SystemExit(1)", 0, Outcome.WRONG),
        ("x = int(input())\nprint(2 * x)\n1 / (x - 5)", 1, Outcome.WRONG),
        ("x = int(input())\nend('timeout') if x == 5 else print(2)", 1, Outcome.TIMEOUT),
        ("print(", 0, Outcome.SYNTAX_ERROR),
        ("pass", 0, Outcome.WRONG),
    ],
)
def test_program_tests(sandbox, source, passed, outcome):
    verdict = judge(PROGRAMS, source, sandbox, LIMITS)
    assert (verdict.passed, verdict.total, verdict.outcome) == (passed, 2, outcome)


def test_white_space_in_outputs():
    assert same_output("1 2\n3\n", "1 2 \r\n3\t\n\n \n")
    assert same_output("", "\n")
    assert same_output("a\n", b"a")
    assert not same_output("1 2", "1  2")
    assert not same_output("1 2", "1\n2")
    assert not same_output("1", " 1")
    assert not same_output("1\n\n2", "1\n2")
    assert not same_output("", b"\xff")
    started = time.process_time()
    assert not same_output("1", " \n" * 1_000_000 + "2")
    assert time.process_time() - started < 5


HUMAN_EVAL = CheckTests(
    "decode",
    '\n\nMETADATA = {"author": "jt"}\n\n\ndef check(candidate):\n    from random import randint\n'
    "    for _ in range(20):\n        text = chr(randint(97, 99)) * 3\n"
    "        assert candidate(encode(text)) == text\n",
    setup='def encode(s):\n    return s[::-1]\n\n\ndef decode(s):\n    """Decode."""\n',
)


@pytest.mark.parametrize(
    ("checks", "source", "passed", "outcome", "detail"),
    [
        (HUMAN_EVAL, "def decode(s): return s[::-1]", 1, Outcome.CORRECT, ""),
        (HUMAN_EVAL, "def decode(s): return 'x'", 0, Outcome.WRONG, "AssertionError"),
        (HUMAN_EVAL, "def decode(s): pass", 0, Outcome.WRONG, "AssertionError"),
        (HUMAN_EVAL, "def decode(s) pass", 0, Outcome.SYNTAX_ERROR, ""),
        (HUMAN_EVAL, "def decode(s): return 1 / 0", 0, Outcome.WRONG, "ZeroDivisionError: division by zero"),
        (HUMAN_EVAL, "def decode(s): end('memory')", 0, Outcome.MEMORY, ""),
        (("assert f(1) == 1", "assert f(2) == 2"), "def f(x): return 1", 1, Outcome.WRONG, "checks[1]"),
        (("assert f(1) == 1", "assert f(2) == 2"), "def f(x): return x", 2, Outcome.CORRECT, ""),
        (
            ("assert f(1) == 1", "assert f(2) == 2"),
            "def f(x): return x if x == 1 else end('timeout')",
            1,
            Outcome.TIMEOUT,
            "",
        ),
        ("assert f(1) < 2", "def f(x): pass", 0, Outcome.WRONG, "TypeError"),
        ("assert f(1).real == 1", "def f(x): return 'a'", 0, Outcome.WRONG, "AttributeError"),
        ("assert abs(f(1) - 1) < 1e-6", "def f(x): return float('nan')", 0, Outcome.WRONG, "AssertionError"),
        ("assert abs(f(1) - 1) < 1e-6", "def f(x): return 10 ** 5000", 0, Outcome.WRONG, ""),
        ("assert f(1) == 1, f(1)", "def f(x): return 10 ** 5000", 0, Outcome.WRONG, "AssertionError"),
        ("assert f(1) == 10 ** 6 and f(1) == 10 ** 6", "def f(x): return 10 ** 6", 1, Outcome.CORRECT, ""),
        ("assert f([1], key={2}) == ([1], {2})", "def f(x, key): return x, key", 1, Outcome.CORRECT, ""),
        # exceptions that the tests expect
        (
            "try:\n    f(1)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'no'",
            "def f(x): raise ValueError('no')",
            1,
            Outcome.CORRECT,
            "",
        ),
        (
            "try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass",
            "class E(Exception): pass\ndef f(x): raise E('no')",
            0,
            Outcome.WRONG,
            "E: no",
        ),
        ("assert f(1) == 1", "def f(x): raise SystemExit(0)", 0, Outcome.WRONG, "SystemExit"),
        ("assert f(1) == 1", "def f(x): raise UnicodeDecodeError('a', b'', 0, 1, 'b')", 0, Outcome.WRONG, "Unicode"),
        ("assert all(map(f, [1, 2]))", "def f(x): raise StopIteration", 0, Outcome.WRONG, "StopIteration"),
        ("assert all(f(x) for x in [1, 2])", "def f(x): raise StopIteration", 0, Outcome.WRONG, "StopIteration"),
        ("assert f(1) == 1", "def f(x): raise type('int', (Exception,), {})", 0, Outcome.WRONG, "int"),
        ("assert f(1) == 1", "def f(x): raise type('__import__', (BaseException,), {})('os')", 0, Outcome.WRONG, ""),
        # a program that has ended cannot be called again, whatever the tests do
        (
            "try:\n    f(1)\nexcept BaseException:\n    pass\nassert f(2)",
            "def f(x): end('crashed')",
            0,
            Outcome.CRASHED,
            "",
        ),
        ("assert f(f(1) * 10000)", "def f(x): return 'a' * 5000", 0, Outcome.WRONG, "cannot be sent"),
        # values that would harm the tests' own process
        ("raise SystemExit(f(1))", "def f(x): return 0", 0, Outcome.WRONG, "SystemExit"),
        ("x = 'a' * f(1)\nassert x", "def f(x): return 10 ** 12", 0, Outcome.MEMORY, ""),
        (
            "import os, signal\nassert f(1)\nos.kill(os.getpid(), signal.SIGSEGV)",
            "def f(x): return 1",
            0,
            Outcome.CRASHED,
            "SIGSEGV",
        ),
        ("def check(candidate):\n    assert candidate(f(1))", "def f(x): return [x]", 1, Outcome.CORRECT, ""),
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nassert A(f(1)).x == 1",
            "def f(x): return x",
            1,
            Outcome.CORRECT,
            "",
        ),
    ],
)
def test_check_tests(sandbox, checks, source, passed, outcome, detail):
    tests = checks if isinstance(checks, CheckTests) else CheckTests("f", checks)
    verdict = judge(tests, source, sandbox, LIMITS)
    assert (verdict.passed, verdict.total, verdict.outcome) == (passed, tests.total, outcome), verdict
    assert detail in verdict.detail
    # and the next one is not disturbed
    assert judge(HUMAN_EVAL, "def decode(s): return s[::-1]", sandbox, LIMITS).outcome is Outcome.CORRECT


@pytest.fixture
def runner():
    runner = CheckRunner(seconds=1.0, max_calls=50)
    yield runner
    runner.close()


def test_tests_that_a_value_makes_run_away_end(runner):
    loops = {
        "for _ in range(f(1)): pass\nassert f(1)": 10**18,
        "while f(1): pass\nassert f(1)": 1,
        "import time\ntime.sleep(f(1))\nassert f(1)": 1000,
        "assert f(1) ** f(1) > 1": 10**8,
        "try:\n    while f(1): pass\nexcept BaseException:\n    while True: pass\nassert f(1)": 1,
    }
    for check, value in loops.items():
        started = time.monotonic()
        with pytest.raises(CandidateError) as caught:
            runner.run("", check, "f", lambda args, kwargs, value=value: value)
        assert caught.value.outcome is Outcome.TIMEOUT, check
        assert time.monotonic() - started < 20
        assert runner.run("", "assert f(1) == 1", "f", lambda args, kwargs: 1) is None


def test_what_the_call_raises_ends_the_run_and_passes_through(runner):
    class Odd(BaseException):
        pass

    def call(args, kwargs):
        raise Odd

    with pytest.raises(Odd):
        runner.run("", "try:\n    f()\nexcept BaseException:\n    pass\nassert f()", "f", call)
    assert runner.run("", "assert f()", "f", lambda args, kwargs: 1) is None


def test_messages_of_any_size_and_text(runner):
    def call(args, kwargs):
        raise CandidateRaised("\ud800" * 1000, "\udfff\0" * 100_000)

    assert "\ud800" in runner.run("", "assert f()", "f", call)


@pytest.mark.parametrize(
    ("setup", "check", "message"),
    [
        ("1 / 0", "assert f()", "setup raised ZeroDivisionError"),
        ("", "assert 1 == 2", "failed AssertionError without a call"),
        ("", "import nothing_of_that_name\nassert f()", "ModuleNotFoundError"),
        ("", "def test(candidate):\n    assert candidate()", "passed without a call"),
        ("def check(candidate): pass", "assert 1", "passed without a call"),
    ],
)
def test_broken_tests_are_said(runner, setup, check, message):
    with pytest.raises(InvalidReference, match=message):
        runner.run(setup, check, "f", lambda args, kwargs: 1)


def test_an_argument_that_is_no_data_fails_the_test(runner):
    assert "cannot be sent" in runner.run("", "assert f(object())", "f", lambda args, kwargs: 1)


def test_a_value_beyond_the_link_fails_the_test(runner, monkeypatch):
    monkeypatch.setattr(check_runner_module, "LINK_BYTES", 10_000)
    assert "more than 10000 bytes" in runner.run("", "assert f()", "f", lambda args, kwargs: "a" * 20_000)


def test_nothing_stays_from_one_run_to_the_next(runner):
    assert runner.run("", "x = 1\nassert f()", "f", lambda args, kwargs: 1) is None
    assert "NameError" in runner.run("", "assert f() and x", "f", lambda args, kwargs: 1)


def test_a_lost_process_is_a_fault(runner):
    pids = []

    def call(args, kwargs):
        pids.append(args[0])
        os.kill(args[0], signal.SIGKILL)
        return 1

    with pytest.raises(CheckerFault):
        runner.run("import os", "assert f(os.getpid())", "f", call)
    assert runner.run("", "assert f()", "f", lambda args, kwargs: 1) is None

    def close(args, kwargs):
        runner.close()
        return 1

    with pytest.raises(CheckerFault, match="lost"):
        runner.run("", "assert f()", "f", close)


def test_runners_are_used_again_and_replaced_in_time(monkeypatch):
    monkeypatch.setattr(check_runner_module, "_idle", check_runner_module.deque())
    monkeypatch.setattr(check_runner_module, "_MAX_RUNS", 2)
    first, second = take_runner(), take_runner()
    assert first is not second
    give_back_runner(first)
    assert take_runner() is first
    pids = []

    def call(args, kwargs):
        pids.append(args[0])
        return 1

    for _ in range(3):
        first.run("import os", "assert f(os.getpid())", "f", call)
        give_back_runner(first)
        assert take_runner() is first
    assert pids[0] == pids[1] != pids[2]
    first.close()
