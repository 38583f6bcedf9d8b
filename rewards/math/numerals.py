r"""Plain numbers, exactly: the fast path of the maths reward. No sympy here.

Read are whole numbers and decimals (`42`, `-0.5`, `.5`), thousands in well-formed groups (`1,234`, `1{,}234`,
`1\,234`), fractions of whole numbers (`3/4`, `\frac{3}{4}`, `\frac34`), mixed numbers (`2 1/2`, `2\frac{1}{2}`),
scientific notation (`1.2e3`, `1.2 \times 10^3`) and percentages, each with a sign, a currency sign or a unit. Only the
digits 0 to 9 count: the digits of other scripts are not read, so that no two answers that look different are silently
the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARACTERS = 6_000
MAX_DIGITS = 4_000
"""Digits of one number. Python itself refuses to convert more than 4300."""
MAX_EXPONENT = 4_000
"""Power of ten in scientific notation."""

_GROUP_SEPARATOR = r"(?:,|\{,\}|\\,)"
# The quantifiers are possessive: nothing is ever tried twice.
DECIMAL = re.compile(
    rf"(?:[1-9][0-9]{{0,2}}(?:{_GROUP_SEPARATOR}[0-9]{{3}})++(?![0-9])|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++"
)
_INTEGER = re.compile(r"[0-9]++")
_E_NOTATION = re.compile(r"[eE]([+-]?+[0-9]++)")
_TIMES_TEN = re.compile(
    r" *+(?:\\times|\\cdot|[\u00d7\u00b7x*]) *+10 *+(?:\^|\*\*) *+(?:\{ *+([+-]?+[0-9]++) *+\}|([+-]?+[0-9]++))"
)
_SLASH = re.compile(r" *+/ *+([0-9]++)")
_SPACED_FRACTION = re.compile(r" ++([0-9]++) *+/ *+([0-9]++)")
_FRAC = re.compile(
    r" *+\\[dtc]?+frac *+(?:\{ *+([+-]?+[0-9]++) *+\} *+\{ *+([0-9]++) *+\}"
    r"|([0-9])(?: *+([0-9])| *+\{ *+([0-9]++) *+\}))"
)
_PERCENT = re.compile(r" *+(?:\\?+%|(?:percent|\\text *+\{ *+percent *+\})(?![a-zA-Z]))")
_UNIT = re.compile(
    r" *+(?:\\(?:text|mathrm|textrm|mbox|textbf) *+\{([^{}\\]*+)\}|([^{}\\^]++))? *+(?:\^ *+(?:([23])|\{([23])\}))?"
)
_FREE_UNIT = re.compile(r"[a-zA-Z]{3,20}+(?: [a-zA-Z]{3,20}+){0,2}+")

_CURRENCIES = {"\\$": "dollar", "$": "dollar", "£": "pound", "€": "euro", "¥": "yen", "₹": "rupee"}
_UNITS = {
    name: names[0]
    for names in (
        ("dollar", "dollars", "usd", "$", "\\$"),
        ("cent", "cents", "¢"),
        ("euro", "euros", "eur", "€"),
        ("pound", "pounds", "£"),
        ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
        ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
        ("m", "meter", "meters", "metre", "metres"),
        ("km", "kilometer", "kilometers", "kilometre", "kilometres"),
        ("in", "inch", "inches"),
        ("ft", "foot", "feet"),
        ("mile", "miles"),
        ("mg", "milligram", "milligrams"),
        ("g", "gram", "grams"),
        ("kg", "kilogram", "kilograms"),
        ("ml", "milliliter", "milliliters", "millilitre", "millilitres"),
        ("l", "liter", "liters", "litre", "litres"),
        ("s", "second", "seconds", "sec"),
        ("min", "minute", "minutes"),
        ("h", "hour", "hours", "hr", "hrs"),
        ("day", "days"),
        ("week", "weeks"),
        ("month", "months"),
        ("year", "years"),
        ("degree", "degrees", "°"),
        ("km/h", "kph", "kmh"),
        ("mph",),
        ("m/s",),
    )
    for name in names
}
# A single letter behind a number is a variable, unless `\text{}` says that it is a unit.
_ONLY_AS_TEXT = frozenset("mgslh")
# Words that change the number before them or put another one beside it: `14 million`, `14 or fifteen`.
_NOT_UNIT_WORDS = """
    or and not but nor plus minus times over divided per mod modulo choose factorial squared cubed doubled
    tripled halved inverse negative half halves third thirds quarter quarters fourth fourths fifth fifths tenth
    tenths hundredth hundredths thousandth thousandths dozen dozens tens hundred hundreds thousand thousands
    million millions billion billions trillion trillions percent percentage percents base zero one two three
    four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety sqrt exp log sin cos tan sec csc cot abs
    arcsin arccos arctan sinh cosh tanh alpha beta gamma delta epsilon theta lambda sigma phi omega rho tau psi
    chi eta zeta kappa infinity inf nan maybe possibly wrong about roughly approximately either otherwise
    instead except unless where which because since for with without than less more abc xyz
