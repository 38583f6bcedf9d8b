"""No attack is paid or leaves a trace, and no honest program goes unpaid, alone and in batches in any order."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rewards.base import Outcome
from rewards.code import CodeTestsReward, code_tests_reward
from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, Sandbox, launcher, sandbox_report

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)
ATTACKS, ENDLESS, MARK, PROGRAMS = (
    getattr(import_module("attacks"), name) for name in ("ATTACKS", "ENDLESS", "MARK", "PROGRAMS")
)
HONEST, HONEST_PROGRAMS = import_module("honest").HONEST, import_module("honest").HONEST_PROGRAMS

pytestmark = pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")


CASES = [{"args": [x], "kwargs": {}, "expected": x * x} for x in (2, 5, 7, 11)]
REFERENCE = {"kind": "function", "entry_point": "f", "cases": CASES}
CHECK = {
    "kind": "check",
    "entry_point": "f",
    "checks": ["def check(candidate):\n" + "".join(f"    assert candidate({x}) == {x * x}\n" for x in (2, 5, 7, 11))],
}
SQUARES = {"kind": "program", "cases": [{"stdin": f"{x}\n", "stdout": f"{x * x}\n"} for x in (2, 5, 7, 11)]}
# other systems' modules, one that opens a browser, one that prints a poem, those of a window system, private ones
ABSENT = {"msilib", "msvcrt", "nt", "winreg", "winsound", "antigravity", "this", "tkinter", "turtle", "turtledemo"}
MODULES = sorted(name for name in sys.stdlib_module_names - ABSENT - {"idlelib"} if not name.startswith("_"))
PLACES = (
    "/",
    "/tmp",
    "/var/tmp",
    "/dev/shm",
    "/etc",
    "/root",
    os.path.expanduser("~"),
    sys.prefix,
    os.path.dirname(os.__file__),
)


# an honest program takes at most 0.2 s of CPU time, and the time in which others have the cores does not count
LIMITS = Limits(cpu_seconds=1.0, wall_seconds=2.0)


@pytest.fixture(scope="module")
def reward():
    return CodeTestsReward(limits=LIMITS, parallel=8)


@pytest.fixture(scope="module")
def impatient():
    return CodeTestsReward(limits=Limits(cpu_seconds=0.4, wall_seconds=0.8))


def completion(source: str) -> str:
    return f"This solves it:\n```python\n{source}\n```\n"


def score(reward, sources, reference=REFERENCE):
    return reward(["?"] * len(sources), [completion(source) for source in sources], [reference] * len(sources))


def traces() -> set[str]:
    """Files and processes that an attack would leave."""
    found = {
        f"{place}/{name}" for place in PLACES if os.access(place, os.R_OK) for name in os.listdir(place) if MARK in name
    }
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path("/proc", entry, "cmdline").read_bytes()
        except OSError:
            continue
        if MARK.encode() in line:
            found.add(entry)
    return found


def test_there_are_enough():
    assert len(ATTACKS) >= 250
    assert len(PROGRAMS) >= 30
    assert len(HONEST) >= 85
    assert len(HONEST_PROGRAMS) >= 110
    assert set(ATTACKS) >= ENDLESS


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_not_paid(reward, impatient, name):
    (result,) = score(impatient if name in ENDLESS else reward, [ATTACKS[name]])
    assert result.reward == 0.0
    assert result.outcome is not Outcome.CORRECT
    assert traces() == set()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_is_paid(reward, name):
    (result,) = score(reward, [HONEST[name]])
    assert (result.reward, result.outcome) == (1.0, Outcome.CORRECT)


@pytest.mark.parametrize(
    ("mode", "end"), [("zygote", "\n"), ("zygote", "\r\n"), ("zygote", ""), ("fresh", "\n")], ids=ascii
)
def test_an_honest_whole_program_is_paid(mode, end):
    inputs = (5, 11) if mode == "zygote" else (11,)  # each takes a new jail there
    cases = [{"stdin": f"{x}{end}", "stdout": f"{x * x}\n"} for x in inputs]
    reward = CodeTestsReward(mode=mode, limits=LIMITS, parallel=4)
    results = score(reward, list(HONEST_PROGRAMS.values()), {"kind": "program", "cases": cases})
    unpaid = {name: r.outcome for name, r in zip(HONEST_PROGRAMS, results, strict=True) if r.reward != 1.0}
    assert unpaid == {}


def test_what_one_program_writes_to_standard_error_reaches_no_other():
    read = "import os\ndef f(x):\n    os.lseek(2, 0, 0)\n    return os.read(2, 100).decode()"
    write = "import os\ndef f(x):\n    while True: os.write(2, b'secret' * 10**5)"
    with Sandbox(limits=Limits(cpu_seconds=0.5, wall_seconds=2.0)) as sandbox:
        with sandbox.open(write) as candidate, pytest.raises((CandidateError, CandidateRaised)):
            candidate.call("f", (1,))
        with sandbox.open(HONEST["stderr"]) as candidate:
            assert candidate.call("f", (3,)) == 9
        with sandbox.open(read) as candidate, contextlib.suppress(CandidateRaised):  # it cannot even be read
            assert candidate.call("f", (1,)) == ""


@pytest.mark.parametrize("action", ["__import__('os').fork()", "__import__('socket').socket()", "open('/x', 'w')"])
def test_what_the_jail_denies_in_a_call_is_forbidden_and_earns_no_part(action):
    program = f"def f(x):\n    return x * x if x < 7 else {action}"
    (result,) = score(CodeTestsReward(partial=True), [program])
    assert (result.reward, result.outcome, result.metrics["passed"]) == (0.0, Outcome.FORBIDDEN, 2.0)


def test_a_program_that_solves_it_is_paid_and_no_other(reward):
    right = ["print(int(input()) ** 2)", "import sys\nfor line in sys.stdin: print(int(line) ** 2, end=' \\n\\n')"]
    results = score(reward, [*right, *PROGRAMS.values()], SQUARES)
    paid = [name for name, result in zip(["a", "b", *PROGRAMS], results, strict=True) if result.reward != 0]
    assert paid == ["a", "b"]
    assert traces() == set()


def test_a_program_may_print_more_than_is_kept_of_other_output():
    lines = "".join(f"{i * i}\n" for i in range(100_000))
    reference = {"kind": "program", "cases": [{"stdin": "100000", "stdout": lines}]}
    reward = CodeTestsReward(limits=Limits(output_bytes=1000))
    right, wrong = score(reward, [f"for i in range(int(input())): print(i * i + {k})" for k in (0, 1)], reference)
    assert (right.reward, wrong.reward) == (1.0, 0.0)


def test_both_modes_give_the_same_verdicts():
    race = "protocol: the channel without waiting"  # it ends where the next call has not come yet
    names = [*list(ATTACKS)[::6], *list(HONEST)[::3]]
    programs = [(ATTACKS | HONEST)[name] for name in names]
    zygote, fresh = (
        score(CodeTestsReward(mode=mode, limits=LIMITS, parallel=8), programs) for mode in ("zygote", "fresh")
    )
    assert [result.reward for result in zygote] == [result.reward for result in fresh]
    assert {result.reward for result in zygote} == {0.0, 1.0}
    outcomes = {name: {a.outcome, b.outcome} for name, a, b in zip(names, zygote, fresh, strict=True)}
    differ = {name: pair for name, pair in outcomes.items() if len(pair) == 2 and name != race}
    # which limit a flood or a bomb reaches first depends on how fast the machine is
    limit = {Outcome.TIMEOUT, Outcome.MEMORY, Outcome.CRASHED}
    assert {name: pair for name, pair in differ.items() if not pair <= limit} == {}
    assert len(differ) < len(programs) / 10


def test_every_module_of_the_standard_library_can_be_imported():
    missing = []
    with Sandbox() as sandbox:
        for name in MODULES:
            if importlib.util.find_spec(name) is not None:
                try:
                    sandbox.open(f"import {name}").close()
                except CandidateError as error:
                    missing.append((name, str(error)))
    assert missing == []


@pytest.mark.parametrize(
    ("seed", "reference", "mode", "landlock", "step"),
    [
        (0, REFERENCE, "zygote", 6, 1),
        (1, CHECK, "zygote", 6, 1),
        (2, REFERENCE, "zygote", 5, 1),  # the last one without rules for abstract sockets and signals
        (3, REFERENCE, "zygote", 0, 1),
        (4, REFERENCE, "fresh", 6, 1),
        (5, REFERENCE, "fresh", 0, 4),  # what is inside is the same as in a zygote's jail
    ],
)
def test_verdicts_do_not_depend_on_what_else_is_in_the_batch(monkeypatch, seed, reference, mode, landlock, step):
    monkeypatch.setattr(launcher, "NEWEST_LANDLOCK", landlock)
    monkeypatch.setattr(code_tests_reward, "_sandboxes", {})
    reward = CodeTestsReward(limits=LIMITS, parallel=8, mode=mode)
    # what runs until its time is up takes most of the time: each is in two of the batches
    left_out = {name for place, name in enumerate(sorted(ENDLESS)) if place % 3 != seed % 3}
    programs = [(name, source, 0.0) for name, source in ATTACKS.items() if name not in left_out]
    programs += [(name, source, 1.0) for name, source in HONEST.items()]
    random.Random(seed).shuffle(programs)
    programs = programs[::step]
    results = score(reward, [source for _, source, _ in programs], reference)
    wrong = [
        (name, result.outcome)
        for (name, _, expected), result in zip(programs, results, strict=True)
        if result.reward != expected
    ]
    assert wrong == []
    assert traces() == set()


LOCKS = """
import fcntl, os, struct, threading, time
fd = os.open({path!r}, {flags})
def put(kind, at):
    fcntl.fcntl(fd, {set}, struct.pack("hhqqi4x", kind, 0, at, 1, 0))
