"""Expression trees that know how large they could become, and sympy objects made from them.

Every node carries an upper bound on the bits of the numbers in it and on its number of terms when multiplied out. The
functions here are the only way to make one; they refuse what exceeds a cap before computing it, so a tower of powers
costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb
from typing import Any

from rewards.math.numerals import TooLarge

MAX_EXPONENT = 1_000
MAX_BITS = 4_096
"""Bits of any number that an expression could come to."""
MAX_ROOT_BITS = 512
"""Bits of a number under a root, which sympy tries to factor."""
MAX_TOWER = 2
"""Powers in exponents of powers, where the exponents are not rational."""
MAX_TERMS = 10_000
"""Where the bound on the number of terms stops counting."""


class Unreadable(ValueError):
    """The text is not an expression that is read here."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression.

    Attributes:
        op: `number`, `symbol`, `constant`, `+`, `*`, `/`, `^` or the name of a function.
        args: What `op` applies to.
        name: Of a symbol or a constant.
        value: What it is worth, where it is made of rational numbers alone; None elsewhere.
        bits: No number in the expression, multiplied out, has more bits.
        terms: The expression, multiplied out, has no more terms.
        tower: How many powers with exponents that are not rational stand on each other.
        is_evaluated: Whether it is a number as one writes a result, with nothing left to compute.
    """

    op: str
    args: tuple[Node, ...] = ()
    name: str = ""
    value: Fraction | None = None
    bits: int = 1
    terms: int = 1
    tower: int = 0
    is_evaluated: bool = False


def number(value: Fraction) -> Node:
    """A number as it stands."""
    bits = max(value.numerator.bit_length(), value.denominator.bit_length(), 1)
    return Node("number", value=value, bits=_bounded(bits), is_evaluated=True)


def symbol(name: str) -> Node:
    """A variable."""
    return Node("symbol", name=name)


def constant(name: str) -> Node:
    """The number `pi` or `e`."""
    return Node("constant", name=name)


def added(nodes: Sequence[Node]) -> Node:
    """The sum."""
    bits = _bounded(sum(node.bits for node in nodes) + len(nodes))
    values = [node.value for node in nodes if node.value is not None]
    value = sum(values, Fraction(0)) if len(values) == len(nodes) else None
    return _inner("+", nodes, value, bits, sum(node.terms for node in nodes))


def multiplied(left: Node, right: Node) -> Node:
    """The product. A product on the left is extended, so that long ones stay shallow."""
    bits = _bounded(left.bits + right.bits)
    value = left.value * right.value if left.value is not None and right.value is not None else None
    args = (*left.args, right) if left.op == "*" else (left, right)
    return _inner("*", args, value, bits, left.terms * right.terms)


def negated(node: Node) -> Node:
    """The negative. A minus before a number belongs to the number; a second one is arithmetic."""
    if node.value is not None and node.is_evaluated and node.value > 0:
        return Node("number", value=-node.value, bits=node.bits, is_evaluated=True)
    return multiplied(number(Fraction(-1)), node)


def divided(top: Node, bottom: Node) -> Node:
    """The quotient. One of two whole numbers that does not come out even is a number as one writes it.

    Raises:
        Unreadable: Where the divisor is zero.
    """
    bits = _bounded(top.bits + bottom.bits)
    if bottom.value == 0:
        raise Unreadable("division by zero")
    value = top.value / bottom.value if top.value is not None and bottom.value is not None else None
    is_fraction = value is not None and value.denominator > 1 and _is_whole(top) and _is_whole(bottom)
    return _inner("/", (top, bottom), value, bits, top.terms * bottom.terms, is_evaluated=is_fraction)


def raised(base: Node, exponent: Node) -> Node:
    """The power.

    Raises:
        Unreadable: Where zero is raised to a power that is not positive.
        TooLarge: Where the exponent or a number that it could lead to exceeds a cap.
    """
    if exponent.value is None:
        tower = 1 + max(base.tower, exponent.tower)
        if tower > MAX_TOWER:
            raise TooLarge(f"more than {MAX_TOWER} powers on each other")
        bits = _bounded(base.bits + exponent.bits)
        return Node("^", (base, exponent), bits=bits, terms=_terms(base.terms * exponent.terms), tower=tower)
    times, root = abs(exponent.value.numerator), exponent.value.denominator
    if max(times, root) > MAX_EXPONENT:
        raise TooLarge(f"an exponent beyond {MAX_EXPONENT}")
    if root > 1 and base.bits > MAX_ROOT_BITS:
        raise TooLarge(f"a root of more than {MAX_ROOT_BITS} bits")
    if base.value == 0 and exponent.value <= 0:
        raise Unreadable("a power of zero that has no value")
    bits = _bounded(base.bits * max(times, 1))
    value = base.value**exponent.value.numerator if base.value is not None and root == 1 else None
    return _inner("^", (base, exponent), value, bits, comb(base.terms + times - 1, times))


def applied(function: str, arg: Node) -> Node:
    """A function of one argument: `sin`, `cos`, `tan`, `ln`, `exp`, `abs` or `sqrt`."""
    if function == "exp":
        return raised(constant("e"), arg)
    if function == "sqrt":
        return raised(arg, number(Fraction(1, 2)))
    value = abs(arg.value) if function == "abs" and arg.value is not None else None
    return _inner(function, (arg,), value, arg.bits, arg.terms)


def to_sympy(node: Node) -> Any:
    """The sympy object for a tree. Sums, products and powers are evaluated, functions are not."""
    import sympy

    if node.value is not None:
        return sympy.Rational(node.value.numerator, node.value.denominator)
    if node.op == "symbol":
        return sympy.Symbol(node.name)
    if node.op == "constant":
        return {"pi": sympy.pi, "e": sympy.E}[node.name]
    args = [to_sympy(arg) for arg in node.args]
    if node.op == "+":
        return sympy.Add(*args)
    if node.op == "*":
        return sympy.Mul(*args)
    if node.op == "/":
        return sympy.Mul(args[0], sympy.Pow(args[1], -1))
    if node.op == "^":
        return sympy.Pow(*args)
    # Evaluating a function may ask sympy whether its argument is positive, and that has no bound.
    functions = {"sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "ln": sympy.log, "abs": sympy.Abs}
    return functions[node.op](args[0], evaluate=False)


def _inner(
    op: str, args: Sequence[Node], value: Fraction | None, bits: int, terms: int, *, is_evaluated: bool = False
) -> Node:
    tower = max(arg.tower for arg in args)
    return Node(op, tuple(args), "", value, bits, _terms(terms), tower, is_evaluated)


def _is_whole(node: Node) -> bool:
    return node.op == "number" and node.value is not None and node.value.denominator == 1


def _bounded(bits: int) -> int:
    if bits > MAX_BITS:
        raise TooLarge(f"a number of up to {bits} bits, at most {MAX_BITS} are computed with")
    return bits


def _terms(terms: int) -> int:
    return min(terms, MAX_TERMS)
