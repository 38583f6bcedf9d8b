"""Equations and inequalities: the same after terms have been moved and both sides multiplied by a number."""

from __future__ import annotations

import sympy

from rewards.math import numeric, symbolic
from rewards.math.nodes import Node, added, negated
from rewards.math.values import Relation

_REVERSED = {">": "<", ">=": "<="}


def same_relation(left: Relation, right: Relation) -> bool:
    """Whether two relations say the same of the same variables."""
    first, second = _comparisons(left), _comparisons(right)
    if first is None or second is None or len(first) != len(second):
        return False
    for op, difference in first:
        found = next(
            (
                i
                for i, (other_op, other) in enumerate(second)
                if other_op == op and _same(op, difference, other) and not numeric.is_narrower(difference, other)
            ),
            None,
        )
        if found is None:
            return False
        del second[found]
    return True


def is_rearranged_only(relation: Relation) -> bool:
    """Whether a relation is one bare variable and one bare number, on either side: `x - 5 < 0`, `5 > x`.

    `2x < 10` and `x + 3 < 8` are not: there is something left to compute.
    """
    if len(relation.sides) != 2 or not all(isinstance(side, Node) for side in relation.sides):
        return False
    terms = [term for side in relation.sides if isinstance(side, Node) for term in _terms(side)]
    numbers = [term for term in terms if term.value is not None and term.value != 0]
    others = [term for term in terms if term.value is None]
    return (
        len(others) == 1
        and len(numbers) <= 1
        and all(term.is_evaluated for term in numbers)
        and (others[0].op == "symbol" or _is_negative_symbol(others[0]))
    )


def _comparisons(relation: Relation) -> list[tuple[str, Node]] | None:
    """Each pair of neighbours as `difference op 0`, with `<` and `<=` in one direction; None where that cannot be."""
    found = []
    for left, op, right in zip(relation.sides, relation.ops, relation.sides[1:], strict=False):
        if not (isinstance(left, Node) and isinstance(right, Node)) or op not in ("=", "!=", "<", "<=", ">", ">="):
            return None
        if op in _REVERSED:
            left, op, right = right, _REVERSED[op], left
        if "infinity" in (left.op, right.op):
            return None
        found.append((op, added((left, negated(right)))))
    return found


def _same(op: str, left: Node, right: Node) -> bool:
    """Whether the two differences are each a multiple of the other; a positive one for inequalities."""
    ratio = numeric.sign_of_ratio(left, right)
    if ratio is not None:
        return ratio > 0 or op in ("=", "!=")
    if op != "=" or max(left.terms, right.terms) > symbolic.MAX_EXPANDED_TERMS:
        return False
    # y = 1/x and xy = 1
    names: dict[Node, str] = {}
    first, second = symbolic.numerator(left, names), symbolic.numerator(right, names)
    quotient = sympy.cancel(first / second) if second != 0 else sympy.nan
    return bool(quotient.is_number and quotient != 0 and quotient.is_finite)


def _terms(node: Node) -> list[Node]:
    return [term for arg in node.args for term in _terms(arg)] if node.op == "+" else [node]


def _is_negative_symbol(node: Node) -> bool:
    return node.op == "*" and len(node.args) == 2 and node.args[0].value == -1 and node.args[1].op == "symbol"
