"""Values of expressions at points, to many digits, each with a bound on its error.

Where an expression has no `i` in it, the numbers are the real ones, as in school: an odd root of a negative number is
negative, and the logarithm of a negative number has no value.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import mpmath

from rewards.math.nodes import MAX_FACTORIAL, Node, has_imaginary_unit, symbols_of

PRECISIONS = (360, 2_400)
"""Bits to compute with; the next one where the last was too low to tell."""
LARGE_PRECISION = 40_000
"""The last one where the numbers of an expression have more bits than the others."""
AGREEING_BITS = 260
"""Two values agree where they cannot be told apart at this many bits of what they were computed from."""
POINTS = 5
_ROUNDS = 2
_MAX_PARTS = 8
_REPLACEMENTS = (Fraction(7, 5), Fraction(12, 11))
"""Two numbers in place of a part of an expression, to find out whether it makes a difference."""
_LOW_PRECISION = 120
MAX_MAGNITUDE = 20_000
"""Bits of the integer part of a value; a point that leads beyond is passed over."""

_SEED = 20_250_101
_RANGES = ((-3, 3), (0, 1), (2, 12), (-1, 0), (10, 60), (-12, -2))
# Where an expression may change its form, as |x - 100| does, it is looked at far out as well.
_FAR_RANGES = (*_RANGES, (100, 1_000), (-1_000, -100), (10**4, 10**6), (-(10**6), -(10**4)))
_PIECEWISE = frozenset(("abs", "floor", "ceil", "min", "max", "mod", "arcsin", "arccos", "arctan", "arcsec", "arccsc",
                        "arccot"))  # fmt: skip
_PARTIAL = frozenset(("ln", "arcsin", "arccos", "arcsec", "arccsc", "arcosh", "artanh"))
_MAX_GAMMA = 1_000


class NoValue(ArithmeticError):
    """The expression has no value at the point, or none that could be computed."""


class NotReal(NoValue):
    """The value is not a real number: an even root or a logarithm of a negative number, the arcsine of 2."""


class NotRealPower(NotReal):
    """A negative number to the power of a variable: no real number unless the variable stands for a whole one."""


@dataclass(frozen=True, slots=True)
class Approximation:
    """A value and the exponent of a power of two that bounds its error."""

    value: Any
    error: int


def agree(left: Node, right: Node) -> bool | None:
    """Whether two expressions have the same value wherever both have one, tried at points on either side of zero.

    Returns:
        False is certain. True means that at several points they cannot be told apart. None means that too few points
        were found where both have a value.
    """
    names = sorted(symbols_of(left) | symbols_of(right))
    is_real = not (has_imaginary_unit(left) or has_imaginary_unit(right))
    ranges = _ranges(left, right)
    wanted = max(POINTS, 2 * len(ranges) - 7) if names else 1
    generator = random.Random(_SEED)
    agreeing = 0
    for trial in range(8 * wanted if names else 1):
        low, high = ranges[trial % len(ranges)]
        point = {name: Fraction(generator.randint(low * 997, high * 997), 997) for name in names}
        verdict = _agree_at(left, right, point, is_real=is_real)
        if verdict is False:
            return False
        agreeing += verdict is True
        if agreeing == wanted:
            break
    # Where few points have a value, those that were found must do.
    return True if agreeing >= min(POINTS, wanted) else None


def differ_everywhere(left: Node, right: Node) -> bool:
    """Whether two expressions are different numbers wherever both have a value, tried at points near zero."""
    names = sorted(symbols_of(left) | symbols_of(right))
    is_real = not (has_imaginary_unit(left) or has_imaginary_unit(right))
    generator = random.Random(_SEED)
    verdicts = []
    for low, high in _RANGES if names else _RANGES[:1]:
        point = {name: Fraction(generator.randint(low * 997, high * 997), 997) for name in names}
        verdicts.append(_agree_at(left, right, point, is_real=is_real))
    return False in verdicts and True not in verdicts


def is_narrower(reference: Node, answer: Node) -> bool:
    r"""Whether the answer fails to be real, and to be the reference, where that is real: `x + 0\sqrt{x}` for `|x|`.

    `e^{2 \ln x}` is no real number either for negative x, and yet it is `x^2` there. A part that makes no difference to
    the value, as in `x + 0 \ln x`, has no such excuse. Where there is an `i`, nothing has to be real. Where the
    reference has a variable in an exponent, as `(xy)^n` has, it may stand for a whole number.
    """
    if has_imaginary_unit(reference) or has_imaginary_unit(answer):
        return False
    parts = _partial_parts(reference)
    added_parts = _partial_parts(answer) - parts
    if not added_parts:
        return False  # the reference is real only where these are
    is_idle = any(_makes_no_difference(answer, part) for part in sorted(added_parts, key=str)[:_MAX_PARTS])
    has_power = any(part.op == "^" and part.args[1].value is None for part in parts)
    names = sorted(symbols_of(reference) | symbols_of(answer))
    largest = min(max(largest_number(reference), largest_number(answer)), 10**12)
    ranges = (*_FAR_RANGES, (-largest - 1, largest + 1), (largest, 2 * largest + 1), (-2 * largest - 1, -largest))
    generator = random.Random(_SEED)
    with mpmath.workprec(_LOW_PRECISION):
        for low, high in ranges * _ROUNDS:
            point = {name: Fraction(generator.randint(low * 997, high * 997), 997) for name in names}
            if _is_narrower_at(reference, answer, point, has_power=has_power, is_idle=is_idle):
                return True
    return False


def _is_narrower_at(
    reference: Node, answer: Node, point: dict[str, Fraction], *, has_power: bool, is_idle: bool
) -> bool:
    try:
        expected = value_at(reference, point, is_real=True)
    except NoValue:
        return False
    try:
        value_at(answer, point, is_real=True)
        return False
    except NotReal as error:
        if isinstance(error, NotRealPower) and has_power:
            return False
        if is_idle:
            return True
    except NoValue:
        return False
    try:
        found = value_at(answer, point, is_real=False)
    except NoValue:
        return True
    return _mag(found.value - expected.value) > max(found.error, expected.error) + 3


def _makes_no_difference(node: Node, part: Node) -> bool:
    r"""Whether an expression has the same value where a part of it is replaced by another number: `0 \ln x`."""
    first, second = (_with_part(node, part, Node("number", value=value)) for value in _REPLACEMENTS)
    return agree(first, second) is True


def _with_part(node: Node, part: Node, other: Node) -> Node:
    """The expression with another node for a part of it."""
    if node == part:
        return other
    return replace(node, args=tuple(_with_part(arg, part, other) for arg in node.args)) if node.args else node


def _partial_parts(node: Node) -> set[Node]:
    """The parts of an expression that may be no real numbers: roots, logarithms and inverse functions."""
    if node.value is not None:
        return set()
    if not symbols_of(node):
        inner: set[Node] = set().union(*map(_partial_parts, node.args))
        return inner or (set() if _is_real(node) else {node})
    is_root = node.op == "^" and (node.args[1].value is None or node.args[1].value.denominator % 2 == 0)
    return set().union({node} if is_root or node.op in _PARTIAL else (), *map(_partial_parts, node.args))


def _is_real(constant: Node) -> bool:
    """Whether a constant is not known to be anything but a real number."""
    try:
        value_at(constant, {}, is_real=True)
    except NotReal:
        return False
    except NoValue:
        pass
    return True


def _ranges(*nodes: Node) -> Sequence[tuple[int, int]]:
    """Where to look at expressions: near zero, and far out and around their own numbers if they may be piecewise."""
    if not any(map(_is_piecewise, nodes)):
        return _RANGES
    largest = min(max(map(largest_number, nodes)), 10**12)
    return (*_FAR_RANGES, (largest, 2 * largest + 1), (-2 * largest - 1, -largest))


def _is_piecewise(node: Node) -> bool:
    is_root = node.op == "^" and (node.args[1].value is None or node.args[1].value.denominator > 1)
    return is_root or node.op in _PIECEWISE or any(map(_is_piecewise, node.args))


def largest_number(node: Node) -> int:
    """The magnitude of the largest number in an expression, rounded down."""
    own = 0 if node.value is None else int(abs(node.value))
    return max((own, *map(largest_number, node.args)))


def sign_of_ratio(top: Node, bottom: Node) -> int | None:
    """The sign of `top / bottom`, as 1 or -1, where that quotient is a real constant other than zero; else None."""
    names = sorted(symbols_of(top) | symbols_of(bottom))
    generator = random.Random(_SEED)
    ratios: list[Any] = []
    with mpmath.workprec(PRECISIONS[0]):
        for trial in range(8 * POINTS):
            low, high = _RANGES[trial % len(_RANGES)]
            point = {name: Fraction(generator.randint(low * 997, high * 997), 997) for name in names}
            try:
                values = [value_at(node, point, is_real=True) for node in (top, bottom)]
            except NoValue:
                continue
            if any(value.value == 0 or mpmath.mag(value.value) < value.error + AGREEING_BITS // 2 for value in values):
                continue
            ratios.append(values[0].value / values[1].value)
            if len(ratios) > 1 and abs(ratios[-1] - ratios[0]) > abs(ratios[0]) * mpmath.mpf(2) ** -(
                AGREEING_BITS // 2
            ):
                return None
            if len(ratios) == POINTS:
                return 1 if ratios[0] > 0 else -1
    return None


def real_value(node: Node) -> Any:
    """The value of a constant expression as a real number.

    Raises:
        NoValue: Where it has none, or a variable.
    """
    if symbols_of(node):
        raise NoValue("a variable")
    with mpmath.workprec(PRECISIONS[0]):
        value = value_at(node, {}, is_real=not has_imaginary_unit(node)).value
    if mpmath.im(value) != 0:
        raise NoValue("a complex number")
    return mpmath.re(value)


def _agree_at(left: Node, right: Node, point: dict[str, Fraction], *, is_real: bool) -> bool | None:
    """Whether the values at a point are the same; None where one has none."""
    needed = max(left.bits, right.bits)
    for precision in (*PRECISIONS, LARGE_PRECISION) if needed > PRECISIONS[-1] // 2 else PRECISIONS:
        with mpmath.workprec(precision):
            try:
                first, second = (value_at(node, point, is_real=is_real) for node in (left, right))
            except NoValue:
                return None
            error = max(first.error, second.error) + 2
            difference = abs(first.value - second.value)
            if difference != 0 and mpmath.mag(difference) > error + 1:
                return False
            magnitude = max(_mag(first.value), _mag(second.value), 0)
            if error <= magnitude - AGREEING_BITS:
                return True
    return None


def value_at(node: Node, point: dict[str, Fraction], *, is_real: bool) -> Approximation:
    """The value of an expression at the working precision.

    Raises:
        NoValue: Where there is none, or its magnitude is beyond `MAX_MAGNITUDE`.
    """
    if node.value is not None:
        return _rounded(mpmath.mpf(node.value.numerator) / node.value.denominator)
    if node.op == "symbol":
        return _rounded(mpmath.mpf(point[node.name].numerator) / point[node.name].denominator)
    if node.op == "constant":
        return _rounded({"pi": +mpmath.pi, "e": +mpmath.e, "i": mpmath.mpc(0, 1)}[node.name])
    if node.op == "infinity":
        raise NoValue("infinity")
    args = [value_at(arg, point, is_real=is_real) for arg in node.args]
    try:
        result = _apply(node, args, is_real=is_real)
    except (ZeroDivisionError, ValueError, OverflowError) as error:
        raise NoValue(str(error)) from error
    if not mpmath.isfinite(result.value) or _mag(result.value) > MAX_MAGNITUDE:
        raise NoValue("too large")
    if is_real and mpmath.im(result.value) != 0:
        raise NotReal("not a real number")
    return result


def _mag(value: Any) -> int:
    """The exponent of a power of two that bounds the magnitude."""
    return int(mpmath.mag(value)) if value != 0 else -MAX_MAGNITUDE


def _rounded(value: Any, error: int = -10 * MAX_MAGNITUDE) -> Approximation:
    """A value with the error of what it was computed from and that of its own rounding."""
    return Approximation(value, max(error, _mag(value) - int(mpmath.mp.prec)) + 1)


def _apply(node: Node, args: list[Approximation], *, is_real: bool) -> Approximation:
    if node.op == "+":
        return _rounded(mpmath.fsum(arg.value for arg in args), max(arg.error for arg in args) + len(args).bit_length())
    if node.op == "*":
        product = args[0]
        for arg in args[1:]:
            error = max(_mag(product.value) + arg.error, _mag(arg.value) + product.error, product.error + arg.error) + 1
            product = _rounded(product.value * arg.value, error)
        return product
    if node.op == "/":
        return _quotient(*args)
    if node.op == "^":
        return _power(node, *args, is_real=is_real)
    if node.op in ("min", "max"):
        if any(mpmath.im(arg.value) != 0 for arg in args):
            raise NoValue("the order of complex numbers")
        chosen = (min if node.op == "min" else max)(args, key=lambda arg: mpmath.re(arg.value))
        return Approximation(chosen.value, max(arg.error for arg in args))
    if node.op in ("floor", "ceil"):
        return _rounding(node.op, args[0])
    if node.op == "mod":
        quotient = _rounding("floor", _quotient(*args))
        value = args[0].value - args[1].value * quotient.value
        return _rounded(value, max(args[0].error, args[1].error + _mag(quotient.value)) + 1)
    if node.op in ("factorial", "binomial"):
        if node.args[0].value is not None and node.args[0].value > MAX_FACTORIAL:
            raise NoValue("a factorial whose size the bounds on numbers do not know")
        return _gamma(node.op, args)
    return _function(node.op, args[0])


def _quotient(top: Approximation, bottom: Approximation) -> Approximation:
    if bottom.value == 0 or _mag(bottom.value) <= bottom.error + 2:
        raise NoValue("division by zero")
    value = top.value / bottom.value
    size = _mag(bottom.value) - 1
    return _rounded(value, max(top.error - size, _mag(value) + bottom.error - size) + 2)


def _power(node: Node, base: Approximation, exponent: Approximation, *, is_real: bool) -> Approximation:
    if base.value == 0 or _mag(base.value) <= base.error:
        if mpmath.re(exponent.value) <= 0 or base.value != 0:
            raise NoValue("a power of zero")
        return base
    # What the magnitude will be, before it is computed.
    size = _mag(exponent.value)
    if size > 20 or abs(exponent.value * mpmath.log(base.value)) > MAX_MAGNITUDE:
        raise NoValue("too large a power")
    rational = node.args[1].value
    if is_real and base.value < 0:
        if rational is None and symbols_of(node.args[1]):
            raise NotRealPower("a negative number to the power of a variable")
        if rational is None or rational.denominator % 2 == 0:
            raise NotReal("an even root or an irrational power of a negative number")
        value = mpmath.power(-base.value, exponent.value) * (-1 if rational.numerator % 2 else 1)
    else:
        value = mpmath.power(base.value, exponent.value)
    relative = max(size + base.error - _mag(base.value) + 1, exponent.error + _mag(mpmath.log(base.value)) + 1)
    return _rounded(value, _mag(value) + relative + 2)


def _rounding(op: str, arg: Approximation) -> Approximation:
    if mpmath.im(arg.value) != 0:
        raise NoValue("rounding of a complex number")
    nearest = mpmath.nint(arg.value)
    if arg.value != nearest and _mag(arg.value - nearest) <= arg.error + 2:
        raise NoValue("too near to a whole number")
    return _rounded(mpmath.floor(arg.value) if op == "floor" else mpmath.ceil(arg.value))


def _gamma(op: str, args: list[Approximation]) -> Approximation:
    if any(abs(arg.value) > _MAX_GAMMA for arg in args):
        raise NoValue("too large a factorial")
    value = mpmath.factorial(args[0].value) if op == "factorial" else mpmath.binomial(args[0].value, args[1].value)
    return _rounded(value, _mag(value) + max(arg.error for arg in args) + 12)


def _function(op: str, arg: Approximation) -> Approximation:
    """A function of one argument; the error grows with the derivative."""
    x = arg.value
    if op == "abs":
        return Approximation(abs(x), arg.error)
    if op == "ln":
        if x == 0:
            raise NoValue("the logarithm of zero")
        return _rounded(mpmath.log(x), arg.error - _mag(x) + 2)
    if op in _PERIODIC:
        # The cost of these grows with the magnitude of the argument.
        if _mag(x) > AGREEING_BITS:
            raise NoValue("too large an angle")
        value = _PERIODIC[op](x)
        if op in ("sin", "cos"):
            return _rounded(value, arg.error + max(0, 2 * _mag(mpmath.im(x)) if mpmath.im(x) != 0 else 0))
        return _rounded(value, arg.error + 2 * max(0, _mag(value)) + 2)
    if op in _HYPERBOLIC:
        if _mag(x) > 12:
            raise NoValue("too large")
        value = _HYPERBOLIC[op](x)
        return _rounded(value, arg.error + 2 * max(0, _mag(value)) + 2)
    value = _INVERSE[op](x)
    if mpmath.im(value) != 0 and mpmath.im(x) == 0 and op not in ("arcsin", "arccos", "arcosh", "artanh"):
        raise NotReal("not a real number")
    step = mpmath.mpf(2) ** max(arg.error, -int(mpmath.mp.prec) // 2)
    slope = abs(_INVERSE[op](x + step) - value) / step
    return _rounded(value, arg.error + max(0, _mag(slope)) + 3)


_PERIODIC: dict[str, Callable[[Any], Any]] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "sec": mpmath.sec, "csc": mpmath.csc, "cot": mpmath.cot,
}  # fmt: skip
_HYPERBOLIC: dict[str, Callable[[Any], Any]] = {
    "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh, "sech": mpmath.sech, "csch": mpmath.csch,
    "coth": mpmath.coth,
}  # fmt: skip
_INVERSE: dict[str, Callable[[Any], Any]] = {
    "arcsin": mpmath.asin, "arccos": mpmath.acos, "arctan": mpmath.atan, "arcsec": mpmath.asec,
    "arccsc": mpmath.acsc, "arccot": lambda x: mpmath.pi / 2 - mpmath.atan(x), "arsinh": mpmath.asinh,
    "arcosh": mpmath.acosh, "artanh": mpmath.atanh,
}  # fmt: skip
