r"""Plain numbers, exactly: the fast path of the maths reward. No sympy here.

Read are whole numbers and decimals (`42`, `-0.5`, `.5`), repeating ones (`0.1\overline{6}`), thousands in well-formed
groups (`1,234`, `1{,}234`, `1\,234`), fractions of whole numbers (`3/4`, `\frac{3}{4}`, `\frac34`, `¾`), mixed numbers
(`2 1/2`, `2\frac{1}{2}`), scientific notation (`1.2e3`, `1.2 \times 10^3`), percentages, scale words (`1.5 million`)
and ordinals (`3rd`), each with a sign, a currency sign or a unit. Only the digits 0 to 9 count: the digits of other
scripts are not read, so that no two answers that look different are silently the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.latex import TEXT_COMMAND
from rewards.math.units import CURRENCIES, Unit, conversion, currency, read_unit, without_text_commands

MAX_DIGITS = 4_000
"""Digits of a number that is computed with. A plain number with more is compared digit by digit."""
MAX_CHARACTERS = 6_000
"""Characters of a number that is more than digits."""
MAX_EXPONENT = 4_000
"""Power of ten in scientific notation."""

_GROUP_SEPARATOR = r"(?:,|\{,\}|\\,)"
# The quantifiers are possessive: nothing is ever tried twice.
DECIMAL = re.compile(
    rf"(?:[1-9][0-9]{{0,2}}(?:{_GROUP_SEPARATOR}[0-9]{{3}})++(?![0-9])|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++"
)
# Inside brackets a comma separates: (1,234) is a pair.
DECIMAL_IN_BRACKETS = re.compile(
    r"(?:[1-9][0-9]{0,2}(?:(?:\{,\}|\\,)[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++"
)
_DIGITS = re.compile(r"[0-9]")
_UNGROUPED = re.compile(r"[0-9]++(?:\.[0-9]*+)?|\.[0-9]++")
_GROUPS = re.compile(rf"(?:{_GROUP_SEPARATOR}[0-9]{{3}})*+")
REPEATING = re.compile(
    r"([0-9]*+)\.([0-9]*+)(?:\\(?:overline|bar|dot) *+(?:\{ *+([0-9]++) *+\}|([0-9]))|\(([0-9]++)\))"
)
_LONG = re.compile(r"([+-]?+) ?+0*+([0-9]*+)(?:\.([0-9]*+))?")
_E_NOTATION = re.compile(r"[eE]([+-]?+[0-9]++)(?![0-9a-zA-Z.])")
_TIMES_TEN = re.compile(
    r" *+(?:\\times|\\cdot|[\u00d7\u00b7x*]) *+10 *+(?:\^|\*\*) *+(?:\{ *+([+-]?+[0-9]++) *+\}|([+-]?+[0-9]++))"
)
_SLASH = re.compile(r" *+/ *+([0-9]++)")
_SPACED_FRACTION = re.compile(r" ++([0-9]++) *+/ *+([0-9]++)")
_FRAC = re.compile(
    r" *+\\[dtc]?+frac *+(?:\{ *+([+-]?+[0-9]++) *+\} *+\{ *+([0-9]++) *+\}"
    r"|([0-9])(?: *+([0-9])| *+\{ *+([0-9]++) *+\}))"
)
_PERCENT = re.compile(rf" *+(?:\\?+%|(?:per ?cent|{TEXT_COMMAND} *+\{{ *+(?:per ?cent|\\?+%) *+\}})(?![a-zA-Z]))")
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "hundred": 100, "dozen": 12}
_SCALE = re.compile(
    rf" *+(?:{TEXT_COMMAND} *+\{{ *+({'|'.join(_SCALES)}) *+\}}|({'|'.join(_SCALES)})(?![a-zA-Z]))"
)  # fmt: skip
_SCALED_UNIT = re.compile(rf"({TEXT_COMMAND} *+\{{ *+(?:{'|'.join(_SCALES)})) ++(?=[a-z])")  # \text{million dollars}
_ORDINAL = re.compile(rf"(?:\^ *+)?(?:\{{ *+)?(?:{TEXT_COMMAND} *+\{{ *+)?(?:st|nd|rd|th) *+\}}{{0,2}}+")

_FRACTION_SIGNS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5),
                   "⅗": (3, 5), "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8),
                   "⅞": (7, 8), "⅐": (1, 7), "⅑": (1, 9), "⅒": (1, 10)}  # fmt: skip
# Not behind another backslash: `\\ ` ends a row.
_SPACE_COMMAND = re.compile(r"(?<!\\)\\(?:[!;:> ]|(?:quad|qquad|thinspace|enspace)(?![a-zA-Z])|hspace\*?\{[^{}]*+\})|~")
_CLOSED_UP_COMMA = re.compile(r"(?<=[0-9]),(?: ?\\!)+ ?(?=[0-9]{3}(?![0-9]))")  # 7,\! 250,\! 000
_CURRENCY_AS_TEXT = re.compile(rf"{TEXT_COMMAND} *+\{{ *+((?:\\?+\$|[£€¥₹])[^{{}}$]*+)\}}")
# \text{13 cm}, -\text{5 cm}
_NUMBER_AS_TEXT = re.compile(
    rf"([+-]?+) *+{TEXT_COMMAND} *+\{{ *+([+-]?+[0-9](?:[0-9.,/ ]*[0-9])?+|[+-]?+\.[0-9]++)"
    r" *+((?:[^{}\\]|\\[,; ])*+)\}(.*+)"
)
_NUMBER_IN_BRACES = re.compile(r"\{ *+([+-]?+[0-9][0-9.,]*+) *+\}(?= *+[^ 0-9])")  # {42}\text{ million}
_MIXED_PART = re.compile(rf" *+(?:and )? *+({DECIMAL.pattern})(?: ([0-9]++)/([0-9]++))?([^0-9,.+-]++)")
_STOP_BEHIND_LETTER = re.compile(r"(?<=[a-zA-Z])\.")
_PRIMES = (("''", "in"), ('"', "in"), ("\u2033", "in"), ("'", "ft"), ("\u2032", "ft"), ("\u2019", "ft"))
_DOLLARS = re.compile(r"\A\\?\$ ?([0-9]++)(?= )")  # \$3 and 50 cents
_MAX_MIXED = 100
"""Characters of a number in several units: 5 ft 6 in."""
_SPACED_GROUPS = re.compile(r"[+-]?+[1-9][0-9]{0,2}(?: [0-9]{3})++(?:\.[0-9]++)?")
_NORMAL = {
    ord("\u2212"): "-", ord("\u2013"): "-", ord("\u2010"): "-", ord("\u2011"): "-", ord("\ufe63"): "-",
    ord("\u00a0"): " ", ord("\u2009"): "\\,", ord("\u202f"): "\\,", ord("\u2044"): "/", ord("\u2217"): "*",
    **{ord(sign): f"\\frac{{{top}}}{{{bottom}}}" for sign, (top, bottom) in _FRACTION_SIGNS.items()},
}  # fmt: skip


class TooLarge(ValueError):
    """The text exceeds a size cap and was not read further."""


@dataclass(frozen=True, slots=True)
class Numeral:
    """A number as it was written.

    Attributes:
        value: What it is worth; of a number of more than `MAX_DIGITS` digits those digits, without leading zeros and
            without zeros at the end of the fraction.
        is_quotient: Whether it is written as one whole number over another.
        unit: The unit behind it, or None.
    """

    value: int | Fraction | str
    is_quotient: bool = False
    unit: Unit | None = None

    @property
    def is_evaluated(self) -> bool:
        """Whether nothing is left to compute: 3/4 is a number, 84/2 is an exercise."""
        return not (self.is_quotient and not isinstance(self.value, str) and self.value.denominator == 1)


def parse_numeral(text: str) -> int | Fraction | str | None:
    """The value of a plain number, or None where the text is something else.

    Raises:
        TooLarge: Where the number exceeds `MAX_EXPONENT`, or has more than `MAX_DIGITS` digits and is not plain.
    """
    numeral = read_numeral(text)
    return None if numeral is None else numeral.value


def read_numeral(text: str) -> Numeral | None:
    """Like `parse_numeral`, with the form of the number and its unit.

    Raises:
        TooLarge: As for `parse_numeral`.
    """
    if text.isdigit() and text.isascii() and len(text) <= MAX_DIGITS:
        return Numeral(int(text))
    text = normalize_spaces(text)
    numeral = _single_numeral(text)
    return _in_mixed_units(text) if numeral is None and len(text) <= _MAX_MIXED else numeral


def _single_numeral(text: str) -> Numeral | None:
    """A number with one unit at most."""
    if len(text) > MAX_DIGITS and (long := _long_number(text)) is not None:
        return Numeral(long)
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    if " " in text and _SPACED_GROUPS.fullmatch(text):
        text = text.replace(" ", "")
    if "\\" in text[:3] and (match := _NUMBER_AS_TEXT.fullmatch(text)) and not (match[1] and match[2][0] in "+-"):
        text = match[1] + match[2] + (f"\\text{{ {match[3]}}}" if match[3] else "") + match[4]
    elif text.startswith("{"):
        text = _NUMBER_IN_BRACES.sub(r"\1", text)
    negative, mark, start = _sign_and_currency(text)
    found: tuple[int | Fraction, bool, int] | None = _fraction(text, start) or _decimal(text, start)
    if found is None:
        return None
    value, is_quotient, end = found
    if negative:
        value = -value
    if end == len(text):
        return Numeral(value, is_quotient, currency(mark) if mark else None)
    return _with_rest(value, is_quotient, text[end:], mark)


def _with_rest(value: int | Fraction, is_quotient: bool, rest: str, mark: str) -> Numeral | None:
    """The number with what stands behind it, None where that is neither a percent sign, a scale word nor a unit."""
    end = 0
    rest = _SCALED_UNIT.sub(r"\1}\\text{", rest, count=1)
    if percent := _PERCENT.match(rest):
        value, end = Fraction(value) / 100, percent.end()
    elif scale := _SCALE.match(rest):
        value, end = value * _SCALES[scale[1] or scale[2]], scale.end()
    elif isinstance(value, int) and not mark and _ORDINAL.fullmatch(rest):
        return Numeral(value)
    unit = currency(mark) if mark else None
    rest = rest[end:]
    if not rest.strip():
        return Numeral(value, is_quotient, unit)
    if unit and rest.lstrip().startswith(("/", "per ")):  # $5/hour
        behind = read_unit(CURRENCIES[mark] + rest.replace("/", " per ", 1))
    else:
        behind = read_unit(rest)
        if unit and unit != behind:
            return None
    return None if behind is None else Numeral(value, is_quotient, behind)


def _in_mixed_units(text: str) -> Numeral | None:
    r"""A number in several units, each a part of the one before, in the last of them: `5\text{ ft } 6\text{ in}`."""
    text = " ".join(_STOP_BEHIND_LETTER.sub("", without_text_commands(text)[0]).split())
    text = _DOLLARS.sub(r"\1 dollars", text)
    for sign, name in () if "°" in text else _PRIMES:
        text = text.replace(sign, f" {name} ")
    text = text.replace("'", " arcmin ")
    is_negative, i = text.startswith("-"), int(text.startswith("-"))
    total, last, count = Fraction(0), None, 0
    while i < len(text):
        match = _MIXED_PART.match(text, i)
        unit = read_unit("\\," + match[4].strip().removesuffix(" and")) if match else None
        if match is None or unit is None or unit.is_noun or "^" in match[4]:
            return None
        amount = Fraction(to_number(match[1]))
        if match[2]:
            if not 0 < int(match[2]) < int(match[3]):
                return None
            amount += Fraction(int(match[2]), int(match[3]))
        if last is not None:
            parts = conversion(last, unit)
            if parts is None or not amount < parts or total.denominator > 1:
                return None
            total *= parts
        total, last, i, count = total + amount, unit, match.end(), count + 1
    if last is None or count < 2:
        return None
    return Numeral(-total if is_negative else total, unit=replace(last, is_mixed=True))


def numbers_in(text: str) -> dict[int, int]:
    """Where each decimal starts and ends, read from left to right in one pass: `1,234` is one and `1,2345` are two."""
    found: dict[int, int] = {}
    end = ungrouped_until = 0
    while digit := _DIGITS.search(text, end):
        start = digit.start()
        match = (_UNGROUPED if start < ungrouped_until else DECIMAL).match(text, start)
        found[start] = end = match.end() if match else start + 1
        # Where groups of three digits end badly, they do so from each of them on.
        if groups := _GROUPS.match(text, end):
            ungrouped_until = max(ungrouped_until, groups.end())
    return found


def normalize_spaces(text: str) -> str:
    r"""The text with one kind of space, minus, fraction bar and currency sign, and without `\!`, a negative space."""
    if "\\!" in text:
        text = _CLOSED_UP_COMMA.sub("{,}", text)
    if "\\" in text or "~" in text:
        text = _SPACE_COMMAND.sub(lambda match: "" if match[0] == "\\!" else " ", text)
        text = _CURRENCY_AS_TEXT.sub(r" \1 ", text)
    if not text.isascii():
        text = text.translate(_NORMAL)
    return " ".join(text.split())


def to_integer(digits: str) -> int:
    """The value of a run of ASCII digits.

    Raises:
        TooLarge: Where there are more than `MAX_DIGITS`.
    """
    if len(digits) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(digits)} digits, at most {MAX_DIGITS} are read")
    return int(digits)


def to_number(decimal: str) -> int | Fraction:
    """The value of what `DECIMAL` matches.

    Raises:
        TooLarge: Where it has more than `MAX_DIGITS` digits.
    """
    whole, _, fraction = decimal.replace("{,}", "").replace("\\,", "").replace(",", "").partition(".")
    return Fraction(to_integer(whole + fraction), 10 ** len(fraction)) if fraction else to_integer(whole)


def repeating(match: re.Match[str]) -> Fraction:
    """The value of what `REPEATING` matches: 0.1(6) is (16 - 1) / 90.

    Raises:
        TooLarge: Where it has more than `MAX_DIGITS` digits.
    """
    start, period = match[1] + match[2], match[3] or match[4] or match[5]
    difference = to_integer(start + period) - to_integer(start or "0")
    return Fraction(difference, (10 ** len(period) - 1) * 10 ** len(match[2]))


def power_of_ten(exponent: str) -> Fraction:
    """Ten to a signed run of digits.

    Raises:
        TooLarge: Where the exponent exceeds `MAX_EXPONENT`.
    """
    if len(exponent) > 8 or abs(int(exponent)) > MAX_EXPONENT:
        raise TooLarge(f"a power of ten beyond {MAX_EXPONENT}")
    return Fraction(10) ** int(exponent)


def scientific(text: str, start: int) -> tuple[Fraction, int] | None:
    r"""The power of ten that `e3` or `\times 10^3` at `start` stands for, and where it ends.

    Raises:
        TooLarge: As for `power_of_ten`.
    """
    if match := _E_NOTATION.match(text, start):
        return power_of_ten(match[1]), match.end()
    if match := _TIMES_TEN.match(text, start):
        return power_of_ten(match[1] or match[2]), match.end()
    return None


def _long_number(text: str) -> str | int | Fraction | None:
    """The digits of a plain number of any length, or its value where few are left without the padding zeros."""
    plain = text.replace("{,}", "").replace("\\,", "").replace(",", "")
    if plain != text and not DECIMAL.fullmatch(text.lstrip("+- ")):
        return None
    match = _LONG.fullmatch(plain)
    if match is None:
        return None
    fraction = (match[3] or "").rstrip("0")
    if len(match[2]) + len(fraction) <= MAX_DIGITS:
        value = int((match[2] + fraction) or "0") * (-1 if match[1] == "-" else 1)
        return Fraction(value, 10 ** len(fraction)) if fraction else value
    return match[1].replace("+", "") + match[2] + ("." + fraction if fraction else "")


def _sign_and_currency(text: str) -> tuple[bool, str, int]:
    """Whether a minus leads, which currency sign, and where the number starts: `-$5` and `$-5` are both read."""
    sign, found, i = "", "", 0
    for _ in range(2):
        if not sign and text[i : i + 1] in ("+", "-"):
            sign, i = text[i], i + 1
        if not found and text[i : i + 1] in "\\$£€¥₹":
            found = next((mark for mark in CURRENCIES if text.startswith(mark, i)), "")
            i += len(found)
        i += text[i : i + 1] == " "
    return sign == "-", found, i


def _fraction(text: str, start: int) -> tuple[int | Fraction, bool, int] | None:
    r"""A `\frac` of two whole numbers."""
    match = _FRAC.match(text, start)
    if match is None:
        return None
    numerator, denominator = match[1] or match[3], match[2] or match[4] or match[5]
    top, bottom = to_integer(numerator.lstrip("+-")), to_integer(denominator)
    if bottom == 0:
        return None
    return Fraction(-top if numerator.startswith("-") else top, bottom), True, match.end()


def _decimal(text: str, start: int) -> tuple[int | Fraction, bool, int] | None:
    """A number that starts with digits: a decimal, a quotient, a mixed number or scientific notation."""
    if "." in text and (match := REPEATING.match(text, start)):
        return repeating(match), False, match.end()
    match = DECIMAL.match(text, start)
    if match is None:
        return None
    value, end = to_number(match[0]), match.end()
    if end == len(text):
        return value, False, end
    if power := scientific(text, end):
        return value * power[0], False, power[1]
    if "." in match[0]:
        return value, False, end
    if slash := _SLASH.match(text, end):
        bottom = to_integer(slash[1])
        return (Fraction(value, bottom), True, slash.end()) if bottom else None
    return _mixed(value, text, end) or (value, False, end)


def _mixed(whole: int | Fraction, text: str, end: int) -> tuple[Fraction, bool, int] | None:
    """A whole number with a proper fraction behind it."""
    part = _fraction(text, end)
    if part is None and (match := _SPACED_FRACTION.match(text, end)):
        bottom = to_integer(match[2])
        part = (Fraction(to_integer(match[1]), bottom), True, match.end()) if bottom else None
    if part is None or not 0 < part[0] < 1:
        return None
    return Fraction(whole + part[0]), False, part[2]
