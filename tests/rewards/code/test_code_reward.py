"""CodeTestsReward: from completions to results."""

import json
import os
import pickle
import random
import subprocess
import sys
import threading

import pytest

from rewards import InvalidReference, Outcome, Reward
from rewards.base import check_reference
from rewards.code import CheckTests, CodeTestsReward, FunctionCase, FunctionTests, ProgramCase, ProgramTests, as_dict
from rewards.code import code_tests_reward as module
from rewards.code.check_runner import CheckerFault
from rewards.code.sandbox import Limits, SandboxFault

TESTS = FunctionTests("f", tuple(FunctionCase((x,), {}, 2 * x) for x in (1, 2, 3, 4)))
RIGHT = "```python\ndef f(x):\n    return 2 * x\n```"
# completion: outcome, passed, reward with partial
TABLE = {
    RIGHT: (Outcome.CORRECT, 4, 1.0),
    "def f(x): return 2 * x": (Outcome.CORRECT, 4, 1.0),
    "<think>hm</think>Here:\n" + RIGHT + "\nThis doubles.": (Outcome.CORRECT, 4, 1.0),
    "def f(x): return 2": (Outcome.WRONG, 1, 0.25),
    "def f(x): return 2 * x if x < 4 else None": (Outcome.WRONG, 3, 0.75),
    "def f(x): return None": (Outcome.WRONG, 0, 0.0),
    "I do not know.": (Outcome.NO_ANSWER, 0, 0.0),
    "": (Outcome.NO_ANSWER, 0, 0.0),
    "<think>" + RIGHT: (Outcome.NO_ANSWER, 0, 0.0),
    "def f(x) return 2": (Outcome.SYNTAX_ERROR, 0, 0.0),
    "def f(x): return 2 * x if x < 3 else end('timeout')": (Outcome.TIMEOUT, 2, 0.5),
    "def f(x): return 2 * x if x < 3 else end('memory')": (Outcome.MEMORY, 2, 0.5),
    "def f(x): return 2 * x if x < 3 else end('crashed')": (Outcome.CRASHED, 2, 0.5),
    "def f(x): return 2 * x if x < 3 else end('forbidden')": (Outcome.FORBIDDEN, 2, 0.0),
}


def score(reward, completions, tests=TESTS):
    return reward([""] * len(completions), completions, [tests] * len(completions))


@pytest.mark.parametrize("parallel", [None, 1, 4])
def test_outcomes(fake_sandboxes, parallel):
    results = score(CodeTestsReward(parallel=parallel), list(TABLE))
    for result, (outcome, passed, _) in zip(results, TABLE.values(), strict=True):
        assert (result.outcome, result.reward) == (outcome, float(outcome is Outcome.CORRECT))
        expected = {"passed": passed, "tests": 4}
        assert result.metrics == expected if outcome is Outcome.NO_ANSWER else expected | {"sandbox_grade": 1.0}
        assert (result.answer is None) == (outcome is Outcome.NO_ANSWER)
    assert results[0].answer == "def f(x):\n    return 2 * x\n"


def test_partial_credit(fake_sandboxes):
    results = score(CodeTestsReward(partial=True), list(TABLE))
    for result, (outcome, passed, reward) in zip(results, TABLE.values(), strict=True):
        assert result.reward == reward
        assert result.metrics["passed"] == passed
        assert result.outcome is (Outcome.PARTIAL if outcome is Outcome.WRONG and passed else outcome)


def test_verdicts_do_not_depend_on_the_batch(fake_sandboxes):
    reward = CodeTestsReward(partial=True, parallel=4)
    alone = {completion: score(reward, [completion])[0] for completion in TABLE}
    order = list(TABLE) * 5
    for seed in range(3):
        random.Random(seed).shuffle(order)
        assert score(reward, order) == [alone[completion] for completion in order]


def test_all_kinds_of_tests_as_json(fake_sandboxes):
    prefix = 'import math\n\n\ndef f(x):\n    """Twice x."""\n'
    kinds = [
        (FunctionTests("f", TESTS.cases, prefix=prefix), "    return 2 * x\n"),
        (FunctionTests("f", TESTS.cases, prefix=prefix), RIGHT),
        (
            CheckTests("f", "def check(candidate):\n    assert candidate(2) == 4", setup=prefix, prefix=prefix),
            "return 2 * x",
        ),
        (CheckTests("f", ("assert f(1) == 2", "assert f(2) == 4")), RIGHT),
        (ProgramTests((ProgramCase("2", "4\n"),)), "```python\nprint(2 * int(input()))\n```"),
    ]
    references = [json.loads(json.dumps(as_dict(tests))) for tests, _ in kinds]
    results = CodeTestsReward()([""] * 5, [completion for _, completion in kinds], references)
    assert [result.outcome for result in results] == [Outcome.CORRECT] * 5
    assert [result.metrics["tests"] for result in results] == [4, 4, 1, 2, 1]