def find(start, length):
    answer = fcntl.fcntl(fd, {get}, struct.pack("hhqqi4x", 1, 0, start, length, 0))
    kind, _, at, *_ = struct.unpack("hhqqi4x", answer)
    return None if kind == 2 else at - start
LOCK, UNLOCK, QUESTION, ANSWER, MANY = {kind}, 2, 1000, 10**6, 1000
"""
ASKS = """
def f(x):
    put(LOCK, QUESTION + x)
    for _ in range(80):
        answer = find(ANSWER, MANY)
        if answer is not None: break
        time.sleep(0.01)
    put(UNLOCK, QUESTION + x)
    time.sleep(0.1)
    return answer
"""
ANSWERS = """
def serve():
    while True:
        asked = find(QUESTION, MANY)
        if asked is not None:
            put(LOCK, ANSWER + asked ** 2)
            time.sleep(0.05)
            put(UNLOCK, ANSWER + asked ** 2)
        time.sleep(0.005)
threading.Thread(target=serve, daemon=True).start()
def f(x):
    time.sleep(0.8)
    return x * x
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="that machine's numbers and records")
@pytest.mark.parametrize("mode", ["zygote", "fresh"])
@pytest.mark.parametrize(
    "channel",
    [
        LOCKS.format(path="/dev/null", flags="os.O_RDWR", kind=1, set=6, get=5),
        LOCKS.format(path="/dev/null", flags="os.O_RDWR", kind=1, set=37, get=36),
        LOCKS.format(path=os.__file__, flags="os.O_RDONLY", kind=0, set=6, get=5),
        LOCKS.format(path="/usr", flags="os.O_RDONLY", kind=0, set=37, get=36),
    ],
    ids=["a device", "an open device", "a library", "a folder"],
)
def test_a_completion_learns_nothing_from_one_that_solves_it(reward, mode, channel):
    reward = reward if mode == "zygote" else CodeTestsReward(mode=mode, limits=LIMITS, parallel=8)
    limited = {**REFERENCE, "cases": CASES[:2]}
    results = score(reward, [channel + ANSWERS, channel + ASKS], limited)
    assert [result.reward for result in results] == [1.0, 0.0]
