"""Expression trees that know how large they could become.

Every node carries an upper bound on the bits of the numbers in it and on its number of terms when multiplied out. The
functions here are the only way to make one; they refuse what exceeds a cap before computing it, so a tower of powers or
of factorials costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rewards.math.numerals import TooLarge

MAX_EXPONENT = 5_000
MAX_BITS = 14_000
"""Bits of any number that an expression could come to: fewer digits than Python refuses to write out."""
MAX_ROOT_BITS = 512
"""Bits of a number under a root, which sympy tries to factor."""
MAX_TOWER = 2
"""Powers in exponents of powers, where the exponents are not rational."""
MAX_TERMS = 10_000
"""Where the bound on the number of terms stops counting."""
MAX_FACTORIAL = 500
"""The largest factorial that is computed; one up to `MAX_EXPONENT` stays a function of its number."""

TRIGONOMETRIC = ("sin", "cos", "tan", "sec", "csc", "cot")
HYPERBOLIC = ("sinh", "cosh", "tanh", "sech", "csch", "coth")
INVERSE = (*(f"arc{name}" for name in TRIGONOMETRIC), "arsinh", "arcosh", "artanh")
ONE_ARGUMENT = (*TRIGONOMETRIC, *HYPERBOLIC, *INVERSE, "ln", "abs", "floor", "ceil", "factorial")
SEVERAL_ARGUMENTS = ("gcd", "lcm", "min", "max", "binomial", "mod")


class Unreadable(ValueError):
    """The text is not something that is read here."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression.

    Attributes:
        op: `number`, `symbol`, `constant`, `infinity`, `+`, `*`, `/`, `^`, `root` or the name of a function.
        args: What `op` applies to.
        name: Of a symbol or a constant; `-` of negative infinity.
        value: What it is worth, where it is made of rational numbers alone and comes to one; None elsewhere.
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


def number(value: int | Fraction) -> Node:
    """A number as it stands."""
    value = Fraction(value)
    bits = max(value.numerator.bit_length(), value.denominator.bit_length(), 1)
    return Node("number", value=value, bits=_bounded(bits), is_evaluated=True)


def symbol(name: str) -> Node:
    """A variable."""
    return Node("symbol", name=name)


def constant(name: str) -> Node:
    """The number `pi` or `e`, or the imaginary unit `i`."""
    return Node("constant", name=name, is_evaluated=name == "i")


def infinity() -> Node:
    """What a limit may be and an interval may reach; nothing is computed with it."""
    return Node("infinity")


def added(nodes: Sequence[Node]) -> Node:
    """The sum. A real number plus a multiple of `i` is a complex number as one writes it."""
    bits = _bounded(sum(node.bits for node in nodes) + len(nodes))
    values = [node.value for node in nodes if node.value is not None]
    value = sum(values, Fraction(0)) if len(values) == len(nodes) else None
    is_complex = len(nodes) == 2 and all(node.is_evaluated for node in nodes) and len(values) == 1
    return _inner("+", nodes, value, bits, sum(node.terms for node in nodes), is_evaluated=is_complex)


def multiplied(left: Node, right: Node) -> Node:
    """The product. A product on the left is extended, so that long ones stay shallow."""
    bits = _bounded(left.bits + right.bits)
    value = left.value * right.value if left.value is not None and right.value is not None else None
    args = (*left.args, right) if left.op == "*" else (left, right)
    is_imaginary = left.value is not None and left.is_evaluated and right.op == "constant" and right.name == "i"
    if "infinity" in (left.op, right.op):
        raise Unreadable("arithmetic with infinity")
    # Without a look at each factor, so that a long product takes time in proportion to its length.
    terms, tower = min(left.terms * right.terms, MAX_TERMS), max(left.tower, right.tower)
    return Node("*", args, "", value, bits, terms, tower, is_imaginary)


