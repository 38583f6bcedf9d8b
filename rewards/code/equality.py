"""Whether a value that a program gave is the expected one."""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 100

_NUMBERS = (bool, int, float, complex)


def same(expected: Any, actual: Any, *, rel_tol: float = 0.0, abs_tol: float = 0.0, nan_equal: bool = False) -> bool:
    """Whether two values are equal: Python's `==`, and containers of the same type.

    - Numbers are compared by value, as `==` does: `1`, `1.0`, `True` and `1 + 0j` are equal.
    - A list is no tuple and a set no frozenset, at any depth. Elements of sets and keys of dicts are found by `==`.
    - The order of a dict's keys does not count.
    - Where a float or complex is compared with a number, it may differ by `rel_tol` of what is expected or by
      `abs_tol`, whichever is more. Two ints are compared exactly, and so are elements of sets and keys of dicts.
    - NaN equals nothing, itself included, unless `nan_equal`. An infinity equals itself alone: no tolerance reaches it
      or applies to it.

    Both values are what `rewards.code.sandbox.codec.decode` gives. Anything else, subclasses included, is equal to
    nothing, and so is what is nested more than `MAX_DEPTH` deep.

    Args:
        expected: What the task says.
        actual: What the program gave.
        rel_tol: The tolerance relative to the expected number.
        abs_tol: The absolute tolerance.
        nan_equal: Whether NaN equals NaN (not inside complex numbers, sets and keys).
    """
    return _same(expected, actual, rel_tol, abs_tol, nan_equal, MAX_DEPTH)


def _same(expected: Any, actual: Any, rel_tol: float, abs_tol: float, nan_equal: bool, depth: int) -> bool:
    kind = type(expected)
    if kind in _NUMBERS:
        if type(actual) not in _NUMBERS:
            return False
        if expected == actual:
            return True
        if nan_equal and expected != expected and actual != actual:
            return kind is float and type(actual) is float
        return (rel_tol > 0 or abs_tol > 0) and _close(expected, actual, rel_tol, abs_tol)
    if type(actual) is not kind or depth <= 0:
        return False
    if kind is list or kind is tuple:
        return len(expected) == len(actual) and all(
            _same(a, b, rel_tol, abs_tol, nan_equal, depth - 1) for a, b in zip(expected, actual, strict=True)
        )
    if kind is dict:
        return len(expected) == len(actual) and all(
            key in actual and _same(value, actual[key], rel_tol, abs_tol, nan_equal, depth - 1)
            for key, value in expected.items()
        )
    return kind in (str, bytes, set, frozenset, type(None)) and bool(expected == actual)


def _close(expected: complex, actual: complex, rel_tol: float, abs_tol: float) -> bool:
    """Whether two unequal numbers are within a tolerance. `bool` and `int` are exact."""
    if isinstance(expected, int) and isinstance(actual, int):
        return False
    try:
        a, b = complex(expected), complex(actual)
    except OverflowError:  # an int beyond all floats
        return False
    if not all(map(math.isfinite, (a.real, a.imag, b.real, b.imag))):
        return False
    # not math.isclose: what the program gave must not widen the tolerance
    return math.hypot(a.real - b.real, a.imag - b.imag) <= max(rel_tol * math.hypot(a.real, a.imag), abs_tol)
