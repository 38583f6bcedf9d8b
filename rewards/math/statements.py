"""One statement of a reference or an answer: a value with its unit, a relation, or a chain of equations."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.latex import TEXT_COMMAND
from rewards.math import texts
from rewards.math.lexer import FUNCTIONS
from rewards.math.nodes import Node, Unreadable, multiplied, number, symbols_of
from rewards.math.numerals import normalize_spaces, read_numeral
from rewards.math.parser import parse_value
from rewards.math.units import CURRENCIES, UNITS, Unit, conversion, currency, read_unit, split_unit
from rewards.math.values import (
    BaseNumeral,
    Candidates,
    FiniteSet,
    LongNumber,
    Matrix,
    Ratio,
    Relation,
    Sequence,
    Value,
    variables_of,
)

_DIGIT = re.compile("[0-9]")
_SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")
_APPROXIMATELY = re.compile(r"\\(?:approx|simeq|thickapprox)(?![a-zA-Z])")
_RELATION = re.compile(
    r"[<>≤≥⩽⩾≠∈≡]|!=|\\(?:le|leq|leqslant|leqq|lt|ge|geq|geqslant|geqq|gt|ne|neq|not|in|equiv)(?![a-zA-Z])"
)
# f(x), f(g(x)), (f \circ g)(x), P_1(A), f^{-1}(x), f', \|v\|, and the derivative dy/dx
_CALL = re.compile(
    r"\\?([a-zA-Z]++)'{0,3}(?:_\{?\w\}?)?(?:\^\{?-1\}?)? *+(?:\\left)? *+\((?:[^()=]|\([^()=]*+\))*+\)|[a-z]'{1,3}"
    r"|\( *+[a-zA-Z] *+(?:\\circ|\u2218) *+[a-zA-Z] *+\) *+\([^()=]*+\)|\\\|[^|=]*+\|"
)
_DERIVATIVE = re.compile(
    r"\\[dt]?frac *+\{ *+(?:d|\\mathrm *+\{d\}|\\partial) *+\^?\{?\d?\}? *+\w? *+\}"
    r" *+\{ *+(?:d|\\mathrm *+\{d\}|\\partial) *+\w\^?\{?\d?\}? *+\}"
)
# (60)^\circ, {60}^\circ, \left(\frac{45}{2}\right)^{\circ}
_DEGREES = re.compile(
    r"(?:(?:\\left *+)?\((?P<round>[^()]++)\)|\{(?P<curly>[^{}]++)\}) *+(?:\^ *+\{? *+\\circ *+\}?|°)"
)
_ARROW = re.compile(
    r"\u2192|\u21d2|\\(?:[Ll]ong)?(?:[Rr]ightarrow|mapsto)(?![a-zA-Z])|\\(?:implies|iff|to)(?![a-zA-Z])|(?<!<)[-=]+>"
)
_SOLVED = re.compile(
    r"\s*([1-9][0-9]{0,20})?\s*([a-zA-Z])\s*=\s*(-?[0-9]{1,40}(?:\.[0-9]{1,40}|/[1-9][0-9]{0,40})?)\s*"
)  # 2x = 84
_LETTER_AS_TEXT = re.compile(rf"[0-9] *{TEXT_COMMAND} *\{{ *[a-zA-Z] *\}}")


class SeveralCandidates(ValueError):
    """The text contradicts itself."""


@dataclass(frozen=True, slots=True)
class Several:
    """Answers side by side, in no order.

    Attributes:
        answers: The answers.
        word: What stands between them, `,`, `and` or `or`.
    """

    answers: tuple[Answer, ...]
    word: str


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two sides of a chain `a = b = c` in the same variables, or in none."""

    left: Node
    right: Node
    is_approximate: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer or a reference says.

    Attributes:
        value: The value; the last one of a chain `a = b = c`.
        text: How it is written, without white space.
        unit: The unit behind it.
        name: The variable that it is said to be the value of, or an empty string.
        relation: The equation it was read from, where that has a variable.
        approximation: The rounded value that is given beside the exact one: `1/3 ≈ 0.33`. One of fewer than three
            digits and two decimals says too little to be the answer.
        neighbours: Sides of the chain that must be equal, or approximately so, where they are numbers.
        is_tautology: Whether it only says that something equals itself.
    """

    value: Value | Several
    text: str
    unit: Unit | None = None
    name: str = ""
    relation: Relation | None = None
    approximation: Node | None = None
    neighbours: tuple[Neighbours, ...] = ()
    is_tautology: bool = False


def bare(text: str) -> str:
    """The text without white space, but for that between two digits: `2 1/2` is not `21/2`."""
    return _SPACE.sub("", normalize_spaces(text))


def read_number(text: str) -> Answer | None:
    """A number by itself, also as a time of day or to another base; None where the text is more than that."""
    numeral = read_numeral(text)
    if numeral is None and (clock := texts.time_of_day(text)):
        hours, minutes, half = clock
        value = Ratio((number(hours), number(minutes))) if minutes else number(hours)
        return Answer(value, bare(text), UNITS[half])
    if numeral is None:
        found = texts.base_numeral(text)
        if found is None:
            return None
        return Answer(number(found.value) if found.base == 10 else found, bare(text))
    if isinstance(numeral.value, str):
        return Answer(LongNumber(numeral.value), numeral.value)
    # Made without `number`, whose cap is for numbers that are computed with.
    node = Node("number", value=Fraction(numeral.value), is_evaluated=numeral.is_evaluated)
    return Answer(node, bare(text), numeral.unit)


def read_statement(text: str) -> Answer:
    """A value, a relation, or a chain of equations whose last side is the value."""
    if _ARROW.search(text):
        _check_arrows(text)
    sides, signs = _split_equations(text)
    if len(sides) > 1 and not sides[0]:
        sides, signs = sides[1:], signs[1:]  # `= 5`
    if not all(sides):
        raise Unreadable("an equation without one of its sides")
    if len(sides) == 1:
        return _read_value(sides[0])
    if "~" not in signs and len(set(map(bare, sides))) == 1:
        return replace(_read_value(sides[-1]), is_tautology=True)
    earlier, last = [*map(_side, sides[:-1])], _read_value(sides[-1])
    return replace(_chain(earlier, last, signs, bare(text)), neighbours=_neighbours([*earlier, last], signs))


def _check_arrows(text: str) -> None:
    r"""Refuse a number from which an arrow leads to another one, `41 \to n = 42`.

    `2x = 84 \implies x = 42` leads from an equation to its solution; `x = 41 \to x = 42` contradicts itself.
    """
    *steps, last = _ARROW.split(text)
    for step in steps:
        if (
            step.count("{") == step.count("}")
            and "=" not in step
            and not _RELATION.search(step)
            and _DIGIT.search(step)
        ):
            raise SeveralCandidates(f"a number and an arrow behind it in {text[:80]!a}")
    values: dict[str, Fraction] = {}
    for found in filter(None, map(_SOLVED.fullmatch, [*steps, last])):
        value = Fraction(found[3]) / (int(found[1]) if found[1] else 1)
        if values.setdefault(found[2], value) != value:
            raise SeveralCandidates(f"steps that contradict each other in {text[:80]!a}")


def _split_equations(text: str) -> tuple[list[str], list[str]]:
    """The text between its equality signs outside brackets, and those signs; one side where it has another relation."""
    text = _APPROXIMATELY.sub("≈", text).replace(":=", "=").replace("==", "=")
    if "\\begin" not in text:
        text = text.replace("&", " ")
    relations = {match.start() for match in _RELATION.finditer(text)}
    sides, signs, start, depth = [], [], 0, 0
    for i, character in enumerate(text):
        if depth == 0 and i in relations:  # not that of P(X > 2) = 0.5
            return [text], []
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character in "=≈":
            sides.append(text[start:i].strip())
            signs.append("=" if character == "=" else "~")
            start = i + 1
    return [*sides, text[start:].strip()], signs


def _side(text: str) -> Answer | None:
    """What an earlier side of a chain says; None of a name, `f(x)` or `Area`, and of what is not read."""
    call = _CALL.fullmatch(text)
    if (call and call[1] not in FUNCTIONS) or _DERIVATIVE.fullmatch(text):
        return None
    try:
        side = _read_value(text)
    except Unreadable:
        if texts.is_condition(text):
            raise
        return None
    # What is named with a sign, an angle or a vector, is a name in any formula: `|\vec{v}|`, `2\angle A`.
    is_name = not variable_of(side) and any(" " in name for name in variables_in(side))
    # Nor is a product of quantities compared: `3\text{ m} \times 4\text{ m}`.
    return None if is_name or len(_LETTER_AS_TEXT.findall(text)) > 1 else side


def _chain(earlier: list[Answer | None], last: Answer, signs: list[str], text: str) -> Answer:
    approximation = None
    before = earlier[-1]
    if signs[-1] == "~" and before is not None and not variable_of(before):
        rounded = _approximation(before, last)
        approximation = rounded if _is_precise(last.text) else None
        last = before
        earlier = earlier[:-1]
        if not earlier:
            return replace(last, approximation=approximation, text=text)
    known = [side for side in earlier if side is not None]
    if any(_contradict(side, last) for side in known):
        raise SeveralCandidates(f"two numbers that differ in {text[:80]!a}")
    if all(side is not None and _repeats(side, last) for side in earlier):
        return replace(last, is_tautology=True)
    first = earlier[0]
    if first is not None and (point := _point(first.value)) and isinstance(last.value, Sequence):
        return replace(last, name=point, approximation=approximation)
    if first is None or not isinstance(first.value, Node):
        return replace(last, approximation=approximation)
    if name := variable_of(first):
        is_value = name not in variables_in(last)
        relation = _equation(first.value, last) if len(earlier) == 1 else None
        if is_value:
            return replace(last, name=name, relation=relation, approximation=approximation)
        return replace(last, approximation=approximation) if relation is None else Answer(relation, text)
    if len(earlier) > 1 or _is_label(first.value, last.value):
        return replace(last, approximation=approximation)
    relation = _equation(first.value, last)
    if relation is None:
        return replace(last, approximation=approximation)
    if (name := variable_of(last)) and name not in symbols_of(first.value):
        return replace(first, name=name, relation=relation)  # 5 = x
    return Answer(relation, text, relation=relation)


def _neighbours(sides: list[Answer | None], signs: list[str]) -> tuple[Neighbours, ...]:
    """The sides next to each other that can be compared: in one unit, and all constant or in the same variables."""
    found = []
    before: Answer | None = None
    is_approximate = False
    for side, sign in zip(sides, ["", *signs], strict=True):
        is_approximate = is_approximate or sign == "~"
        if side is None or not isinstance(side.value, Node) or side.value.op in ("symbol", "infinity"):
            continue
        pair = None if before is None else _in_one_unit(before, side)
        # Of two sides in variables, one equation is made.
        if pair and symbols_of(pair[0]) == symbols_of(pair[1]) and (len(sides) > 2 or not symbols_of(pair[0])):
            found.append(Neighbours(*pair, is_approximate))
        before, is_approximate = side, False
    return tuple(dict.fromkeys(found))


def _in_one_unit(left: Answer, right: Answer) -> tuple[Node, Node] | None:
    """Two expressions in one unit; None where there is none, as between an angle in degrees and a number."""
    if not isinstance(left.value, Node) or not isinstance(right.value, Node):
        return None
    factor = conversion(left.unit, right.unit) if left.unit and right.unit else Fraction(1)
    is_angle = (left.unit is None) != (right.unit is None) and UNITS["degree"] in (left.unit, right.unit)
    if factor is None or is_angle:
        return None
    return left.value if factor == 1 else multiplied(number(factor), left.value), right.value


def _is_precise(text: str) -> bool:
    """Whether a rounded number has two decimals or three digits."""
    whole, _, decimals = text.lstrip("-+0").partition(".")
    return sum(map(str.isdigit, decimals)) > 1 or sum(map(str.isdigit, whole + decimals)) > 2


def _equation(left: Node, last: Answer) -> Relation | None:
    """The equation, where it has a variable."""
    if not isinstance(last.value, Node) or not (symbols_of(left) or symbols_of(last.value)):
        return None
    return Relation((left, last.value), ("=",))


def _repeats(side: Answer, last: Answer) -> bool:
    """Whether a side says the same in the same way; a fraction and a decimal are two ways."""
    if side.value != last.value:
        return False
    if not isinstance(last.value, Node):
        return side.text == last.text
    is_plain = [re.fullmatch(r"[-+0-9.,]++", answer.text) is not None for answer in (side, last)]
    return last.value.op != "number" or all(is_plain)


def _point(value: Value | Several) -> str:
    """The variables of a point, `(x, y)`; empty of anything else."""
    if not isinstance(value, Sequence) or (value.opening, value.closing) != ("(", ")"):
        return ""
    names = [item.name for item in value.items if isinstance(item, Node) and item.op == "symbol"]
    return f"({', '.join(names)})" if len(names) == len(value.items) else ""


def variables_in(answer: Answer) -> set[str]:
    """The names of the variables of all its values."""
    if isinstance(answer.value, Several):
        return set().union(*(variables_in(part) for part in answer.value.answers))
    return variables_of(answer.value)


def variable_of(answer: Answer) -> str:
    """The variable that an answer is alone, or an empty string."""
    return answer.value.name if isinstance(answer.value, Node) and answer.value.op == "symbol" else ""


def _is_label(node: Node, value: Value | Several) -> bool:
    r"""Whether it names a length, the size of a set or a ratio: `AB`, `|AB|`, `|S|`, `\sin x`.

    `\sin x = 3/5` is no equation whose solution is 3/5: only 0 is its own sine, and no number that is written without
    one its own cosine.
    """
    if node.op in ("sin", "cos", "tan") and node.args[0].op == "symbol":
        return isinstance(value, Node) and value.value != 0 and not symbols_of(value)
    if node.op == "abs":
        node = node.args[0]
        if node.op == "symbol":
            return node.name[:1].isupper()
    return node.op == "*" and all(arg.op == "symbol" and arg.name[:1].isupper() for arg in node.args)


def _contradict(side: Answer, last: Answer) -> bool:
    if isinstance(side.value, Ratio) and isinstance(last.value, Node):
        is_number = [part.value is not None for part in side.value.parts]
        return any(is_number) and not all(is_number)  # 41 : n = 42
    found = numbers_of(side.value), numbers_of(last.value)
    if None not in found and not (isinstance(side.value, Node) and isinstance(last.value, Node)):
        return found[0] != found[1]  # two points, or a number and a point: `-7 = (3, -2)`
    if not (isinstance(side.value, Node) and isinstance(last.value, Node)):
        return False
    left, right = side.value.value, last.value.value
    if left is None or right is None:
        return False
    if side.unit and last.unit:
        # 1 m = 100 cm; what 5 boxes = 60 eggs says is not known here
        factor = conversion(side.unit, last.unit)
        return factor is not None and left * factor != right
    return left != right


def numbers_of(value: Value | Several) -> tuple[object, ...] | None:
    """What a number, a tuple, a set or a matrix of numbers holds; None of anything else."""
    if isinstance(value, Node):
        return None if value.value is None else (value.value,)
    if isinstance(value, BaseNumeral):
        return (value.value,)
    if isinstance(value, Matrix):
        entries = tuple(entry.value for row in value.rows for entry in row)
        return None if None in entries else ("matrix", len(value.rows), *entries)
    if not isinstance(value, Sequence | FiniteSet):
        return None
    values = [item.value if isinstance(item, Node) else None for item in value.items]
    if None in values:
        return None
    if isinstance(value, FiniteSet):
        return ("set", frozenset(values))
    brackets = (value.opening.strip("<"), value.closing.strip(">")) if len(values) == 2 else ()
    return ("tuple", *brackets, *values)


def _approximation(exact: Answer, rounded: Answer) -> Node:
    """The rounded value, where it may be one; two numbers of which neither is the other rounded contradict."""
    if not isinstance(exact.value, Node) or not isinstance(rounded.value, Node) or rounded.value.value is None:
        raise Unreadable("an approximation of something that is not a number")
    value = exact.value.value
    if value is not None and abs(value - rounded.value.value) > half_unit(rounded.value.value):
        raise SeveralCandidates("an approximation that is another number")
    return rounded.value  # of what is not rational, compared later


def half_unit(decimal: Fraction) -> Fraction:
    """Half a unit in the last place of a decimal: 0.005 of 0.33; 0 of what is not a decimal of up to 20 places."""
    places = next((places for places in range(20) if (decimal * 10**places).denominator == 1), None)
    return Fraction(0) if places is None else Fraction(1, 2 * 10**places)


def _read_value(text: str) -> Answer:
    if (found := read_number(text)) is not None:
        return found
    rest, unit = _split_unit(text)
    if unit is not None and (found := read_number(rest)) is not None:
        return replace(found, unit=unit, text=bare(text))
    try:
        value = parse_value(rest)
    except Unreadable:
        if unit is None:
            raise
        value, unit = parse_value(text), None
    if isinstance(value, Candidates):
        return Answer(Several(tuple(Answer(item, "") for item in value.items), value.word), bare(text), unit)
    if isinstance(value, Relation) and value.ops == ("in",):
        variable, values = value.sides
        if isinstance(variable, Node) and variable.op == "symbol":
            return Answer(values, bare(text), name=variable.name)
        if _point(variable) and isinstance(values, FiniteSet):
            return Answer(values, bare(text))
    return Answer(value, bare(text), unit)


def _split_unit(text: str) -> tuple[str, Unit | None]:
    r"""An expression and the unit before or behind it: `\$5x`, `12\pi \text{ cm}^2`, `3 sqrt(2) meters`."""
    text = text.strip()
    if degrees := _DEGREES.fullmatch(text):
        inner = (degrees["round"] or degrees["curly"]).removesuffix("\\right").strip()
        if read_number(inner) is not None:
            return inner, read_unit("^\\circ")
    for mark in CURRENCIES:
        if text.startswith(mark) and len(text) > len(mark):
            return text[len(mark) :], currency(mark)
    return split_unit(text)
