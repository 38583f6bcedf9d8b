"""Units and currencies: a dimension and an exact factor for each spelling, and the nouns that may stand instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

CURRENCIES = {"\\$": "dollar", "$": "dollar", "£": "pound", "\\pounds": "pound", "€": "euro", "¥": "yen", "₹": "rupee"}

_TABLE = (
    # dimension, factor, names
    ("dollar", 1, "dollar dollars usd"),
    ("dollar", Fraction(1, 100), "cent cents ¢"),
    ("euro", 1, "euro euros eur"),
    ("pound", 1, "pound pounds"),
    ("yen", 1, "yen jpy"),
    ("rupee", 1, "rupee rupees inr"),
    ("length", Fraction(1, 10**9), "nm nanometer nanometers nanometre nanometres"),
    ("length", Fraction(1, 10**6), "µm μm micrometer micrometers micrometre micrometres"),
    ("length", Fraction(1, 1000), "mm millimeter millimeters millimetre millimetres"),
    ("length", Fraction(1, 100), "cm centimeter centimeters centimetre centimetres"),
    ("length", Fraction(1, 10), "dm decimeter decimeters decimetre decimetres"),
    ("length", 1, "m meter meters metre metres"),
    ("length", 1000, "km kilometer kilometers kilometre kilometres"),
    ("length", Fraction(254, 10_000), "in inch inches"),
    ("length", Fraction(3048, 10_000), "ft foot feet"),
    ("length", Fraction(9144, 10_000), "yd yard yards"),
    ("length", Fraction(1_609_344, 1000), "mi mile miles"),
    ("mass", Fraction(1, 1000), "mg milligram milligrams"),
    ("mass", 1, "g gram grams"),
    ("mass", 1000, "kg kilogram kilograms"),
    ("mass", Fraction(45_359_237, 100_000), "lb lbs"),
    ("volume", Fraction(1, 1000), "ml milliliter milliliters millilitre millilitres"),
    ("volume", 1, "l liter liters litre litres"),
    ("time", Fraction(1, 1000), "ms millisecond milliseconds"),
    ("time", 1, "s second seconds sec secs"),
    ("time", 60, "min minute minutes mins"),
    ("time", 3600, "h hour hours hr hrs"),
    ("time", 86_400, "day days"),
    ("time", 604_800, "week weeks"),
    ("month", 1, "month months"),
    ("year", 1, "year years yr yrs"),
    ("degree", 1, "degree degrees ° deg"),
    ("temperature C", 1, "°C ℃ celsius"),
    ("temperature F", 1, "°F ℉ fahrenheit"),
    ("radian", 1, "radian radians rad"),
    ("length/time", Fraction(1000, 3600), "kph kmh"),
    ("length/time", Fraction(1_609_344, 3_600_000), "mph"),
    ("force", 1, "N newton newtons"),
    ("energy", 1, "J joule joules"),
    ("energy", 1000, "kJ kilojoule kilojoules"),
    ("power", 1, "W watt watts"),
    ("power", 1000, "kW kilowatt kilowatts"),
    ("pressure", 1, "Pa pascal pascals"),
    ("frequency", 1, "Hz hertz"),
    ("voltage", 1, "V volt volts"),
    ("current", 1, "A ampere amperes amp amps"),
    ("resistance", 1, "ohm ohms Ω"),
    ("amount", 1, "mol mole moles"),
)
# A single letter behind a number is a variable, unless `\text{}` says that it is a unit.
_ONLY_AS_TEXT = frozenset("mgslhNJWVA")
# Words that change the number before them or put another one beside it: `14 dozen`, `14 or fifteen`.
_NOT_UNIT_WORDS = """
    or and not but nor plus minus times over divided per mod modulo choose factorial squared cubed doubled tripled
    halved inverse negative half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths
    seventh sevenths eighth eighths ninth ninths tenth tenths eleventh elevenths twelfth twelfths sixteenth
    sixteenths twentieth twentieths hundredth hundredths thousandth thousandths millionth millionths billionth
    billionths dozen dozens tens hundred hundreds thousand thousands million millions billion billions trillion
    trillions quadrillion quadrillions quintillion quintillions googol lakh lakhs crore crores pi percent
    percentage percents base zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety sqrt exp log
    sin cos tan sec csc cot abs arcsin arccos arctan sinh cosh tanh alpha beta gamma delta epsilon theta lambda
    sigma phi omega rho tau psi chi eta zeta kappa infinity inf nan maybe possibly wrong false incorrect about
    roughly approximately either otherwise instead except unless where which because since if then for with
    without than less more is are was were may might could hence thus so therefore but actually no wait oops
    however mean meant sorry abc xyz
