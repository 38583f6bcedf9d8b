r"""What a reference or an answer says: a value with its unit, its variable and how it was written.

A reference is read by its form alone. An answer is read by its form too, except that the letter of an option and a
text are only looked for where the reference is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.math import remarks, texts
from rewards.math.nodes import Node, Unreadable, multiplied, number, symbols_of
from rewards.math.numerals import DECIMAL, TooLarge, normalize_spaces, numbers_in, read_numeral
from rewards.math.parser import parse_value
from rewards.math.units import CURRENCIES, UNITS, Unit, conversion, currency, read_unit, split_unit
from rewards.math.values import (
    BaseNumeral,
    Candidates,
    Choice,
    FiniteSet,
    LongNumber,
    Matrix,
    NumberSet,
    Ratio,
    Relation,
    Sequence,
    Value,
    Words,
    variables_of,
)

MAX_CHARACTERS = 8_000
MAX_CANDIDATES = 100
_OPTIONS = frozenset("ABCDEFGHIJ")

_CONNECTIVE = re.compile(
    rf"{texts.TEXT_COMMAND} *+\{{[ ,~]*+(or|and)[ ~]*+\}}|\\(lor|vee|land|wedge)(?![a-zA-Z])|([\u2227\u2228])"
)
_CONNECTIVES = {"lor": "or", "vee": "or", "land": "and", "wedge": "and", "\u2227": "and", "\u2228": "or"}
_SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")
_WORD = re.compile(r" (or|and) ")
_BRACKETS = {"\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]"}
_LINES = re.compile(
    r"(?:\\left *+\\\{)? *+\\begin\{(aligned|align|align\*|gathered|cases|split)\}(.*)\\end\{\1\} *+(?:\\right\.?)?"
)
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
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "sec",
        "csc",
        "cot",
        "arcsin",
        "arccos",
        "arctan",
        "ln",
        "log",
        "exp",
        "sqrt",
        "gcd",
        "lcm",
        "max",
        "min",
        "abs",
    ]
)
# (60)^\circ, {60}^\circ, \left(\frac{45}{2}\right)^{\circ}
_DEGREES = re.compile(
    r"(?:(?:\\left *+)?\((?P<round>[^()]++)\)|\{(?P<curly>[^{}]++)\}) *+(?:\^ *+\{? *+\\circ *+\}?|°)"
)
_LETTER_AS_TEXT = re.compile(r"[0-9] *\\(?:text|mathrm) *\{ *[a-zA-Z] *\}")
# Letters behind a number that are a unit where the reference has one: `12 m`, `3.5 m/s^2`
_UNIT_IN_LETTERS = re.compile(r"(?<=[0-9)} ])([a-zA-Z]{1,3}(?: *+/ *+[a-zA-Z]{1,3})?(?:\^\{?-?[0-9]\}?)?)(?= *(?:=|$))")


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


def read_reference(text: str) -> Answer:
    """Read a reference.

    Raises:
        Unreadable: Where it is neither a formula nor a text.
        SeveralCandidates: Where it contradicts itself.
        TooLarge: Where it exceeds a cap.
    """
    if choice := texts.choice_of_reference(text):
        return Answer(choice, bare(text))
    text = remarks.options(text) or remarks.without_qualifier(text)
    words = texts.words(text)
    plain = texts.without_markup(text).strip()
    if words is not None and (texts.is_word(plain) or texts.is_date(plain)):
        return Answer(texts.meaning(words), bare(text))
    try:
        answer = read_formula(text)
    except Unreadable:
        if words is None:
            raise
        return Answer(texts.meaning(words), bare(text))
    if answer.is_tautology:
        raise Unreadable("it only says that something equals itself")
    return answer


def read_answer(text: str, reference: Answer) -> Answer:
    """Read an answer to be compared with `reference`.

    Raises:
        Unreadable: Where it is not in a form that is read.
        SeveralCandidates: Where it contradicts itself: `15 = 14`.
        TooLarge: Where it exceeds a cap.
    """
    text = remarks.without_qualifier(text)
    try:
        return _read_for(reference, text)
    except Unreadable:
        value = remarks.value_in_words(text)
        if value is None:
            raise
    return _read_for(reference, value)


def _read_for(reference: Answer, text: str) -> Answer:
    if isinstance(reference.value, Choice) and (choice := texts.choice_of_answer(text)):
        return Answer(choice, bare(text))
    if _are_options(reference.value) and (listed := remarks.options(text)):
        return read_formula(listed)
    if not isinstance(reference.value, Choice):
        text = remarks.without_option(text, _variables(reference))
    if isinstance(reference.value, Words):
        words = texts.words(text)
        if words is None:
            raise Unreadable("not a text")
        if words != reference.value and (value := remarks.value_in_words(text)) and texts.words(value):
            words = texts.words(value) or words
        return Answer(texts.meaning(words), bare(text))
    if reference.unit and not reference.unit.is_noun and not _variables(reference):
        text = _UNIT_IN_LETTERS.sub(r"\\text{ \1}", text)
    if isinstance(reference.value, Several) and DECIMAL.fullmatch(text) and "," in text:
        text = text.replace(",", ", ")  # the list 10,200 and not the number
    try:
        return read_formula(text)
    except Unreadable:
        plain = texts.wrapped(text)
        if plain.isascii() and (any(map(str.isdigit, plain)) or (len(plain) == 2 and plain.isalpha())):
            return read_formula(plain)  # \text{3 and 4}, and \text{IV} where the reference is IV
        words = texts.words(text)
        if words is None or isinstance(texts.meaning(words), Words):
            raise
        return Answer(texts.meaning(words), bare(text))


def _are_options(value: Value | Several) -> bool:
    """Whether a reference is a list of letters that options have."""
    return isinstance(value, Several) and all(_variable(part) in _OPTIONS for part in value.answers)


def read_formula(text: str) -> Answer:
    """Read a number, an expression, a relation, a set or several of these.

    Raises:
        Unreadable: Where the text is not a formula.
        SeveralCandidates: Where it contradicts itself.
        TooLarge: Where it exceeds a cap.
    """
    if (found := _read_numeral(text)) is not None:
        return found
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"a formula of {len(text)} characters")
    text = _without_environment(normalize_spaces(text))
    pieces, word = _split_candidates(text)
    if len(pieces) == 1:
        return _read_statement(pieces[0])
    if len(pieces) > MAX_CANDIDATES:
        raise TooLarge(f"more than {MAX_CANDIDATES} values")
    answers = [_read_statement(piece) for piece in pieces]
    # `pi/4 + k pi, k in Z`: where a variable comes from is not another answer.
    told = [answer for answer in answers if not (answer.name and isinstance(answer.value, NumberSet))] or answers
    if len(told) == 1 or (word == "or" and "%" not in text and _are_one_number(told)):
        return told[-1]
    return Answer(Several(tuple(told), word), bare(text))


def _are_one_number(answers: list[Answer]) -> bool:
    r"""Whether all are the same number, written in different ways: `\frac{1}{2} or 0.5`."""
    values = {_numbers(answer.value) for answer in answers}
    return len(values) == 1 and None not in values and not any(answer.unit for answer in answers)


def bare(text: str) -> str:
    """The text without white space, but for that between two digits: `2 1/2` is not `21/2`."""
    return _SPACE.sub("", normalize_spaces(text))


def _read_numeral(text: str) -> Answer | None:
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


def _without_environment(text: str) -> str:
    """Formulas on lines of their own as formulas between commas, and one spelling of the brackets."""
    for name, sign in _BRACKETS.items():
        text = text.replace(name, sign)
    match = _LINES.fullmatch(text)
    if match is None:
        return text
    first, *lines = match[2].replace("&", " ").strip().removesuffix("\\\\").split("\\\\")
    # A line is the next step of a chain or another statement.
    return " ".join(first.split()) + "".join(
        f" {line.strip()}" if line.lstrip().startswith("=") else f", {line.strip()}" for line in lines
    )


# --- several ----------------------------------------------------------------------------------------------------------


def _split_candidates(text: str) -> tuple[list[str], str]:
    """The parts between the commas and connectives outside brackets, and the connective."""
    text = _CONNECTIVE.sub(lambda match: f" {match[1] or _CONNECTIVES[match[2] or match[3]]} ", text)
    if text.startswith("]"):  # an interval: ]1, 2[
        return [text], ""
    pieces: list[str] = []
    words: set[str] = set()
    numbers = numbers_in(text)
    start = depth = i = 0
    while i < len(text):
        character = text[i]
        if depth == 0 and i in numbers:
            i = numbers[i]  # past the commas that group digits
            continue
        depth += character in "([{⟨" or text.startswith("\\langle", i)
        depth -= character in ")]}⟩" or text.startswith("\\rangle", i)
        word = _WORD.match(text, i) if character == " " else None
        if depth == 0 and (word or (character in ",;" and text[i - 1 : i] != "\\")):
            pieces.append(text[start:i].strip())
            words.add(word[1] if word else ",")
            i = start = word.end() - 1 if word else i + 1
            continue
        i += 1
    pieces.append(text[start:].strip())
    kept = [piece for piece in pieces if piece]
    # `1, 2, and 3` has a comma before the word.
    if len(pieces) - len(kept) > (1 if len(words) > 1 else 0):
        raise Unreadable("a comma without a value beside it")
    words.discard(",")
    if len(words) > 1:
        raise Unreadable("`and` beside `or`")
    return kept, words.pop() if words else ","


# --- one statement ----------------------------------------------------------------------------------------------------


def _read_statement(text: str) -> Answer:
    """A value, a relation, or a chain of equations whose last side is the value."""
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
    if (call and call[1] not in _FUNCTIONS) or _DERIVATIVE.fullmatch(text):
        return None
    try:
        side = _read_value(text)
    except Unreadable:
        if texts.is_condition(text):
            raise
        return None
    # What is named with a sign, an angle or a vector, is a name in any formula: `|\vec{v}|`, `2\angle A`.
    is_name = not _variable(side) and any(" " in name for name in _variables(side))
    # Nor is a product of quantities compared: `3\text{ m} \times 4\text{ m}`.
    return None if is_name or len(_LETTER_AS_TEXT.findall(text)) > 1 else side


def _chain(earlier: list[Answer | None], last: Answer, signs: list[str], text: str) -> Answer:
    approximation = None
    before = earlier[-1]
    if signs[-1] == "~" and before is not None and not _variable(before):
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
    if name := _variable(first):
        is_value = name not in _variables(last)
        relation = _equation(first.value, last) if len(earlier) == 1 else None
        if is_value:
            return replace(last, name=name, relation=relation, approximation=approximation)
        return replace(last, approximation=approximation) if relation is None else Answer(relation, text)
    if len(earlier) > 1 or _is_label(first.value, last.value):
        return replace(last, approximation=approximation)
    relation = _equation(first.value, last)
    if relation is None:
        return replace(last, approximation=approximation)
    if (name := _variable(last)) and name not in symbols_of(first.value):
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


def _variables(answer: Answer) -> set[str]:
    if isinstance(answer.value, Several):
        return set().union(*(_variables(part) for part in answer.value.answers))
    return variables_of(answer.value)


def _variable(answer: Answer) -> str:
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
    found = _numbers(side.value), _numbers(last.value)
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


def _numbers(value: Value | Several) -> tuple[object, ...] | None:
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
    if (found := _read_numeral(text)) is not None:
        return found
    rest, unit = _split_unit(text)
    if unit is not None and (found := _read_numeral(rest)) is not None:
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
        if _read_numeral(inner) is not None:
            return inner, read_unit("^\\circ")
    for mark in CURRENCIES:
        if text.startswith(mark) and len(text) > len(mark):
            return text[len(mark) :], currency(mark)
    return split_unit(text)