def negated(node: Node) -> Node:
    """The negative. A minus before a number belongs to the number; a second one is arithmetic."""
    if node.op == "infinity":
        return Node("infinity", name="" if node.name else "-")
    if node.value is not None and node.is_evaluated and node.value > 0:
        return Node("number", value=-node.value, bits=node.bits, is_evaluated=True)
    if node.is_evaluated and node.value is None:  # i, 3i, 3i/2
        if node.op == "constant":
            return multiplied(number(-1), node)
        if node.op == "*":
            return multiplied(negated(node.args[0]), node.args[1])
        if node.op == "/":
            return divided(negated(node.args[0]), node.args[1])
    return multiplied(number(-1), node)


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
    is_complex = value is None and top.is_evaluated and _is_whole(bottom)
    evaluated = is_fraction or is_complex
    return _inner("/", (top, bottom), value, bits, top.terms * bottom.terms, is_evaluated=evaluated)


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
        return _inner("^", (base, exponent), None, bits, base.terms * exponent.terms, tower=tower)
    times, root = abs(exponent.value.numerator), exponent.value.denominator
    if max(times, root) > MAX_EXPONENT:
        raise TooLarge(f"an exponent beyond {MAX_EXPONENT}")
    if root > 1 and base.bits > MAX_ROOT_BITS:
        raise TooLarge(f"a root of more than {MAX_ROOT_BITS} bits")
    if base.value == 0 and exponent.value <= 0:
        raise Unreadable("a power of zero that has no value")
    bits = _bounded(base.bits * max(times, 1))
    value = None
    if base.value is not None:
        exact = base.value if root == 1 else _exact_root(base.value, root)
        value = None if exact is None else exact**exponent.value.numerator
    return _inner("^", (base, exponent), value, bits, math.comb(base.terms + times - 1, times))


def rooted(base: Node, degree: Node) -> Node:
    r"""`\sqrt[degree]{base}`."""
    if degree.value is None or degree.value.denominator > 1 or degree.value < 1:
        raise Unreadable("a root whose degree is not a positive whole number")
    return raised(base, number(1 / degree.value))


def applied(function: str, *args: Node) -> Node:
    """One of the functions `ONE_ARGUMENT` or `SEVERAL_ARGUMENTS`, or `exp`, `sqrt`, `lg`.

    Raises:
        Unreadable: Where the arguments are too few, too many or outside the domain.
        TooLarge: Where the value would be.
    """
    if function in SEVERAL_ARGUMENTS:
        return _of_several(function, args)
    if len(args) != 1:
        raise Unreadable(f"{function} of {len(args)} arguments")
    (arg,) = args
    if function == "exp":
        return raised(constant("e"), arg)
    if function == "sqrt":
        return raised(arg, number(Fraction(1, 2)))
    if function == "cbrt":
        return raised(arg, number(Fraction(1, 3)))
    if function == "lg":
        return divided(applied("ln", arg), applied("ln", number(10)))
    if function == "factorial":
        return _factorial(arg)
    if function == "ln" and arg.value == 0:
        raise Unreadable("the logarithm of zero")
    value = None
    if arg.value is not None and function in ("abs", "floor", "ceil"):
        value = {
            "abs": abs(arg.value),
            "floor": Fraction(math.floor(arg.value)),
            "ceil": Fraction(math.ceil(arg.value)),
        }[function]
    return _inner(function, args, value, arg.bits, arg.terms)


def symbols_of(node: Node) -> set[str]:
    """The names of the variables in an expression."""
    names = {node.name} if node.op == "symbol" else set()
    return names.union(*(symbols_of(arg) for arg in node.args))


def is_arithmetic(node: Node) -> bool:
    """Whether an expression is made of numbers and `i` by sums, products, quotients and whole powers alone."""
    if node.value is not None or (node.op == "constant" and node.name == "i"):
        return True
    if node.op == "^" and (node.args[1].value is None or node.args[1].value.denominator > 1):
        return False
    return node.op in "+*/^" and all(map(is_arithmetic, node.args))


