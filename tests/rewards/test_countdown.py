from __future__ import annotations

from fractions import Fraction

import pytest

from rewards import InvalidReference, Outcome
from rewards.arithmetic import NotAnExpression, TooLong, read_arithmetic
from rewards.countdown import CountdownReward

REWARD = CountdownReward()
PUZZLE = {"numbers": [2, 5, 4], "target": 10}


def outcome(answer, reference=PUZZLE):
    return REWARD([""], [f"\\boxed{{{answer}}}"], [reference])[0].outcome


@pytest.mark.parametrize(
    ("text", "value", "numbers"),
    [
        ("7", 7, (7,)),
        ("2 + 3 * 4", 14, (2, 3, 4)),
        ("(2 + 3) * 4", 20, (2, 3, 4)),
        ("20 / 2 / 5", 2, (20, 2, 5)),
        ("8 - 3 - 2", 3, (8, 3, 2)),
        ("1 / 3 + 1 / 6", Fraction(1, 2), (1, 3, 1, 6)),
        ("((((7))))", 7, (7,)),
        ("2 \\times (3 \\div 4)", Fraction(3, 2), (2, 3, 4)),
        ("\\left(2 + 3\\right) \\cdot 4", 20, (2, 3, 4)),
        ("9 \u2212 2 \u00d7 3 \u00f7 6", 8, (9, 2, 3, 6)),
        ("9 \u22c5 2 \u2217 3", 54, (9, 2, 3)),
        ("007", 7, (7,)),
    ],
)
def test_expressions(text, value, numbers):
    read = read_arithmetic(text)
    assert (read.value, read.numbers) == (value, numbers)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "()", "2**3", "2//3", "2^3", "2.5", "2 3", "-2", "+2", "2 * -3", "(2", "2)", ")2(", "2 +", "* 2",
        "2(3)", "1/0", "1/(2-2)", "a", "2 + x", "2!", "2%3", "1e3", "0x10", "1_0", "\u0662", "\u00b2", "sum([2])",
        "2,3", "2 = 2", "__import__('os')", "2\x00",
    ],
)  # fmt: skip
def test_what_is_no_expression(text):
    with pytest.raises(NotAnExpression):
        read_arithmetic(text)


@pytest.mark.parametrize("text", ["1+" * 200 + "1", "9" * 13, "(" * 60 + "1" + ")" * 60, "1" * 10**6, " " * 10**6])
def test_caps(text):
    with pytest.raises(TooLong):
        read_arithmetic(text)


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("5 * 4 / 2", PUZZLE, Outcome.CORRECT),
        ("4*5/2", PUZZLE, Outcome.CORRECT),
        ("5 * (4 / 2) = 10", PUZZLE, Outcome.CORRECT),
        ("5 * 4 / 2 = 11", PUZZLE, Outcome.WRONG),
        ("10 = 5 * 4 / 2", PUZZLE, Outcome.WRONG),
        ("5 * 4 / 2 = 10 = 10", PUZZLE, Outcome.WRONG),
        ("2.5*4", PUZZLE, Outcome.UNPARSED),
        ("2**5", {"numbers": [2, 5], "target": 32}, Outcome.UNPARSED),
        ("25 - 4", {"numbers": [2, 5, 4], "target": 21}, Outcome.WRONG),
        ("5 * 2", PUZZLE, Outcome.WRONG),
        ("10", PUZZLE, Outcome.WRONG),
        ("5 * 4 / 2 + 5 - 5", PUZZLE, Outcome.WRONG),
        ("5 + 4 + 2", PUZZLE, Outcome.WRONG),
        ("-(2 - 5 - 4)", {"numbers": [2, 5, 4], "target": 7}, Outcome.UNPARSED),
        ("5 * 2", {**PUZZLE, "use_all": False}, Outcome.CORRECT),
        ("5 * 2 * 1", {**PUZZLE, "use_all": False}, Outcome.WRONG),
        ("3 / 3 + 3", {"numbers": [3, 3, 3], "target": 4}, Outcome.CORRECT),
        ("8 / (3 - 8 / 3)", {"numbers": [8, 3, 8, 3], "target": 24}, Outcome.CORRECT),
        ("1+" * 300 + "1", PUZZLE, Outcome.TOO_LARGE),
    ],
)
def test_verdicts(answer, reference, expected):
    assert outcome(answer, reference) is expected


@pytest.mark.parametrize("completion", ["", "5 * 4 / 2", "<think>\\boxed{5*4/2}</think>", "\\boxed{}"])
def test_an_answer_is_marked(completion):
    assert REWARD([""], [completion], [PUZZLE])[0].outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    "reference",
    [
        None, "24", {"numbers": [1, 2]}, {"target": 3}, {"numbers": [], "target": 3},
        {"numbers": [1, 2.5], "target": 3},
        {"numbers": [1, -2], "target": 3}, {"numbers": [1, True], "target": 3}, {"numbers": [1, 2], "target": "3"},
        {"numbers": [1, 2], "target": 3, "use_all": 1}, {"numbers": "12", "target": 3},
    ],
    ids=repr,
)  # fmt: skip
def test_references_that_are_none(reference):
    with pytest.raises(InvalidReference):
        REWARD.check_reference(reference)


def test_mistakes_of_the_caller():
    with pytest.raises(ValueError, match="rules is empty"):
        CountdownReward(rules=())
    with pytest.raises(ValueError, match="equally many"):
        REWARD([""], [], [])
    assert REWARD.instruction == "Put your final answer in \\boxed{}."