"""
_NOT_UNITS = frozenset(_NOT_UNIT_WORDS.split())
_UNIT = re.compile(
    r" *+(?:\\(?:text|mathrm|textrm|mbox|textbf|rm) *+\{([^{}\\]*+)\}|([^{}\\^]++))?"
    r" *+(?:\^ *+(?:([23])|\{ *+([23]) *+\}))?"
)
_STACKED = re.compile(
    r"\\[dt]?+frac *+\{ *+\\(?:text|mathrm) *+\{([^{}\\]*+)\} *+\}"
    r" *+\{ *+\\(?:text|mathrm) *+\{([^{}\\]*+)\} *+(\^ *+\{?[23]\}?)? *+\}"
)
_FREE_UNIT = re.compile(r"[a-zA-Z]{2,20}+(?: [a-zA-Z]{2,20}+){0,3}+")
_POWER_WORDS = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3, "cu": 3}
_EXPONENT_AT_END = re.compile(r"\^\{?([23])\}?$")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts.

    Attributes:
        dimension: What is measured; of a noun that is no known unit, the noun itself.
        factor: What one of it is in the dimension's base unit.
        is_noun: Whether it is not in the table: apples.
    """

    dimension: str
    factor: Fraction = Fraction(1)
    is_noun: bool = False


UNITS = {name: Unit(dimension, Fraction(factor)) for dimension, factor, names in _TABLE for name in names.split()}


def currency(mark: str) -> Unit:
    """The unit of a currency sign."""
    return UNITS[CURRENCIES[mark]]


def read_unit(text: str) -> Unit | None:
    r"""The unit that a text behind a number is, in full: ` cm^2`, `\text{ apples}`; None where it is anything else."""
    rest = text.replace("\\,", " ").strip()
    if rest in ("^\\circ", "^{\\circ}", "\\degree"):
        return UNITS["degree"]
    if rest.startswith(("^\\circ", "^{\\circ}")):
        scale = rest.removeprefix("^\\circ").removeprefix("^{\\circ}").strip()
        for wrapped in ("\\text{", "\\mathrm{"):
            scale = scale.removeprefix(wrapped)
        return UNITS.get("°" + scale.rstrip("}").strip())
    if rest in CURRENCIES:
        return currency(rest)
    if rest == "\\Omega":
        return UNITS["ohm"]
    if stacked := _STACKED.fullmatch(rest):
        return _quotient(f"{stacked[1].strip()}/{stacked[2].strip()}{(stacked[3] or '').replace(' ', '')}", 1)
    match = _UNIT.fullmatch(rest.replace("²", "^2").replace("³", "^3"))
    if match is None:
        return None
    is_text = match[1] is not None
    word = (match[1] if is_text else match[2] or "").strip().rstrip(".")
    exponent = int(match[3] or match[4] or 1)
    if is_text and exponent == 1 and word not in UNITS and (at_end := _EXPONENT_AT_END.search(word)):
        word, exponent = word[: at_end.start()], int(at_end[1])
    first, _, others = word.partition(" ")
    if exponent == 1 and others and first.lower() in _POWER_WORDS:
        word, exponent = others.strip(), _POWER_WORDS[first.lower()]
    if quotient := _quotient(word, exponent):
        return quotient
    known = UNITS.get(word) or UNITS.get(word.lower())
    if known and (is_text or exponent > 1 or word not in _ONLY_AS_TEXT):
        return _powered(known, exponent)
    # A short run of letters behind a number is a product of variables: 2xy.
    if _FREE_UNIT.fullmatch(word) and (is_text or len(word) > 2) and _NOT_UNITS.isdisjoint(word.lower().split()):
        noun = " ".join(_singular(part) for part in word.lower().split())
        return _powered(Unit(noun, is_noun=True), exponent)
    return None


def _quotient(word: str, exponent: int) -> Unit | None:
    """A unit over another one: `km/h`, `miles per hour`, `m/s^2`, whose exponent belongs to the second."""
    top, slash, bottom = word.replace(" per ", "/").partition("/")
    if not slash:
        return None
    if at_end := _EXPONENT_AT_END.search(bottom):
        bottom, exponent = bottom[: at_end.start()], int(at_end[1])
    first, second = (UNITS.get(name) or UNITS.get(name.lower()) for name in (top.strip(), bottom.strip()))
    if first is None or second is None:
        return None
    second = _powered(second, exponent)
    return Unit(f"{first.dimension}/{second.dimension}", first.factor / second.factor)


def same_dimension(left: Unit, right: Unit) -> bool:
    """Whether two units measure the same: `red apples` and `apples` do, `cm` and `kg` do not."""
    if left.is_noun and right.is_noun:
        return not set(left.dimension.split()).isdisjoint(right.dimension.split())
    return left.dimension == right.dimension


def _powered(unit: Unit, exponent: int) -> Unit:
    if exponent == 1:
        return unit
    if unit.dimension == "length" and exponent == 3:
        return Unit("volume", unit.factor**3 * 1000)  # a cubic metre is a thousand litres
    return Unit(f"{unit.dimension}^{exponent}", unit.factor**exponent, unit.is_noun)


def _singular(noun: str) -> str:
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
