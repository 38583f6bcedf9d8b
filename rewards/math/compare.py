"""Whether an answer equals the reference, exactly.

Everything runs in the calling process, without a deadline. That is safe because of the caps in `numerals`, `parser` and
`nodes`: what passes them is small enough for every step here. Anything that is not bounded in this way, such as sympy's
`simplify`, belongs in a worker process that can be killed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from rewards.math.nodes import Node, Unreadable, symbol, to_sympy
from rewards.math.numerals import normalize_spaces, read_numeral
from rewards.math.parser import parse

MAX_EXPANDED_TERMS = 200
"""A difference that could have more terms is not multiplied out."""
DIGITS = 100
"""Precision of the evaluation at random points."""
AGREEING_DIGITS = 80
POINTS = 5
MIN_POINTS = 3
"""Points at which both sides must have a value for their agreement to count."""
MAX_MAGNITUDE = 10_000
"""Bits of the integer part of a value at a random point; a point that leads beyond is passed over."""

_SEED = 20_250_101
_SEVERAL_WORDS = (" or ", " and ")
_TEXT_WORDS = tuple(
    f"\\{command}{{{before}{word}{after}}}"
    for command in ("text", "mathrm", "textbf", "mbox")
    for word in ("or", "and")
    for before in ("", " ", "~")
    for after in ("", " ", "~")
)
_NOT_EQUALITY = ("<", ">", "!", ":", "=", "\\neq", "\\ne", "\\not")


class SeveralCandidates(ValueError):
    """The text offers more than one answer, or contradicts itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer or a reference says.

    Attributes:
        node: The value; the last one of a chain `a = b = c`.
        text: How the value is written, without white space.
        unit: The known unit behind it, or an empty string.
        is_tautology: Whether it only says that something equals itself.
    """

    node: Node
    text: str
    unit: str = ""
    is_tautology: bool = False

    @property
    def is_evaluated(self) -> bool:
        """Whether the value is a number as one writes a result, with nothing left to compute."""
        return self.node.is_evaluated


def read_answer(text: str) -> Answer:
    """Read an answer: a value, or an equation or chain of them whose last side is the value.

    Raises:
        Unreadable: Where the text is not in a form that is read.
        SeveralCandidates: Where it offers more than one answer: `14 or 15`, `14, 15`, `15 = 14`.
        TooLarge: Where it exceeds a cap.
    """
    *earlier, last = _sides(text)
    answer = _read_value(last)
    for side in earlier:
        if _offers_several(side):
            raise SeveralCandidates(f"more than one value in {text[:80]!a}")
        numeral = read_numeral(side)
        if numeral is not None and answer.node.value is not None and numeral.value != answer.node.value:
            raise SeveralCandidates(f"two numbers that differ in {text[:80]!a}")
    if any(_bare(side) == answer.text for side in earlier):
        return Answer(answer.node, answer.text, answer.unit, is_tautology=True)
    return answer


def same(reference: Answer, candidate: Answer) -> bool:
    """Whether two answers have the same value. There is no tolerance: 0.33 is not 1/3."""
    if reference.unit and candidate.unit and reference.unit != candidate.unit:
        return False
    left, right = reference.node, candidate.node
    if left.value is not None and right.value is not None:
        return left.value == right.value
    if left.terms + right.terms <= MAX_EXPANDED_TERMS:
        difference = _expanded_difference(left, right)
        if difference.is_Rational:
            return bool(difference == 0)
    return _agree_at_random_points(left, right)


def rational_value(node: Node) -> Fraction | None:
    """The value of an expression that comes to a rational number, such as the root of 16; None for others."""
    if node.value is not None:
        return node.value
    if _symbols(node):
        return None
    value = to_sympy(_algebraic(node, {}))
    return Fraction(int(value.p), int(value.q)) if value.is_Rational else None


def _sides(text: str) -> list[str]:
    """The text between its equality signs; an empty left side (`= 5`) is dropped."""
    sides, start = [], 0
    found = text.find("=")
    while found >= 0:
        if text[start:found].rstrip().endswith(_NOT_EQUALITY):
            raise Unreadable("inequalities are not read")
        sides.append(text[start:found].strip(" &"))
        start = found + 1
        found = text.find("=", start)
    sides.append(text[start:].strip(" &"))
    return sides[1:] if len(sides) > 1 and not sides[0] else sides


def _read_value(text: str) -> Answer:
    numeral = read_numeral(text)
    if numeral is not None:
        # Made without `number`, whose cap is for numbers that are computed with.
        node = Node("number", value=numeral.value, is_evaluated=numeral.is_evaluated)
        return Answer(node, _bare(text), numeral.unit)
    if _offers_several(text):
        raise SeveralCandidates(f"more than one value in {text[:80]!a}")
    return Answer(parse(text), _bare(text))


def _offers_several(text: str) -> bool:
    """Whether values stand beside each other, outside brackets, in a list or as alternatives."""
    if read_numeral(text) is not None:
        return False
    for words in _TEXT_WORDS:
        text = text.replace(words, " or ")
    text = normalize_spaces(text).replace("\\,", " ")
    depth = 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and (character in ",;" or (character == " " and text.startswith(_SEVERAL_WORDS, i))):
            return True
    return False


def _bare(text: str) -> str:
    return normalize_spaces(text).replace(" ", "")


def _symbols(node: Node) -> set[str]:
    names = {node.name} if node.op == "symbol" else set()
    return names.union(*(_symbols(arg) for arg in node.args))


def _expanded_difference(left: Node, right: Node) -> Any:
    names: dict[Node, str] = {}
    difference = to_sympy(_algebraic(left, names)) - to_sympy(_algebraic(right, names))
    return difference.expand(power_base=False, power_exp=False, log=False)


def _algebraic(node: Node, names: dict[Node, str]) -> Node:
    """The expression with a symbol for each part that is not built from sums, products and rational powers.

    Equality with such symbols holds whatever they stand for. Without them, sympy would split 3^(y - 10^20) into two
    powers and compute the second.
    """
    if node.value is not None or not node.args:
        return node
    if node.op not in "+*/^" or (node.op == "^" and node.args[1].value is None):
        # No symbol of the parser starts like this.
        return symbol(names.setdefault(node, f"#{len(names)}"))
    return replace(node, args=tuple(_algebraic(arg, names) for arg in node.args))


def _agree_at_random_points(left: Node, right: Node) -> bool:
    """Whether two expressions have the same value wherever both have one, at some points on either side of zero."""
    import mpmath

    names = sorted(_symbols(left) | _symbols(right))
    generator = random.Random(_SEED)
    agreeing = 0
    points = POINTS if names else 1
    for _ in range(2 * points):
        point = {name: Fraction(generator.randint(-3_000, 3_000), 997) for name in names}
        with mpmath.workdps(DIGITS):
            values = [_value_at(node, point, mpmath) for node in (left, right)]
            if values[0] is None or values[1] is None:
                continue
            bound = mpmath.mpf(10) ** -AGREEING_DIGITS * max(abs(values[0]), abs(values[1]))
            if abs(values[0] - values[1]) > bound:
                return False
        agreeing += 1
        if agreeing == points:
            break
    return agreeing >= min(MIN_POINTS, points)


def _value_at(node: Node, point: dict[str, Fraction], mpmath: Any) -> Any:
    """The value at a point, or None where there is none or its magnitude is beyond `MAX_MAGNITUDE`."""
    if node.value is not None:
        return mpmath.mpf(node.value.numerator) / node.value.denominator
    if node.op == "symbol":
        return mpmath.mpf(point[node.name].numerator) / point[node.name].denominator
    if node.op == "constant":
        return +mpmath.pi if node.name == "pi" else +mpmath.e
    args = [_value_at(arg, point, mpmath) for arg in node.args]
    if any(arg is None for arg in args):
        return None
    value = _apply(node.op, args, mpmath)
    # Of a value that is not zero or finite, `mag` is infinite or not a number, and the comparison fails.
    return value if value is not None and (value == 0 or abs(mpmath.mag(value)) <= MAX_MAGNITUDE) else None


def _apply(op: str, args: list[Any], mpmath: Any) -> Any:
    if op == "+":
        return mpmath.fsum(args)
    if op == "*":
        return mpmath.fprod(args)
    if op == "/":
        return args[0] / args[1] if args[1] != 0 else None
    if op == "^":
        return _power(args[0], args[1], mpmath)
    if op == "ln":
        return mpmath.log(args[0]) if args[0] != 0 else None
    if op == "abs":
        return abs(args[0])
    # The cost of a trigonometric function grows with the magnitude of its argument.
    if args[0] != 0 and mpmath.mag(args[0]) > DIGITS:
        return None
    try:
        return {"sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan}[op](args[0])
    except ZeroDivisionError:
        return None


def _power(base: Any, exponent: Any, mpmath: Any) -> Any:
    if base == 0:
        return None if mpmath.re(exponent) <= 0 else base
    # What the magnitude will be, before it is computed.
    if mpmath.mag(exponent) > MAX_MAGNITUDE or abs(exponent) * (abs(mpmath.mag(base)) + 5) > MAX_MAGNITUDE:
        return None
    return mpmath.power(base, exponent)