"""
_NOT_UNITS = frozenset(_NOT_UNIT_WORDS.split())


class TooLarge(ValueError):
    """The text exceeds a size cap and was not read further."""


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as it was written.

    Attributes:
        value: What it is worth.
        is_quotient: Whether it is written as one whole number over another.
        unit: The known unit behind it, in one spelling, or an empty string.
    """

    value: Fraction
    is_quotient: bool = False
    unit: str = ""

    @property
    def is_evaluated(self) -> bool:
        """Whether nothing is left to compute: 3/4 is a number, 84/2 is an exercise."""
        return not (self.is_quotient and self.value.denominator == 1)


def parse_numeral(text: str) -> Fraction | None:
    """The value of a plain number, or None where the text is something else.

    Raises:
        TooLarge: Where the number exceeds `MAX_DIGITS` or `MAX_EXPONENT`, or the text `MAX_CHARACTERS`.
    """
    numeral = read_numeral(text)
    return None if numeral is None else numeral.value


def read_numeral(text: str) -> Numeral | None:
    """Like `parse_numeral`, with the form of the number and its unit.

    Raises:
        TooLarge: As for `parse_numeral`.
    """
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    text = normalize_spaces(text)
    negative, currency, start = _sign_and_currency(text)
    found = _fraction(text, start) or _decimal(text, start)
    if found is None:
        return None
    value, is_quotient, end = found
    if percent := _PERCENT.match(text, end):
        value, end = value / 100, percent.end()
    unit = _unit(text, end)
    if unit is None or (unit and currency and unit != currency):
        return None
    return Numeral(-value if negative else value, is_quotient, unit or currency)


def normalize_spaces(text: str) -> str:
    r"""The text with one kind of space and of minus, and without `\!`, which is a space of negative width."""
    if "\\" in text or "~" in text:
        text = text.replace("\\!", "")
        for space in ("\\;", "\\:", "\\ ", "\\qquad", "\\quad", "~"):
            text = text.replace(space, " ")
    text = text.replace("\u2212", "-").replace("\u00a0", " ")
    return " ".join(text.split())


def to_integer(digits: str) -> int:
    """The value of a run of ASCII digits.

    Raises:
        TooLarge: Where there are more than `MAX_DIGITS`.
    """
    if len(digits) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(digits)} digits, at most {MAX_DIGITS} are read")
    return int(digits)


def to_fraction(decimal: str) -> Fraction:
    """The value of what `DECIMAL` matches.

    Raises:
        TooLarge: Where it has more than `MAX_DIGITS` digits.
    """
    whole, _, fraction = decimal.replace("{,}", "").replace("\\,", "").replace(",", "").partition(".")
    return Fraction(to_integer(whole + fraction), 10 ** len(fraction))


