"""Equality of an expected value and what a program gave."""

import math
import time
from collections import OrderedDict, namedtuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.code.equality import same
from rewards.code.sandbox.codec import decode, encode

NAN, INF = math.nan, math.inf
Point = namedtuple("Point", "x y")

EQUAL = [
    (None, None),
    (1, 1),
    (1, 1.0),
    (1.0, 1),
    (True, 1),
    (0, False),
    (1, 1 + 0j),
    (0.0, -0.0),
    (INF, INF),
    (2**53, 2.0**53),
    (10**400, 10**400),
    ("\ud800", "\ud800"),
    (b"a", b"a"),
    ([1, [2, (3,)]], [1, [2, (3,)]]),
    ({1, 2}, {2, 1}),
    (frozenset([1]), frozenset([1])),
    ({frozenset([1]): (1, 2)}, {frozenset([1.0]): (1, 2)}),
    ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
    ({True: 0}, {1: 0}),
    ([], []),
    ({}, {}),
]
DIFFERENT = [
    (None, 0),
    (None, False),
    (1, 2),
    (1, "1"),
    ("1", 1),
    ("a", b"a"),
    (NAN, NAN),
    ([NAN], [NAN]),
    (INF, -INF),
    ([1], (1,)),
    ((1,), [1]),
    ([(1, 2)], [[1, 2]]),
    ({1: (2,)}, {1: [2]}),
    ({1}, frozenset([1])),
    (frozenset([1]), {1}),
    ({1}, [1]),
    ({}, set()),
    ([], None),
    ("", None),
    ([1], [1, 2]),
    ([1, 2], [1]),
    ({1: 2}, {1: 3}),
    ({1: 2}, {2: 2}),
    ({1: 2}, {1: 2, 2: 3}),
    ({1, 2}, {1}),
    # what decoded values never are
    (object, object),
    ((1, 2), Point(1, 2)),
    ({1: 2}, OrderedDict({1: 2})),
    (bytearray(b"a"), bytearray(b"a")),
]


@pytest.mark.parametrize(("expected", "actual"), EQUAL)
def test_equal(expected, actual):
    assert same(expected, actual)
    assert same([expected], [actual])
    assert same({0: (expected,)}, {0: (actual,)})


@pytest.mark.parametrize(("expected", "actual"), DIFFERENT)
def test_different(expected, actual):
    assert not same(expected, actual)
    assert not same([expected], [actual])
    assert not same({0: (expected,)}, {0: (actual,)})
    assert not same(expected, actual, rel_tol=1e-9)


CLOSE = [
    (1.0, 1.0 + 1e-7),
    (1.0, 1),
    (1, 1.0 - 1e-7),
    (100.0, 100.00001),
    (1.0, True),
    (0.0, 1e-7),
    (1 + 1j, 1 + 1.0000001j),
    (1.0, 1 + 1e-8j),
    ([1.0, (2.0, {"a": 3.0})], [1.0000001, (2.0000001, {"a": 3})]),
    (INF, INF),
    (-INF, -INF),
    (1e308, 1e308 * (1 + 1e-7)),
]
FAR = [
    (1.0, 1.00001),
    (1.0, NAN),
    (1.0, INF),
    (1.0, -INF),
    (INF, 1e308),
    (INF, NAN),
    (INF, -INF),
    (NAN, 1.0),
    (NAN, NAN),
    (1e308, -1e308),
    (0, INF),
    (1.0, 10**400),
    (10**400, 1.0),
    (10**400, INF),
    (INF, 10**400),
    (1 + 1j, complex(1, NAN)),
    (1 + 1j, complex(INF, 1)),
    (complex(INF, 1), complex(INF, 1.0000001)),
    (1e300 + 1e300j, -1e300 - 1e300j),
    (1.0, "1.0"),
    (1.0, None),
    (1.0, [1.0]),
    (10**9, 10**9 + 1),
    (1, False),
    ({1.0}, {1.0 + 1e-9}),
    ({1.0: 1}, {1.0 + 1e-9: 1}),
]


@pytest.mark.parametrize(("expected", "actual"), CLOSE)
def test_close(expected, actual):
    assert same(expected, actual, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize(("expected", "actual"), FAR)
def test_far(expected, actual):
    assert not same(expected, actual, rel_tol=1e-6, abs_tol=1e-6)


def test_the_tolerance_is_relative_to_what_is_expected():
    assert same(1.0, 1.5, rel_tol=0.5)
    assert same(-1.0, -1.5, rel_tol=0.5)
    assert not same(1.0, 1.9, rel_tol=0.5)
    assert not same(0.0, 1e-300, rel_tol=0.5)
    assert not same(0.0, 1e300, rel_tol=0.9)
    assert same(0.0, 1e-3, abs_tol=1e-3)
    assert not same(1.0, 1.1)
    assert not same(2**53 + 1, 2.0**53)
    assert same(2**53 + 1, 2.0**53, abs_tol=1.0)


def test_nan_equals_nan_only_where_that_is_asked_for():
    assert same([NAN], [NAN], nan_equal=True)
    assert same([NAN], [NAN], nan_equal=True, rel_tol=1e-6)
    assert not same(NAN, 1.0, nan_equal=True)
    assert not same(1.0, NAN, nan_equal=True)
    assert not same(NAN, complex(NAN, 1), nan_equal=True)
    assert not same(NAN, None, nan_equal=True)


class Liar(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


def test_a_subclass_is_never_equal():
    assert not same(1, Liar(1))
    assert not same(2, Liar(1))
    assert not same([2], [Liar(1)], rel_tol=0.5)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES)
def test_a_value_equals_itself_after_the_codec(value):
    assert same(value, decode(encode(value)))
    assert same(value, decode(encode(value)), rel_tol=1e-9)
    assert not same(value, [value])


@given(VALUES, VALUES)
def test_what_is_the_same_is_equal_both_ways(a, b):
    assert same(a, b) == same(b, a)
    if same(a, b):
        assert a == b


def test_deep_and_large_values_end():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert not same(deep, deep)
    cycle = []
    cycle.append(cycle)
    assert not same(cycle, cycle)
    large = list(range(500_000))
    started = time.process_time()
    assert same(large, list(large), rel_tol=1e-6)
    assert not same(large, [0.5, *large[1:]])
    assert not same(1 << 8_000_000, (1 << 8_000_000) + 1, rel_tol=0.1)
    assert time.process_time() - started < 5
