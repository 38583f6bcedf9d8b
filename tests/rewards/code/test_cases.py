"""Tests as plain data: what is refused, and that they survive JSON."""

import copy
import json
import math
from collections import namedtuple

import pytest

from rewards.base import InvalidReference
from rewards.code import CheckTests, FunctionCase, FunctionTests, ProgramCase, ProgramTests, as_dict, load
from rewards.code.jsonable import from_json, to_json
from rewards.code.sandbox.codec import encode

CASE = FunctionCase((1,), {}, 2)
VALUES = [
    None,
    True,
    1,
    2**64,
    10**5000,
    -(10**5000),
    0.1,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    complex(1, math.nan),
    "a\ud800\0",
    b"\xff",
    [1, (2, [3])],
    (),
    {1, 2},
    frozenset([(1, 2)]),
    {"a": (1,)},
    {"$a": 1},
    {"$tuple": [1]},
    {1: 2, (1, 2): {3}},
    {},
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_survive_json(value):
    back = from_json(json.loads(json.dumps(to_json(value))))
    assert encode(back) == encode(value)


@pytest.mark.parametrize(
    "value",
    [
        {"$tuple": 1},
        {"$odd": []},
        {"$tuple": [], "a": 1},
        {"$set": [[]]},
        {"$dict": [[1]]},
        {"$dict": [1]},
        {"$complex": [1]},
        {"$complex": ["1", "2"]},
        {"$float": "x"},
        {"$float": 1},
        {"$int": "zz"},
        {"$bytes": "?"},
        {"$bytes": [1]},
        {"a": [{"$odd": 1}]},
    ],
    ids=json.dumps,
)
def test_odd_json_is_refused(value):
    with pytest.raises(ValueError, match=r"\$"):
        from_json(value)
    with pytest.raises(InvalidReference, match=r"cases\[0\]\.expected"):
        load({"kind": "function", "entry_point": "f", "cases": [{"args": [], "expected": value}]})


def test_what_is_no_data_is_no_json():
    with pytest.raises(TypeError, match="object"):
        to_json([object()])


ALL = [
    FunctionTests("f", (CASE,)),
    FunctionTests("f", (FunctionCase(([1],), {"key": (1, 2)}, {"a": {1}}), CASE), 1e-6, 1e-9, prefix="def f():\n"),
    FunctionTests("f", (FunctionCase(expected=math.nan),), nan_equal=True),
    CheckTests(
        "f", ("def check(candidate):\n    assert candidate(1) == 1\n",), setup="import math", prefix="def f(x):\n"
    ),
    CheckTests("f", ("assert f(1) == 1", "assert f(2) == 2")),
    ProgramTests((ProgramCase("1\n", "2\n"), ProgramCase("", ""))),
]


@pytest.mark.parametrize("tests", ALL, ids=range(len(ALL)))
def test_tests_survive_json_and_a_copy(tests):
    back = load(json.loads(json.dumps(as_dict(tests))))
    assert encode(as_dict(back)) == encode(as_dict(tests))
    assert type(back) is type(tests)
    assert load(tests) is tests
    assert back.total == tests.total >= 1
    assert as_dict(copy.deepcopy(tests)).keys() == as_dict(tests).keys()


def test_values_are_reduced_to_plain_data():
    point = namedtuple("Point", "x y")(1, 2)
    tests = FunctionTests("f", [FunctionCase([point], {"p": point}, [point])])
    case = tests.cases[0]
    assert [type(value) for value in (tests.cases, case.args, case.args[0], case.kwargs["p"], case.expected[0])] == [
        tuple
    ] * 5


def test_a_reference_may_hold_pythons_own_values():
    tests = load({"kind": "function", "entry_point": "f", "cases": [{"args": ((1,), {2}), "expected": [(3,), {4: 5}]}]})
    assert tests.cases == (FunctionCase(((1,), {2}), {}, [(3,), {4: 5}]),)


def test_a_single_check_may_be_a_text():
    assert CheckTests("f", "assert f()").checks == ("assert f()",)
    assert load({"kind": "check", "entry_point": "f", "checks": "assert f()"}).total == 1


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


deep = []
for _ in range(200):
    deep = [deep]

REFUSED = {
    "text": ("assert f()", "mapping"),
    "nothing": (None, "mapping"),
    "no kind": ({}, "kind"),
    "odd kind": ({"kind": "x"}, "kind"),
    "no entry point": ({"kind": "function", "cases": []}, "entry_point is missing"),
    "no cases": ({"kind": "function", "entry_point": "f"}, "cases is missing"),
    "zero cases": ({"kind": "function", "entry_point": "f", "cases": []}, "cases is empty"),
    "cases of another type": ({"kind": "function", "entry_point": "f", "cases": 1}, "cases must be a list"),
    "cases are a mapping": ({"kind": "function", "entry_point": "f", "cases": {"a": 1}}, "cases must be a list"),
    "case of another type": ({"kind": "function", "entry_point": "f", "cases": [1]}, r"cases\[0\]"),
    "unknown field": ({"kind": "function", "entry_point": "f", "cases": [], "tol": 1}, "tol is unknown"),
    "field that is no text": ({"kind": "function", "entry_point": "f", "cases": [], 1: 1}, "1 is unknown"),
    "unknown field of a case": (
        {"kind": "function", "entry_point": "f", "cases": [{"expected": 1, "input": 1}]},
        r"cases\[0\]\.input is unknown",
    ),
    "nothing expected": (
        {"kind": "function", "entry_point": "f", "cases": [{"args": [1]}]},
        r"cases\[0\]\.expected is missing",
    ),
    "args": ({"kind": "function", "entry_point": "f", "cases": [{"args": 1, "expected": 1}]}, r"cases\[0\]\.args"),
    "kwargs": ({"kind": "function", "entry_point": "f", "cases": [{"kwargs": [1], "expected": 1}]}, r"\.kwargs"),
    "too deep": ({"kind": "function", "entry_point": "f", "cases": [{"expected": deep}]}, r"cases\[0\]\.expected"),
    "no checks": ({"kind": "check", "entry_point": "f", "checks": []}, "checks is empty"),
    "zero programs": ({"kind": "program", "cases": []}, "cases is empty"),
    "program without input": ({"kind": "program", "cases": [{"stdout": ""}]}, r"cases\[0\]\.stdin is missing"),
    "program with a number": ({"kind": "program", "cases": [{"stdin": 1, "stdout": ""}]}, r"cases\[0\]\.stdin"),
}


@pytest.mark.parametrize(("reference", "message"), REFUSED.values(), ids=REFUSED)
def test_a_reference_that_cannot_be_used_is_refused(reference, message):
    with pytest.raises(InvalidReference, match=message):
        load(reference)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FunctionTests("", (CASE,)), "entry_point"),
        (lambda: FunctionTests("a.b", (CASE,)), "entry_point"),
        (lambda: FunctionTests("lambda", (CASE,)), "entry_point"),
        (lambda: FunctionTests(1, (CASE,)), "entry_point"),
        (lambda: FunctionTests("f", ()), "cases is empty"),
        (lambda: FunctionTests("f", (1,)), r"cases\[0\]"),
        (lambda: FunctionTests("f", (CASE, FunctionCase((object(),), {}, 1))), r"cases\[1\]\.args.*object"),
        (lambda: FunctionTests("f", (FunctionCase((), {"a": len}, 1),)), r"cases\[0\]\.kwargs"),
        (lambda: FunctionTests("f", (FunctionCase((), {1: 1}, 1),)), r"cases\[0\]\.kwargs"),
        (lambda: FunctionTests("f", (FunctionCase((), {}, len),)), r"cases\[0\]\.expected"),
        (lambda: FunctionTests("f", (FunctionCase((), {}, [math.nan]),)), r"cases\[0\]\.expected holds NaN"),
        (lambda: FunctionTests("f", (FunctionCase((), {}, {math.nan}),), nan_equal=True), r"expected holds NaN"),
        (lambda: FunctionTests("f", (FunctionCase("ab", {}, 1),)), r"cases\[0\]\.args"),
        (lambda: FunctionTests("f", (FunctionCase((nested(63),), {}, 1),)), r"cases\[0\]\.args: .*deeply"),
        (lambda: FunctionTests("f", (FunctionCase((b"a" * 2**24,), {}, 1),)), r"cases\[0\]\.args: .*bytes"),
        (lambda: FunctionTests("f", (CASE,), rel_tol=1), "rel_tol"),
        (lambda: FunctionTests("f", (CASE,), rel_tol=-1), "rel_tol"),
        (lambda: FunctionTests("f", (CASE,), rel_tol=math.nan), "rel_tol"),
        (lambda: FunctionTests("f", (CASE,), rel_tol=True), "rel_tol"),
        (lambda: FunctionTests("f", (CASE,), abs_tol=math.inf), "abs_tol"),
        (lambda: FunctionTests("f", (CASE,), abs_tol="1"), "abs_tol"),
        (lambda: FunctionTests("f", (CASE,), nan_equal=1), "nan_equal"),
        (lambda: FunctionTests("f", (CASE,), prefix=None), "prefix"),
        (lambda: CheckTests("f", ()), "checks is empty"),
        (lambda: CheckTests("f", ("assert f()", "f()")), r"checks\[1\] has no assert"),
        (lambda: CheckTests("f", ("",)), r"checks\[0\] has no assert"),
        (lambda: CheckTests("f", ("assert (",)), r"checks\[0\] is no Python"),
        (lambda: CheckTests("f", ("assert '\0'",)), r"checks\[0\] is no Python"),
        (lambda: CheckTests("f", (b"assert f()",)), r"checks\[0\] must be a str"),
        (lambda: CheckTests("f", "assert f()", setup="def"), "setup is no Python"),
        (lambda: CheckTests("f", "assert f()", setup=None), "setup must be a str"),
        (lambda: CheckTests("f", 1), "checks must be a list"),
        (lambda: ProgramTests(()), "cases is empty"),
        (lambda: ProgramTests(("",)), r"cases\[0\]"),
        (lambda: ProgramTests((ProgramCase("", None),)), r"cases\[0\]\.stdout"),
        (lambda: ProgramTests("ab"), "cases must be a list"),
    ],
)
def test_tests_that_cannot_be_used_are_refused(make, message):
    with pytest.raises(InvalidReference, match=message):
        make()
