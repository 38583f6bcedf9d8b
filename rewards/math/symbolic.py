"""What sympy is asked: whether a difference is zero, and whether a number is rational.

Called in worker processes only. What passes the caps of `nodes` is small enough for each step here, except for
`simplify`, which only the worker's deadline bounds.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import sympy

from rewards.math import numeric
from rewards.math.nodes import Node, has_imaginary_unit, symbol, symbols_of

MAX_EXPANDED_TERMS = 200
"""A difference that could have more terms is not multiplied out."""
MAX_SIMPLIFIED_BITS = 256
MAX_SIMPLIFIED_NUMBER = 100
"""What a power may hold to be simplified."""

_FUNCTIONS = {
    "ln": sympy.log, "abs": sympy.Abs, "floor": sympy.floor, "ceil": sympy.ceiling, "factorial": sympy.factorial,
    "min": sympy.Min, "max": sympy.Max, "binomial": sympy.binomial, "mod": sympy.Mod,
    "arsinh": sympy.asinh, "arcosh": sympy.acosh, "artanh": sympy.atanh,
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "sec": sympy.sec, "csc": sympy.csc, "cot": sympy.cot,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "sech": sympy.sech, "csch": sympy.csch,
    "coth": sympy.coth, "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arcsec": sympy.asec,
    "arccsc": sympy.acsc, "arccot": sympy.acot,
}  # fmt: skip


def equal(reference: Node, answer: Node) -> bool:
    """Whether an answer is the same expression as the reference, and real wherever that one is."""
    return _equal(reference, answer) and not numeric.is_narrower(reference, answer)


def _equal(left: Node, right: Node) -> bool:
    """Whether two expressions are the same: multiplied out, else at random points, else simplified."""
    if left.terms + right.terms <= MAX_EXPANDED_TERMS:
        difference = expanded(left, right)
        if difference.is_Rational:
            return bool(difference == 0)
    verdict = numeric.agree(left, right)
    if verdict is not None:
        return verdict
    if not all(map(_is_simple, (left, right))):
        return False
    return bool(sympy.simplify(to_sympy(left) - to_sympy(right)) == 0)


def _is_simple(node: Node, functions: int = 0) -> bool:
    """Whether sympy may be asked to simplify. Nested functions, large powers and binomials would keep it busy."""
    if not node.args:
        return True
    functions += node.op not in "+*/^"
    if node.op in ("factorial", "binomial", "min", "max", "mod") or functions > 2 or len(node.args) > 20:
        return False
    if node.op == "^" and not _is_small_power(node):
        return False
    return all(_is_simple(arg, functions) for arg in node.args)


def _is_small_power(node: Node) -> bool:
    exponent = node.args[1]
    if exponent.value is None and (exponent.tower or "^" in {arg.op for arg in (exponent, *exponent.args)}):
        return False
    return node.bits <= MAX_SIMPLIFIED_BITS and numeric.largest_number(node) <= MAX_SIMPLIFIED_NUMBER


def expanded(left: Node, right: Node) -> Any:
    """The difference, multiplied out, with a symbol for each part that is not algebraic."""
    names: dict[Node, str] = {}
    difference = to_sympy(_algebraic(left, names)) - to_sympy(_algebraic(right, names))
    return difference.expand(power_base=False, power_exp=False, log=False)


def rational_value(node: Node) -> Fraction | None:
    """The value of an expression that comes to a rational number, such as 2^(1/2) 8^(1/2); None for others."""
    if node.value is not None or symbols_of(node) or node.op == "infinity":
        return node.value
    value = to_sympy(_algebraic(node, {})).expand()
    return Fraction(int(value.p), int(value.q)) if value.is_Rational else None


def is_gaussian(node: Node) -> bool:
    """Whether an expression comes to a + bi with rational a and b."""
    if not has_imaginary_unit(node) or symbols_of(node):
        return False
    real, imaginary = to_sympy(_algebraic(node, {})).expand().as_real_imag()
    return bool(real.is_Rational and imaginary.is_Rational)


def numerator(node: Node, names: dict[Node, str]) -> Any:
    """The numerator of an expression over one denominator; `names` collects the symbols that stand for parts of it."""
    return sympy.fraction(sympy.together(to_sympy(_algebraic(node, names))))[0].expand()


def to_sympy(node: Node) -> Any:
    """The sympy object for a tree. Sums, products and powers are evaluated, functions are not."""
    if node.value is not None:
        return sympy.Rational(node.value.numerator, node.value.denominator)
    if node.op == "symbol":
        return sympy.Symbol(node.name)
    if node.op == "constant":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I}[node.name]
    if node.op == "infinity":
        return -sympy.oo if node.name else sympy.oo
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
    return _FUNCTIONS[node.op](*args, evaluate=False)


def _algebraic(node: Node, names: dict[Node, str]) -> Node:
    """The expression with a symbol for each part that is not built from sums, products and rational powers.

    Equality with such symbols holds for every value of them. Without them, sympy would split 3^(y - 10^20) into two
    powers and compute the second.
    """
    if node.value is not None or not node.args:
        return node
    if node.op not in "+*/^" or (node.op == "^" and node.args[1].value is None):
        # No symbol of the parser starts like this.
        return symbol(names.setdefault(node, f"#{len(names)}"))
    return replace(node, args=tuple(_algebraic(arg, names) for arg in node.args))