def test_the_sandbox_is_shared_and_starts_late(fake_sandboxes):
    reward = CodeTestsReward(limits=Limits(cpu_seconds=1.0), mode="fresh", allow_weak=True)
    assert not fake_sandboxes
    score(reward, ["no code here"])
    assert not fake_sandboxes
    for other in (
        reward,
        pickle.loads(pickle.dumps(reward)),  # noqa: S301
        CodeTestsReward(limits=Limits(cpu_seconds=1.0), mode="fresh", allow_weak=True, partial=True),
    ):
        score(other, [RIGHT, RIGHT])
    (made,) = fake_sandboxes
    assert made.options == {"mode": "fresh", "limits": Limits(cpu_seconds=1.0), "allow_weak": True}
    assert made.opened == made.closed == 6
    score(CodeTestsReward(), [RIGHT])
    assert len(fake_sandboxes) == 2


def test_a_forked_child_makes_its_own_sandbox(fake_sandboxes):
    score(CodeTestsReward(), [RIGHT])
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            score(CodeTestsReward(), [RIGHT])
            os.write(write, str(len(fake_sandboxes)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert os.read(read, 10) == b"2"
    os.close(read)


def test_programs_run_side_by_side(fake_sandboxes, monkeypatch):
    barrier = threading.Barrier(3, timeout=30)

    def meet(*args):
        barrier.wait()
        return real(*args)

    real = module.judge
    monkeypatch.setattr(module, "judge", meet)
    results = score(CodeTestsReward(parallel=3), [RIGHT] * 6)
    assert [result.outcome for result in results] == [Outcome.CORRECT] * 6
    assert len(fake_sandboxes[0].threads) <= 3


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_fault_is_tried_again_once(fake_sandboxes, parallel, caplog):
    reward = CodeTestsReward(parallel=parallel)
    results = score(reward, [RIGHT, "fault()\ndef f(x): return 2 * x", RIGHT])
    assert [result.outcome for result in results] == [Outcome.CORRECT] * 3
    assert "the fake broke" in caplog.text
    with pytest.raises(SandboxFault, match="the fake broke"):
        score(reward, [RIGHT, "def f(x): fault(1000)", RIGHT])
    assert score(reward, [RIGHT])[0].reward == 1.0


def test_a_fault_of_the_checker_is_tried_again_once(fake_sandboxes, monkeypatch):
    faults = iter([True, False, True, True])

    def judge(*args):
        if next(faults):
            raise CheckerFault("lost")
        return real(*args)

    real = module.judge
    monkeypatch.setattr(module, "judge", judge)
    assert score(CodeTestsReward(), [RIGHT])[0].reward == 1.0
    with pytest.raises(CheckerFault):
        score(CodeTestsReward(), [RIGHT])


def test_references_are_checked():
    reward = CodeTestsReward()
    assert isinstance(reward, Reward)
    check_reference(reward, TESTS)
    check_reference(reward, as_dict(TESTS))
    for bad in (None, {}, as_dict(TESTS) | {"cases": []}):
        with pytest.raises(InvalidReference):
            check_reference(reward, bad)
        with pytest.raises(InvalidReference):
            reward([""], [RIGHT], [bad])
    with pytest.raises(ValueError, match="equally many"):
        reward([""], [RIGHT, RIGHT], [TESTS])
    assert reward([], [], []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "docker"}, "mode"), ({"parallel": 0}, "parallel"), ({"parallel": True}, "parallel")],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        CodeTestsReward(**options)


def test_any_text_gets_a_result(fake_sandboxes):
    odd = [
        "\0",
        "\ud800",
        "```python\n\0\n```",
        "```python\n\ud800\n```",
        "```\n" * 1000,
        "def f(" * 10_000,
        "(" * 100_000,
    ]
    for result in score(CodeTestsReward(), odd):
        assert result.reward == 0.0


def test_importing_it_starts_nothing():
    code = (
        "import threading, os; from rewards.code import CodeTestsReward; CodeTestsReward();"
        "print(threading.active_count(), len(os.listdir('/proc/self/task')) if os.path.exists('/proc') else 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