def power_of_ten(exponent: str) -> Fraction:
    """Ten to a signed run of digits.

    Raises:
        TooLarge: Where the exponent exceeds `MAX_EXPONENT`.
    """
    if len(exponent) > 8 or abs(int(exponent)) > MAX_EXPONENT:
        raise TooLarge(f"a power of ten beyond {MAX_EXPONENT}")
    return Fraction(10) ** int(exponent)


def e_notation(text: str, start: int) -> tuple[Fraction, int] | None:
    """The power of ten that `e3` at `start` stands for, and where it ends.

    Raises:
        TooLarge: As for `power_of_ten`.
    """
    match = _E_NOTATION.match(text, start)
    return (power_of_ten(match[1]), match.end()) if match else None


def _sign_and_currency(text: str) -> tuple[bool, str, int]:
    """Whether a minus leads, which currency, and where the number starts: `-$5` and `$-5` are both read."""
    sign, currency, i = "", "", 0
    for _ in range(2):
        if not sign and text[i : i + 1] in ("+", "-"):
            sign, i = text[i], i + 1
        if not currency:
            mark = next((mark for mark in _CURRENCIES if text.startswith(mark, i)), "")
            currency, i = _CURRENCIES.get(mark, ""), i + len(mark)
        i += text[i : i + 1] == " "
    return sign == "-", currency, i


def _fraction(text: str, start: int) -> tuple[Fraction, bool, int] | None:
    r"""A `\frac` of two whole numbers."""
    match = _FRAC.match(text, start)
    if match is None:
        return None
    numerator, denominator = match[1] or match[3], match[2] or match[4] or match[5]
    top, bottom = to_integer(numerator.lstrip("+-")), to_integer(denominator)
    if bottom == 0:
        return None
    return Fraction(-top if numerator.startswith("-") else top, bottom), True, match.end()


def _decimal(text: str, start: int) -> tuple[Fraction, bool, int] | None:
    """A number that starts with digits: a decimal, a quotient, a mixed number or scientific notation."""
    match = DECIMAL.match(text, start)
    if match is None:
        return None
    value, end = to_fraction(match[0]), match.end()
    if notation := e_notation(text, end):
        return value * notation[0], False, notation[1]
    if times_ten := _TIMES_TEN.match(text, end):
        return value * power_of_ten(times_ten[1] or times_ten[2]), False, times_ten.end()
    if "." in match[0]:
        return value, False, end
    if slash := _SLASH.match(text, end):
        bottom = to_integer(slash[1])
        return (value / bottom, True, slash.end()) if bottom else None
    return _mixed(value, text, end) or (value, False, end)


def _mixed(whole: Fraction, text: str, end: int) -> tuple[Fraction, bool, int] | None:
    """A whole number with a proper fraction behind it."""
    part = _fraction(text, end)
    if part is None and (match := _SPACED_FRACTION.match(text, end)):
        bottom = to_integer(match[2])
        part = (Fraction(to_integer(match[1]), bottom), True, match.end()) if bottom else None
    if part is None or not 0 < part[0] < 1:
        return None
    return whole + part[0], False, part[2]


def _unit(text: str, start: int) -> str | None:
    """The known unit that ends the text, an empty string for none or an unknown noun, None for anything else."""
    rest = text[start:].strip()
    if not rest:
        return ""
    if rest in ("^\\circ", "^{\\circ}"):
        return "degree"
    if rest in ("$", "\\$"):
        return "dollar"
    match = _UNIT.fullmatch(rest.replace("²", "^2").replace("³", "^3"))
    if match is None:
        return None
    word = (match[1] if match[1] is not None else match[2] or "").strip()
    exponent = match[3] or match[4] or ""
    known = _UNITS.get(word) or _UNITS.get(word.lower())
    if known and (match[1] is not None or exponent or word not in _ONLY_AS_TEXT):
        return f"{known}^{exponent}" if exponent else known
    is_noun = _FREE_UNIT.fullmatch(word) and not exponent and _NOT_UNITS.isdisjoint(word.lower().split())
    return "" if is_noun and (match[1] is not None or " " not in word) else None