def has_imaginary_unit(node: Node) -> bool:
    """Whether `i` occurs in an expression."""
    return (node.op == "constant" and node.name == "i") or any(has_imaginary_unit(arg) for arg in node.args)


def _factorial(arg: Node) -> Node:
    if arg.value is None:
        return _inner("factorial", (arg,), None, arg.bits, arg.terms)
    if arg.value.denominator > 1 or arg.value < 0:
        raise Unreadable("the factorial of something that is not a whole number")
    if arg.value > MAX_EXPONENT:
        raise TooLarge(f"a factorial beyond {MAX_EXPONENT}!")
    if arg.value > MAX_FACTORIAL:
        return _inner("factorial", (arg,), None, arg.bits, 1)
    value = Fraction(math.factorial(int(arg.value)))
    return _inner("factorial", (arg,), value, _bounded(value.numerator.bit_length()), 1)


def _of_several(function: str, args: Sequence[Node]) -> Node:
    if not args or (function in ("binomial", "mod") and len(args) != 2):
        raise Unreadable(f"{function} of {len(args)} arguments")
    values = [arg.value for arg in args if arg.value is not None]
    bits = _bounded(sum(arg.bits for arg in args))
    if len(values) < len(args):
        if function in ("gcd", "lcm"):
            raise Unreadable(f"{function} of something that is not a whole number")
        return _inner(function, args, None, bits, math.prod(arg.terms for arg in args))
    if function in ("min", "max"):
        return _inner(function, args, min(values) if function == "min" else max(values), bits, 1)
    if function == "mod":
        if values[1] == 0:
            raise Unreadable("a remainder of a division by zero")
        return _inner(function, args, values[0] % values[1], bits, 1)
    if any(value.denominator > 1 for value in values):
        raise Unreadable(f"{function} of something that is not a whole number")
    whole = [int(value) for value in values]
    if function in ("gcd", "lcm"):
        return _inner(function, args, Fraction((math.gcd if function == "gcd" else math.lcm)(*whole)), bits, 1)
    if min(whole) < 0:
        raise Unreadable("a binomial coefficient of a negative number")
    if whole[0] > MAX_BITS:
        raise TooLarge(f"a binomial coefficient beyond {MAX_BITS}")
    return _inner(function, args, Fraction(math.comb(*whole)), _bounded(max(bits, whole[0])), 1)


def _exact_root(value: Fraction, root: int) -> Fraction | None:
    """The real root of a rational number, where that is rational; an odd root of a negative number is negative."""
    if value < 0:
        positive = _exact_root(-value, root) if root % 2 else None
        return None if positive is None else -positive
    top, bottom = _whole_root(value.numerator, root), _whole_root(value.denominator, root)
    return Fraction(top, bottom) if top**root == value.numerator and bottom**root == value.denominator else None


def _whole_root(value: int, root: int) -> int:
    """The largest whole number whose power does not exceed `value`."""
    if root == 2:
        return math.isqrt(value)
    low, high = 0, 1 << (value.bit_length() // root + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= value else (low, middle)
    return low


def _inner(
    op: str,
    args: Sequence[Node],
    value: Fraction | None,
    bits: int,
    terms: int,
    *,
    tower: int = 0,
    is_evaluated: bool = False,
) -> Node:
    if any(arg.op == "infinity" for arg in args):
        raise Unreadable("arithmetic with infinity")
    tower = max(tower, *(arg.tower for arg in args))
    return Node(op, tuple(args), "", value, bits, min(terms, MAX_TERMS), tower, is_evaluated)


def _is_whole(node: Node) -> bool:
    return node.op == "number" and node.value is not None and node.value.denominator == 1


def _bounded(bits: int) -> int:
    if bits > MAX_BITS:
        raise TooLarge(f"a number of up to {bits} bits, at most {MAX_BITS} are computed with")
    return bits
