# ruff: noqa: E501 (a program a line)
"""Any size and any fault that a completion causes is its own failure, and its limits hold for all its calls together."""

from __future__ import annotations

import pytest

from rewards.base import InvalidReference, Outcome
from rewards.code import CheckTests, CodeTestsReward, FunctionCase, FunctionTests, ProgramCase, ProgramTests
from rewards.code import check_runner as check_runner_module
from rewards.code.check_runner import CheckRunner
from rewards.code.checker import judge
from rewards.code.sandbox import CandidateError, Limits, ProgramResult, Sandbox, sandbox_report

strong = pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")
RIGHT = "def f(x): return x"
PRIME = 2**61 - 1

# name: checks, a program that is wrong; `RIGHT` passes all of them
HARMFUL = {
    "a large value as an argument": ("assert candidate(candidate(3)) == candidate(3)", "def f(x): return 'a' * (15 * 2**20) if x == 3 else 0"),
    "a large value twice as arguments": ("assert candidate(candidate(3)) == 3\nassert f(3) == 3", "def f(x): return 'a' * (9 * 2**20) if x == 3 else [x, x]"),
    "a value of the largest size": ("assert candidate(candidate(3)) == 3", "def f(x): return b'a' * (2**24 - 5)"),
    "a value beyond the largest size": ("assert candidate(candidate(3)) == 3", "def f(x): return b'a' * 2**24"),
    "many copies of a large value": ("assert candidate([candidate(3)] * 40)[0] == 3", "def f(x): return 'a' * 2**22"),
    "a set of numbers whose hashes collide": ("assert candidate(set(candidate([3]))) == {3}", f"def f(x): return [k * {PRIME} for k in range(1, 2000)]"),
    "keys of a dict whose hashes collide": ("assert candidate(dict.fromkeys(candidate([3]))) == {3: None}", f"def f(x): return [k * {PRIME} for k in range(1, 2000)]"),
    "a frozenset in a tuple whose hashes collide": ("assert candidate((frozenset(candidate([3])),))[0] == {3}", f"def f(x): return [k * {PRIME} for k in range(1, 2000)] if x == [3] else 0"),
    "a value that fills the tests' memory": ("y = [candidate(3)] * 10**4\nz = [list(str(v)) for v in y]\nassert z[0] == ['3']", "def f(x): return 'a' * 10**6"),
    "a length that fills the tests' memory": ("y = 'a' * candidate(3)\nassert len(y) == 3", "def f(x): return 10**12"),
    "a length that fills most of it": ("y = list(range(candidate(3)))\nassert len(y) == 3", "def f(x): return 10**7"),
    "a value that is nested as deeply as can be": ("assert candidate([[[candidate(3)]]]) == [[[3]]]", "def f(x):\n    v = 3\n    for _ in range(62): v = [v]\n    return v"),
    "a value that contains itself": ("assert candidate(candidate(3)) == 3", "def f(x):\n    v = []\n    v.append(v)\n    return v"),
    "a recursion over a value": ("def depth(v): return depth(v) if v else 0\nassert depth(candidate(3) - 3) == 0", "def f(x): return 4"),
    "a deep recursion in C": ("import copy\nv = candidate(3)\nw = 3\nfor _ in range(10 * (v - 3)): w = [w]\nassert copy.deepcopy(w) == repr(w) or w == 3", "def f(x): return 10**5"),
    "a number of a million digits": ("assert str(candidate(3)) == '3', candidate(3)", "def f(x): return 1 << 3_400_000"),
    "a number of a million digits, printed": ("assert candidate(3) == 3, f'{candidate(3)!r}'", "def f(x): return -(1 << 3_400_000)"),
    "an exception with a huge message": ("assert candidate(3) == 3", "def f(x): raise ValueError('a' * 10**8)"),
    "an exception with a number as message": ("assert candidate(3) == 3", "def f(x): raise ValueError(1 << 3_400_000)"),
    "an exception of a huge name": ("assert candidate(3) == 3", "def f(x): raise type('a' * 10**7, (Exception,), {})('b')"),
    "an exception whose name is none": ("assert candidate(3) == 3", "class M(type):\n    __name__ = property(lambda c: 1 / 0)\nclass E(Exception, metaclass=M): pass\ndef f(x): raise E"),
    "an exception whose message is none": ("assert candidate(3) == 3", "class E(Exception):\n    def __str__(self): return 3\ndef f(x): raise E"),
    "an exception whose message lies": ("assert candidate(3) == 3", "class S(str):\n    def __getitem__(self, k): return 'a' * 10**8\nclass E(Exception):\n    def __str__(self): return S('b')\ndef f(x): raise E"),
    "an exception whose message ends the program": ("assert candidate(3) == 3", "class E(Exception):\n    def __str__(self): raise SystemExit(0)\ndef f(x): raise E"),
    "an exception in a circle of causes": ("assert candidate(3) == 3", "def f(x):\n    a, b = ValueError(1), ValueError(2)\n    a.__cause__, b.__cause__ = b, a\n    raise a"),
    "an exception with surrogates": ("assert candidate(3) == 3", "def f(x): raise ValueError('\\ud800' * 1000)"),
    "surrogates": ("assert candidate(candidate(3)) == 3", "def f(x): return ['\\ud800', {'\\udfff': '\\udc00\\ud800'}]"),
    "surrogates in a failed test": ("assert candidate(3) == 3, candidate(3)", "def f(x): return '\\ud800' * 10**6"),
    "a list that grows while it is read": ("assert candidate(3) == 3", "import threading\nv = [3]\ndef grow():\n    while True: v.append([v[0]])\ndef f(x):\n    threading.Thread(target=grow, daemon=True).start()\n    return v"),
    "a dict that changes while it is read": ("assert candidate(3) == 3", "class K(str):\n    def __hash__(self): return 0\nimport threading\nv = {str(i): i for i in range(10**5)}\ndef change():\n    for i in range(10**7): v[str(-i)] = i\ndef f(x):\n    threading.Thread(target=change, daemon=True).start()\n    return v"),
    "a set that changes while it is read": ("assert candidate(3) == 3", "import threading\nv = set(range(10**5))\ndef change():\n    while True: v.add(len(v))\ndef f(x):\n    threading.Thread(target=change, daemon=True).start()\n    return v"),
    "more containers than may be": ("assert candidate(3) == 3", "def f(x): return [()] * 2_000_000"),
    "more sets than may be": ("assert candidate(3) == 3", "def f(x): return [set() for _ in range(500_000)]"),
    "calls without end": ("while candidate(3) != 3: pass\nassert True", "def f(x): return 4"),
    "a loop that takes long": ("for _ in range(candidate(3) - 3): pass\nassert candidate(4) == 4", "def f(x): return 10**15"),
    "a test that waits": ("import time\ntime.sleep(candidate(3) - 3)\nassert candidate(4) == 4", "def f(x): return 10**6"),
    "a test that dies": ("import os\nif candidate(3) != 3: os.abort()\nassert candidate(3) == 3", "def f(x): return 4"),
    "a test that exits": ("import os\nif candidate(3) != 3: os._exit(0)\nassert candidate(3) == 3", "def f(x): return 4"),
    "a long program": ("assert candidate(3) == 3", "# " + "\U0001f600" * 900_000 + "\ndef f(x): return 4"),
    "a program of surrogates": ("assert candidate(3) == 3", "# " + "\ud800" * 300_000 + "\ndef f(x): return 4"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(check_runner_module, "CHECK_SECONDS", 2.0)
    monkeypatch.setattr(check_runner_module, "_idle", check_runner_module.deque())
    monkeypatch.setattr(check_runner_module, "CheckRunner", lambda: CheckRunner(seconds=2.0, max_calls=2000))
    yield
    for runner in check_runner_module._idle:
        runner.close()


@strong
@pytest.mark.parametrize("mode", ["zygote", "fresh"])
@pytest.mark.parametrize("name", HARMFUL)
def test_a_harmful_value_is_its_completions_failure(name, mode):
    checks, wrong = HARMFUL[name]
    reward = CodeTestsReward(mode=mode, limits=Limits(cpu_seconds=2.0, wall_seconds=3.0), parallel=1)
    completions = [f"```python\n{source}\n```" for source in (RIGHT, wrong, RIGHT)]
    results = reward(["?"] * 3, completions, [CheckTests("f", (checks, checks))] * 3)
    assert [result.reward for result in results] == [1.0, 0.0, 1.0]


@strong
@pytest.mark.parametrize("kind", ["function", "program"])
def test_the_length_of_a_program_is_its_completions_failure(kind):
    """With the longest input that fits into one message, an honest program is still paid, and a long one hurts none."""
    text = "7" * (15 * 2**20)
    tests = {
        "function": FunctionTests("f", (FunctionCase((text,), {}, 7),)),
        "program": ProgramTests((ProgramCase(text, "7"),)),
    }[kind]
    honest = {"function": "def f(x): return int(x[0])", "program": "print(input()[0])"}[kind]
    sources = [honest, "# " + "\U0001f600" * 900_000 + "\n" + honest, "# " + "\U0001f600" * 900_000]
    results = CodeTestsReward(parallel=1)(["?"] * 3, [f"```python\n{s}\n```" for s in sources], [tests] * 3)
    assert [result.reward for result in results] == [1.0, 1.0, 0.0]


@strong
def test_large_arguments_of_a_right_program_arrive():
    size = 15 * 2**20
    tests = CheckTests("f", (f"x = f('a' * {size})\nassert f(x) == x and len(x) == {size}",))
    (result,) = CodeTestsReward(limits=Limits(cpu_seconds=5.0, wall_seconds=20.0))(["?"], [RIGHT], [tests])
    assert result.outcome is Outcome.CORRECT


def test_input_that_the_limits_do_not_hold_is_a_bad_reference():
    tests = ProgramTests((ProgramCase("1", "1"), ProgramCase("7" * 2_000_000, "7")))
    reward = CodeTestsReward(limits=Limits(memory_bytes=8 * 2**20))
    with pytest.raises(InvalidReference, match=r"cases\[1\]\.stdin has 2000000 characters"):
        reward.check_reference(tests)
    with pytest.raises(InvalidReference, match=r"cases\[1\]\.stdin"):
        reward(["?"], ["print(1)"], [tests])


def test_what_one_run_of_tests_leaves_is_not_there_in_the_next():
    runner = CheckRunner(seconds=20.0, memory=256 * 2**20)
    try:
        for _ in range(6):  # each takes more than half of the memory
            keep = "v = bytearray(f())\nw = [v]\nw.append(w)\ndef g(): return v\nassert g()"
            assert runner.run("", keep, "f", lambda args, kwargs: 150 * 2**20) is None
    finally:
        runner.close()


def test_test_code_has_one_budget():
    runner = CheckRunner(seconds=3.0, max_calls=10)
    try:
        budget = runner.budget()
        check = "for _ in range(4): f()\nassert f() is None"
        for _ in range(2):
            assert runner.run("", check, "f", lambda args, kwargs: None, budget) is None
        with pytest.raises(CandidateError) as caught:
            runner.run("", check, "f", lambda args, kwargs: None, budget)
        assert caught.value.outcome is Outcome.TIMEOUT
        assert runner.run("", check, "f", lambda args, kwargs: None) is None  # another completion's
        budget.seconds = 0.0
        with pytest.raises(CandidateError, match="too long"):
            runner.run("", check, "f", lambda args, kwargs: None, budget)
    finally:
        runner.close()


class Recorded:
    """A sandbox whose programs take the same time in each run, as far as the checker is told."""

    def __init__(self, cpu, wall):
        self.cpu, self.wall = cpu, wall
        self.limits = []

    def run_program(self, source, stdin, *, limits=None):
        self.limits.append(limits)
        if limits.cpu_seconds < self.cpu or limits.wall_seconds < self.wall:
            raise CandidateError(Outcome.TIMEOUT)
        return ProgramResult(source, 0, self.cpu, self.wall)


@pytest.mark.parametrize(("cpu", "wall", "passed"), [(0.1, 0.9, 1), (0.3, 0.3, 3), (0.4, 0.1, 2), (0.01, 0.01, 8)])
def test_the_runs_of_a_program_have_one_budget(cpu, wall, passed):
    tests = ProgramTests((ProgramCase("", "a"),) * 8)
    sandbox = Recorded(cpu, wall)
    verdict = judge(tests, "a", sandbox, Limits(cpu_seconds=1.0, wall_seconds=1.0))
    assert verdict.passed == passed
    assert verdict.outcome is (Outcome.CORRECT if passed == 8 else Outcome.TIMEOUT)
    spent = [1.0 - limits.wall_seconds for limits in sandbox.limits]
    assert spent == pytest.approx([wall * i for i in range(len(spent))])


KINDS = {
    "function": (FunctionTests("f", tuple(FunctionCase((x,), {}, x) for x in range(8))), "def f(x): return -x"),
    "check": (CheckTests("f", tuple(f"assert f({x}) == {x}" for x in range(8))), "def f(x): return -x"),
    "program": (ProgramTests(tuple(ProgramCase(f"{x}", f"{x}") for x in range(8))), "print(-int(input()))"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_failure_is_the_last_test_unless_all_count(sandbox, kind):
    tests, source = KINDS[kind]
    runs = []
    real = sandbox.run_program
    sandbox.run_program = lambda *args, **options: runs.append(1) or real(*args, **options)
    assert judge(tests, source, sandbox, Limits(), True).passed == 1
    assert max(sandbox.calls, len(runs)) == 2
    assert judge(tests, source, sandbox, Limits()).passed == 1
    assert max(sandbox.calls, len(runs)) == 2 + 8


def test_which_tests_a_reward_tries(fake_sandboxes):
    tests = FunctionTests("f", tuple(FunctionCase((x,), {}, x) for x in (1, 2, 3)))
    source = "def f(x): return x if x != 2 else 0"
    for options, passed in (({}, 1), ({"partial": True}, 2), ({"count_all": True}, 2)):
        (result,) = CodeTestsReward(**options)(["?"], [source], [tests])
        assert result.metrics["passed"] == passed
        assert result.reward == (2 / 3 if "partial" in options else 0.0)


@strong
@pytest.mark.parametrize("mode", ["zygote", "fresh"])
@pytest.mark.parametrize(
    "work", ["time.sleep(0.6)", "t = time.process_time()\nwhile time.process_time() - t < 0.6: pass"]
)
def test_a_program_cannot_have_its_limits_again_in_each_run(mode, work):
    source = f"import time\nx = input()\n{work}\nprint(x)"
    tests = ProgramTests(tuple(ProgramCase(f"{x}", f"{x}") for x in range(8)))
    with Sandbox(mode=mode) as sandbox:
        verdict = judge(tests, source, sandbox, Limits(cpu_seconds=1.0, wall_seconds=1.0))
    assert (verdict.passed, verdict.outcome) == (1, Outcome.TIMEOUT)
