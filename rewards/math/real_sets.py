r"""Sets of real numbers that are made of intervals and points, and whether two of them are the same.

The ends of all intervals cut the real line into points and the gaps between them; a set is known by which of these it
contains. So `(-oo, 2) U (2, oo)`, `x != 2` and `R \ {2}` are the same without anything being simplified.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rewards.math import numeric
from rewards.math.nodes import Node, symbols_of
from rewards.math.values import FiniteSet, NumberSet, Region, Relation, Sequence, Value, variables_of

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "!=": "!=", "=": "=", "~": "~"}


def is_real_set(value: Value) -> bool:
    """Whether a value is a set of real numbers made of intervals and points with constant ends."""
    if isinstance(value, FiniteSet):
        return all(isinstance(item, Node) and not symbols_of(item) for item in value.items)
    if isinstance(value, NumberSet):
        return value.name == "R"
    if isinstance(value, Sequence):
        return (
            len(value.items) == 2
            and value.opening in "(["
            and all(isinstance(item, Node) and not symbols_of(item) for item in value.items)
        )
    if isinstance(value, Region):
        return all(is_real_set(part) for part in value.parts)
    return isinstance(value, Relation) and is_solved(value)


def is_solved(relation: Relation) -> bool:
    """Whether a relation has a variable alone on one side and constants elsewhere: `1 < x <= 5`, `3 >= x`."""
    if "in" in relation.ops or "~" in relation.ops or not all(isinstance(side, Node) for side in relation.sides):
        return False
    lone = [i for i, side in enumerate(relation.sides) if isinstance(side, Node) and side.op == "symbol"]
    if len(lone) != 1 or len(variables_of(relation)) != 1 or len(relation.sides) > 3:
        return False
    return len(relation.sides) == 2 or lone == [1]


def ends_of(value: Value) -> list[Node]:
    """The ends and points of a set, infinity left out."""
    parts: tuple[Value, ...] = ()
    if isinstance(value, FiniteSet | Sequence):
        parts = value.items
    elif isinstance(value, Relation):
        parts = tuple(side for side in value.sides if isinstance(side, Node) and side.op != "symbol")
    elif isinstance(value, Region):
        return [end for part in value.parts for end in ends_of(part)]
    return [part for part in parts if isinstance(part, Node) and part.op != "infinity"]


def same_real_set(left: Value, right: Value, same: Callable[[Node, Node], bool]) -> bool:
    """Whether two sets contain the same real numbers; `same` tells whether two ends are equal."""
    points: list[tuple[Any, list[Node]]] = []
    try:
        for end in (*ends_of(left), *ends_of(right)):
            _add_point(points, end, same)
    except numeric.NoValue:
        return False
    points.sort(key=lambda point: point[0])
    # Position 2k is the gap before point k, position 2k + 1 the point itself.
    positions = {end: 2 * k + 1 for k, (_, ends) in enumerate(points) for end in ends}
    last = 2 * len(points)
    return all(contains(left, i, positions, last) == contains(right, i, positions, last) for i in range(last + 1))


def contains(value: Value, position: int, positions: dict[Node, int], last: int) -> bool:
    """Whether a set contains a point or a gap."""
    if isinstance(value, NumberSet):
        return True
    if isinstance(value, FiniteSet):
        return any(positions[item] == position for item in value.items if isinstance(item, Node))
    if isinstance(value, Sequence):
        low, high = (_position(item, positions, last) for item in value.items)
        above = position > low or (position == low and value.opening == "[")
        return above and (position < high or (position == high and value.closing == "]"))
    if isinstance(value, Region):
        found = [contains(part, position, positions, last) for part in value.parts]
        if value.op == "difference":
            return found[0] and not found[1]
        return any(found) if value.op == "union" else all(found)
    assert isinstance(value, Relation)
    return all(
        _holds(left, op, right, position, positions, last)
        for left, op, right in zip(value.sides, value.ops, value.sides[1:], strict=False)
    )


def _holds(left: Value, op: str, right: Value, position: int, positions: dict[Node, int], last: int) -> bool:
    if not (isinstance(left, Node) and left.op == "symbol"):
        left, op, right = right, _FLIPPED[op], left
    end = _position(right, positions, last)
    return {
        "<": position < end,
        "<=": position <= end,
        ">": position > end,
        ">=": position >= end,
        "=": position == end,
        "!=": position != end,
    }[op]


def _position(end: Value, positions: dict[Node, int], last: int) -> int:
    assert isinstance(end, Node)
    if end.op == "infinity":
        return -1 if end.name else last + 1
    return positions[end]


def _add_point(points: list[tuple[Any, list[Node]]], end: Node, same: Callable[[Node, Node], bool]) -> None:
    value = numeric.real_value(end)
    for other, ends in points:
        if abs(other - value) < 1e-9 * max(1, abs(value)) and same(ends[0], end):
            ends.append(end)
            return
    points.append((value, [end]))
