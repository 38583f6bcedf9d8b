"""When what a program prints is what it should print: line by line, by tokens, with tolerances."""

from __future__ import annotations

import json
import time

import pytest

from rewards.base import InvalidReference
from rewards.code import CodeTestsReward, ProgramCase, ProgramTests, as_dict, load
from rewards.code.checker import same_output
from rewards.code.sandbox import sandbox_report

THIRD = "0.333333333333"
TOKENS, NEAR = {"tokens": True}, {"abs_tol": 1e-6}
# expected, printed, options, whether they are the same
TABLE = [
    ("1 2", "1  2", {}, False),
    ("1 2", "1  2", TOKENS, True),
    ("1 2\n3", "1\n2 3\n", TOKENS, True),
    ("1 2\n3", "1\t2\r\n\r\n 3", TOKENS, True),
    ("1 2", "12", TOKENS, False),
    ("1 2", "1 2 3", TOKENS, False),
    ("1 2", "1", TOKENS, False),
    ("", " \n ", TOKENS, True),
    ("", "0", TOKENS, False),
    ("Yes", "yes", TOKENS, False),
    ("1\u00a02", "1 2", TOKENS, True),
    (THIRD, "0.333333", {}, False),
    (THIRD, "0.333333", NEAR, True),
    (THIRD, "0.33333", NEAR, False),
    (THIRD, ".333333", NEAR, True),
    (THIRD, "+0.333333", NEAR, True),
    (THIRD, "-0.333333", NEAR, False),
    (THIRD, "3.33333e-1", NEAR, True),
    (THIRD, "3.33333E-01", NEAR, True),
    (THIRD, "0.333333 ", NEAR, True),
    (THIRD, " 0.333333", NEAR, False),
    (THIRD, " 0.333333", NEAR | TOKENS, True),
    (THIRD, "0.333333\n0", NEAR, False),
    ("1 0.5", "1  0.5000001", NEAR, False),
    ("1 0.5", "1  0.5000001", NEAR | TOKENS, True),
    ("1 0.5\n2", "1\n0.5000001 2", NEAR | TOKENS, True),
    ("1 0.5\n2", "1 0.5000001\n2\n\n", NEAR, True),
    ("x = 0.5", "x = 0.5000001", NEAR, True),
    ("x=0.5", "x=0.5000001", NEAR, False),
    ("Case #1: 0.5", "Case #1: 0.50000001", NEAR, True),
    ("Case #1: 0.5", "Case #2: 0.50000001", NEAR, False),
    ("3", "3.0", NEAR, True),
    ("3.0", "3", NEAR, True),
    ("3.", "3", NEAR, True),
    ("3", "3.0", {}, False),
    ("1000000", "1000001", {"rel_tol": 1e-3}, False),  # whole numbers are exact
    ("1000000.0", "1000001", {"rel_tol": 1e-3}, True),
    ("1000000", "1000001.0", {"rel_tol": 1e-3}, True),
    ("1e6", "1000001", {"rel_tol": 1e-3}, True),
    ("100.0", "101.0", {"rel_tol": 1e-2}, True),
    ("100.0", "101.1", {"rel_tol": 1e-2}, False),
    ("0.0", "0.00001", {"rel_tol": 1e-2}, False),
    ("0.0", "-0.0000001", NEAR, True),
    ("1.0", "1e400", {"rel_tol": 0.5}, False),  # what was printed widens no tolerance
    ("1.0", "nan", NEAR, False),
    ("1.0", "inf", NEAR, False),
    ("nan", "nan", NEAR, True),
    ("inf", "inf", NEAR, True),
    ("inf", "1e999", NEAR, False),
    ("1e999", "2e999", NEAR, False),
    ("10.0", "1_0.0", NEAR, False),
    ("10.0", "0x0a", NEAR, False),
    ("10.0", "1٠.0", NEAR, False),
    ("10.0", "１０.0", NEAR, False),
    ("10.0", "10.0f", NEAR, False),
    ("10.0", "10.0.0", NEAR, False),
    ("10.0", "", NEAR, False),
    ("1.0", "1." + "0" * 100_000, NEAR, True),
    ("1.0", "9" * 100_000 + ".5", NEAR, False),
    (".", "0.0", NEAR, False),
    ("-.", "0.0", NEAR, False),
    ("e5", "0.0", NEAR, False),
]


@pytest.mark.parametrize(("expected", "printed", "options", "same"), TABLE)
def test_outputs(expected, printed, options, same):
    assert same_output(expected, printed, **options) is same


@pytest.mark.parametrize("options", [TOKENS, NEAR, NEAR | TOKENS])
def test_long_outputs_take_linear_time(options):
    started = time.process_time()
    for printed in ("1" * 10**6, "1 " * 10**6, " " * 10**6, "1.5e" * 10**6, "." * 10**6, "1\n \n" * 10**6, "+" * 10**6):
        assert not same_output("1.5 2.5", printed, **options)
        same_output(printed + "0.1", printed + "0.2", **options)
    assert time.process_time() - started < 60


def test_the_options_survive_json():
    tests = ProgramTests((ProgramCase("1", "1"),), tokens=True, rel_tol=1e-6, abs_tol=1e-9)
    assert load(json.loads(json.dumps(as_dict(tests)))) == tests
    assert "tokens" not in as_dict(ProgramTests((ProgramCase("1", "1"),)))


@pytest.mark.parametrize(
    "option", [{"tokens": 1}, {"rel_tol": 1.0}, {"rel_tol": -1}, {"abs_tol": True}, {"abs_tol": "1"}]
)
def test_options_that_cannot_be_used_are_refused(option):
    (name,) = option
    with pytest.raises(InvalidReference, match=name):
        ProgramTests((ProgramCase("1", "1"),), **option)
    with pytest.raises(InvalidReference, match=name):
        load({"kind": "program", "cases": [{"stdin": "", "stdout": ""}], **option})


@pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")
def test_programs_with_tolerances():
    tests = ProgramTests(
        (ProgramCase("3", "0.333333333333 1"), ProgramCase("7", "0.142857142857 1")), tokens=True, abs_tol=1e-5
    )
    sources = ["print(f'{1 / int(input()):.6f}')\nprint(1)", "print(1 / int(input()), 2)", "print(0.333333, 1)"]
    results = CodeTestsReward()(["?"] * 3, [f"```python\n{source}\n```" for source in sources], [as_dict(tests)] * 3)
    assert [result.reward for result in results] == [1.0, 0.0, 0.0]
    assert [result.metrics["passed"] for result in results] == [2.0, 0.0, 1.0]


@pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")
def test_long_numbers_are_printed_and_read():
    tests = ProgramTests(tuple(ProgramCase(str(n), "1" + "0" * n) for n in (10, 5_000, 20_000)))
    sources = ["print(10**int(input()))", "print(int('1' + '0' * int(input())))", "print(f'{10**int(input()):d}')"]
    results = CodeTestsReward()(["?"] * 3, [f"```python\n{source}\n```" for source in sources], [tests] * 3)
    assert [result.reward for result in results] == [1.0, 1.0, 1.0]
