from __future__ import annotations

import pytest

from rewards import InvalidReference, Outcome
from rewards.exact import ExactTextReward

REWARD = ExactTextReward()


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("abc", "abc", True),
        (" abc ", "abc", True),
        ('"abc"', "abc", True),
        ("\\text{abc}", "abc", True),
        ("`abc`", "abc", True),
        ("a  b", "a b", True),
        ("Abc", "abc", False),
        ("abcd", "abc", False),
        ("xabc", "abc", False),
        ("ab c", "abc", False),
        ("abc abc", "abc", False),
        ("cba", "abc", False),
        ("", "abc", False),
        ("3, 1, 2", ["3", "1", "2"], True),
        ("3,1,2", [3, 1, 2], True),
        ("[3, 1, 2]", [3, 1, 2], True),
        ("\\{3, 1, 2\\}", [3, 1, 2], True),
        ("['a', 'b']", ["a", "b"], True),
        ('"a", "b"', ["a", "b"], True),
        ("1, 2, 3", [3, 1, 2], False),
        ("3, 1", [3, 1, 2], False),
        ("3, 1, 2, 2", [3, 1, 2], False),
        ("3 1 2", [3, 1, 2], False),
        ("3, , 1, 2", [3, 1, 2], False),
        ("3.0, 1, 2", [3, 1, 2], False),
        ("5", [5], True),
        ("3,\\ 1,\\,2", [3, 1, 2], True),
        ("\\text{a},\\ \\text{b}", ["a", "b"], True),
        ("\u22123, 1", [-3, 1], True),
        ("\u22123, 1", [3, 1], False),
        ("a\u2212b", "a-b", False),
        ("a\u2212b", "a\u2212b", True),
        ("\\mathtt{abc}", "abc", True),
        ("a\\ b", "a b", True),
        ("a\\,b", "ab", False),
        ("," * 100_000, [3, 1, 2], False),
    ],
)
def test_verdicts(answer, reference, right):
    REWARD.check_reference(reference)
    [result] = REWARD([""], [f"I think it is \\boxed{{{answer}}}"], [reference])
    assert (result.reward == 1.0) is right
    assert (result.outcome is Outcome.CORRECT) is right


@pytest.mark.parametrize(
    "reference",
    ["", " a", "a.", "'a'", "a  b", [], [""], ["a, b"], [1.5], [True], None, 3, ["'a'"], ["[a", "b]"]],
    ids=repr,
)
def test_references_that_no_answer_could_equal(reference):
    with pytest.raises(InvalidReference):
        REWARD.check_reference(reference)


def test_an_answer_is_marked():
    assert REWARD([""], ["abc"], ["abc"])[0].outcome is Outcome.NO_ANSWER
    with pytest.raises(ValueError, match="rules is empty"):
        ExactTextReward(rules=())
    with pytest.raises(ValueError, match="equally many"):
        REWARD([""], [], [])
