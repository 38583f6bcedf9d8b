"""No attack is paid or leaves a trace, and no honest program goes unpaid, alone and in batches in any order."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rewards.base import Outcome
from rewards.code import CodeTestsReward
from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, Sandbox, sandbox_report

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)
ATTACKS, MARK = (getattr(import_module("attacks"), name) for name in ("ATTACKS", "MARK"))
HONEST = import_module("honest").HONEST

pytestmark = pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")


CASES = [{"args": [x], "kwargs": {}, "expected": x * x} for x in (2, 5, 7, 11)]
REFERENCE = {"kind": "function", "entry_point": "f", "cases": CASES}
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


@pytest.fixture(scope="module")
def reward():
    return CodeTestsReward(limits=Limits(cpu_seconds=2.0, wall_seconds=3.0))


def completion(source: str) -> str:
    return f"This solves it:\n```python\n{source}\n```\n"


def score(reward, sources):
    return reward(["?"] * len(sources), [completion(source) for source in sources], [REFERENCE] * len(sources))


def traces() -> set[str]:
    """Files and processes that an attack would leave."""
    found = {
        f"{place}/{name}" for place in PLACES if os.path.isdir(place) for name in os.listdir(place) if MARK in name
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
    assert len(ATTACKS) >= 170
    assert len(HONEST) >= 55


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_not_paid(reward, name):
    (result,) = score(reward, [ATTACKS[name]])
    assert result.reward == 0.0
    assert result.outcome is not Outcome.CORRECT
    assert traces() == set()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_is_paid(reward, name):
    (result,) = score(reward, [HONEST[name]])
    assert (result.reward, result.outcome) == (1.0, Outcome.CORRECT)


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


@pytest.mark.parametrize("seed", [0, 1])
def test_verdicts_do_not_depend_on_what_else_is_in_the_batch(reward, seed):
    programs = [(name, source, 0.0) for name, source in ATTACKS.items()] + [
        (name, source, 1.0) for name, source in HONEST.items()
    ]
    random.Random(seed).shuffle(programs)
    results = score(reward, [source for _, source, _ in programs])
    wrong = [
        (name, result.outcome)
        for (name, _, expected), result in zip(programs, results, strict=True)
        if result.reward != expected
    ]
    assert wrong == []
    assert traces() == set()
