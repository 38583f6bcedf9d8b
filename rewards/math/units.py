r"""Units and currencies: what they measure, an exact factor for each spelling, and the nouns that may stand instead.

A unit behind a number is read by a small grammar: products, quotients and powers of names, in LaTeX or plain text.
`km/h`, `\mathrm{m}\cdot\mathrm{s}^{-1}`, `miles per hour`, `sq ft` and `\frac{\text{kg}}{\text{m}^3}` are units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.latex import TEXT_COMMAND

CURRENCIES = {"\\$": "dollar", "$": "dollar", "£": "pound", "\\pounds": "pound", "€": "euro", "¥": "yen", "₹": "rupee"}
MAX_CHARACTERS = 120
"""Characters of a unit with its mark-up."""

_TABLE = (
    # what is measured, factor, names
    ("dollar", 1, "dollar dollars usd"),
    ("dollar", Fraction(1, 100), "cent cents ¢"),
    ("euro", 1, "euro euros eur"),
    ("pound", 1, "pound pounds gbp"),
    ("yen", 1, "yen jpy"),
    ("rupee", 1, "rupee rupees inr"),
    ("length", Fraction(254, 10_000), "in inch inches"),
    ("length", Fraction(3048, 10_000), "ft foot feet"),
    ("length", Fraction(9144, 10_000), "yd yard yards yds"),
    ("length", Fraction(1_609_344, 1000), "mi mile miles"),
    ("length^2", 10_000, "ha hectare hectares"),
    ("length^2", Fraction(40_468_564_224, 10**7), "acre acres"),
    ("mass", Fraction(45_359_237, 100_000), "lb lbs"),
    ("mass", Fraction(45_359_237, 1_600_000), "oz ounce ounces"),
    ("length^3", Fraction(3_785_411_784, 10**12), "gal gallon gallons"),
    ("length^3", Fraction(3_785_411_784, 4 * 10**12), "qt quart quarts"),
    ("length^3", Fraction(3_785_411_784, 8 * 10**12), "pt pint pints"),
    ("length^3", Fraction(1, 10**6), "cc"),
    ("time", 60, "min minute minutes mins"),
    ("time", 1, "sec secs"),
    ("time", 3600, "h hour hours hr hrs"),
    ("time", 86_400, "day days"),
    ("time", 604_800, "week weeks wk wks"),
    ("month", 1, "month months"),
    ("month", 12, "year years yr yrs"),
    ("month", 120, "decade decades"),
    ("month", 1200, "century centuries"),
    ("am", 1, "am"),
    ("pm", 1, "pm"),
    ("degree", 1, "degree degrees ° deg"),
    ("degree", Fraction(1, 60), "arcminute arcminutes arcmin"),
    ("degree", Fraction(1, 3600), "arcsecond arcseconds arcsec"),
    ("temperature C", 1, "°C ℃ celsius"),
    ("temperature F", 1, "°F ℉ fahrenheit"),
    ("temperature K", 1, "K kelvin kelvins"),
    ("radian", 1, "radian radians rad rads"),
    ("length/time", Fraction(1000, 3600), "kph kmh kmph"),
    ("length/time", Fraction(1_609_344, 3_600_000), "mph"),
    ("length/time", Fraction(3048, 10_000), "fps"),
    ("mass*length^2/time^2", 3_600_000_000, "kWh"),
)
# Those that take the prefixes of the metric system; mass is in grams.
_METRIC = (
    # what is measured, factor, symbols, names
    ("length", 1, "m", "meter metre"),
    ("mass", 1, "g", "gram gramme"),
    ("time", 1, "s", "second"),
    ("length^3", Fraction(1, 1000), "l L", "liter litre"),
    ("mass*length/time^2", 1000, "N", "newton"),
    ("mass*length^2/time^2", 1000, "J", "joule"),
    ("mass*length^2/time^2", 4184, "cal", "calorie"),
    ("mass*length^2/time^3", 1000, "W", "watt"),
    ("mass/length/time^2", 1000, "Pa", "pascal"),
    ("1/time", 1, "Hz", "hertz"),
    ("current", 1, "A", "ampere amp"),
    ("current*time", 1, "C", "coulomb"),
    ("mass*length^2/time^3/current", 1000, "V", "volt"),
    ("mass*length^2/time^3/current^2", 1000, "Ω", "ohm"),
    ("time^4*current^2/mass/length^2", Fraction(1, 1000), "F", "farad"),
    ("mass/time^2/current", 1000, "T", "tesla"),
    ("amount", 1, "mol", "mole"),
)
_PREFIXES = (("n", "nano", -9), ("µ", "micro", -6), ("μ", "micro", -6), ("m", "milli", -3), ("c", "centi", -2),
             ("d", "deci", -1), ("", "", 0), ("h", "hecto", 2), ("k", "kilo", 3), ("M", "mega", 6),
             ("G", "giga", 9))  # fmt: skip
# A short name behind a number is a product of variables unless it is one of these, or `\text{}` says that it is a unit.
_SHORT_NAMES = """mm cm dm km nm µm μm in ft yd mi mg kg lb lbs ml ms sec min hr hrs yr yrs day yen kJ kW Pa Hz mol ohm
                  rad deg amp amps usd eur jpy inr kph kmh mph PM AM kPa kHz MHz oz ° °C °F ℃ ℉ ¢ Ω"""
_SHORT = frozenset(_SHORT_NAMES.split())
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
# What may stand before and behind a unit without changing what is measured: `5 US dollars`, `6 feet tall`.
_BEFORE_UNIT = frozenset(("us", "whole", "full", "total", "additional", "extra"))
_AFTER_UNIT = frozenset(("long", "wide", "tall", "high", "deep", "thick", "old", "later", "ago", "total", "away"))
_POWER_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_POWER_BEHIND = {"squared": 2, "cubed": 3}
_NOUN = re.compile(r"[a-zA-Z]{2,20}+")
_MAX_NOUN_WORDS = 4

_TEXT = re.compile(
    rf"(?:{TEXT_COMMAND}|\\unit(?![a-z]))"
    r" *+(?:\{([^{}\\]*+)\}|(?=[a-zA-Z ]))"
)
_REWRITTEN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\[,;:! ]|\\(?:quad|thinspace)(?![a-z])|~|\{\}", " "),
        (r"\^ *+(?:\{ *+\\circ *+\}|\\circ(?![a-z]))|\\(?:degree|circ)(?![a-z])", "°"),
        (r"\\mu(?![a-z]) *+", "µ"),
        (r"\\Omega(?![a-z])", "Ω"),
        (r"\\cdot(?![a-z])|\\times(?![a-z])|[·⋅∙\u00d7]", "*"),
        (r"\^ *+\{ *+([-+\u2212]?+[0-9]) *+\}", r"^\1"),
    )
)
_THEN_REWRITTEN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\$\^ *+([0-9])\$", r"^\1"),
        (r"⁻¹", "^-1"),
        (r"⁻²", "^-2"),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"\^ *+\{ *+([-+\u2212]?+[0-9]) *+\}", r"^\1"),
        (r"\\[dtc]?frac *+\{([^{}]*+)\} *+\{([^{}]*+)\}", r" (\1)/(\2) "),
        (r"[µμ] *+", "µ"),
        (r"(?<![a-zA-Z])([kM]) *+Ω", r"\1Ω"),
        (r"(?<![a-zA-Z])[aA]\. ?[mM](?![a-zA-Z])", "AM"),
        (r"(?<![a-zA-Z])[pP]\. ?[mM](?![a-zA-Z])", "PM"),
        (r"(?<![a-zA-Z])per(?![a-zA-Z])", "/"),
        (r"(?:°|\bdegrees?) *+(?:C|[Cc]elsius|[Cc]entigrade)\b", "°C"),
        (r"(?:°|\bdegrees?) *+(?:F|[Ff]ahrenheit)\b", "°F"),
        (r"(?<=[a-zA-Z])\.", ""),
        (r"[{}]", " "),
    )
)
# Where a unit may start: a space, a thin one, `\text{}`, a fraction of units, a group of these.
_START = re.compile(
    rf" |\\,|\{{\}}|\{{ *+(?={TEXT_COMMAND})|{TEXT_COMMAND}(?= *+\{{)"
    r"|\\[dt]?frac *+\{ *+\\(?=text|math)"
)
_MAX_STARTS = 12
_LETTERS = re.compile(r"(?<![\\a-zA-Z])[a-df-zA-Z]")
_TOKEN = re.compile(r" *+(?:([kM]?Ω|[a-zA-Z]++|°[CF]?|µ[a-zA-Z]++|[℃℉¢])|\^ *+([-+\u2212]?+[1-9])|([*/()]))")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts.

    Attributes:
        powers: What is measured, as powers of base quantities; of a noun that is no known unit, the noun itself.
        factor: What one of it is in the base units.
        is_noun: Whether it is not in the table: apples.
        is_mixed: Whether the number was written in several units: 5 ft 6 in.
    """

    powers: tuple[tuple[str, int], ...]
    factor: Fraction = Fraction(1)
    is_noun: bool = False
    is_mixed: bool = False

    @property
    def dimension(self) -> str:
        """The powers as a text: `length/time^2`."""
        signs = {True: "*", False: "/"}
        parts = [signs[n > 0] + name + (f"^{abs(n)}" if abs(n) > 1 else "") for name, n in sorted(self.powers)]
        text = "".join(sorted(parts))  # a star sorts before a slash
        return {"*length^3": "volume"}.get(text, text.removeprefix("*"))


def _sorted_powers(powers: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))


def _product(left: Unit, right: Unit, exponent: int = 1) -> Unit:
    """The first unit times a power of the second."""
    powers = dict(left.powers)
    for name, times in right.powers:
        powers[name] = powers.get(name, 0) + times * exponent
    return Unit(_sorted_powers(powers), left.factor * right.factor**exponent)


_ONE = Unit(())


def _measure(text: str) -> tuple[tuple[str, int], ...]:
    """The dimension that the table writes as `mass*length/time^2`."""
    powers: dict[str, int] = {}
    for sign, name, exponent in re.findall(r"(^|[*/])([^*/^]+)(?:\^([0-9]))?", text):
        if name != "1":
            powers[name] = powers.get(name, 0) + int(exponent or 1) * (-1 if sign == "/" else 1)
    return _sorted_powers(powers)


def _table() -> dict[str, Unit]:
    units = {
        name: Unit(_measure(measure), Fraction(factor)) for measure, factor, names in _TABLE for name in names.split()
    }
    for measure, factor, symbols, names in _METRIC:
        for prefix, spelled, power in _PREFIXES:
            if prefix in ("c", "d", "h") and symbols not in ("m", "g", "l L", "Pa"):
                continue
            unit = Unit(_measure(measure), Fraction(factor) * Fraction(10) ** power)
            for symbol in symbols.split():
                units.setdefault(prefix + symbol, unit)
            for name in names.split():
                units[spelled + name] = units[spelled + name + "s"] = unit
    return units


UNITS = _table()
# A word that has two meanings is either, as the other side says: pounds of money or of mass, degrees of an angle or of
# a temperature.
_OTHER_MEANINGS = {
    UNITS["pound"]: (UNITS["lb"],),
    UNITS["degree"]: (UNITS["°C"], UNITS["°F"]),
}


def currency(mark: str) -> Unit:
    """The unit of a currency sign."""
    return UNITS[CURRENCIES[mark]]


def conversion(unit: Unit, wanted: Unit) -> Fraction | None:
    """What one `unit` is in `wanted`; None where they measure different things.

    Nouns that have a word in common measure the same: `red apples` and `apples`.
    """
    if unit.is_noun and wanted.is_noun:
        (name, exponent), (other, other_exponent) = unit.powers[0], wanted.powers[0]
        is_same = exponent == other_exponent and not set(name.split()).isdisjoint(other.split())
        return Fraction(1) if is_same else None
    for meaning in _meanings(unit):
        for other_meaning in _meanings(wanted):
            if meaning.powers == other_meaning.powers:
                return meaning.factor / other_meaning.factor
    return None


def is_left_out(unit: Unit | None, other: Unit | None) -> bool:
    """Whether one side may leave out the unit of the other: not where that is several, 5 ft 6 in."""
    return not any(side is not None and side.is_mixed for side in (unit, other))


def _meanings(unit: Unit) -> tuple[Unit, ...]:
    return unit, *_OTHER_MEANINGS.get(replace(unit, is_mixed=False), ())


def read_unit(text: str) -> Unit | None:
    r"""The unit that a text behind a number is, in full: ` cm^2`, `\text{ apples}`; None where it is anything else."""
    if len(text) > MAX_CHARACTERS:
        return None
    if (mark := text.replace("\\,", " ").strip()) in CURRENCIES:
        return currency(mark)
    is_spaced, is_thin = text.startswith((" ", "\\,")), text.startswith("\\,")
    plain = _plain_words(text)
    text, found = without_text_commands(text)
    tokens = _tokens(text)
    # A short name below a fraction bar is a variable, and so is one in brackets: 5/cm, 5(def).
    is_rate = len(tokens) > 1 and tokens[0] == "/" and (len(tokens[1]) > 3 or "per" in text)
    if not tokens or (tokens[0] in "*/()" and not (is_thin or found or is_rate)):
        return None
    names = [token for token in tokens if token[0] not in "^*/()"]
    # m/s, where m alone is a variable; and a thin space is what stands between a number and its unit
    is_unit = all(map(_in_table, names)) and (is_thin or "/" in tokens[1:])
    unit, end = _quotient(tokens, 0, frozenset() if is_unit else plain, is_spaced=is_spaced)
    return unit if end == len(tokens) else None


def split_unit(text: str) -> tuple[str, Unit | None]:
    r"""An expression and the unit behind it, None where there is none: `12\pi \text{ cm}^2`, `3 sqrt(2) meters`."""
    starts = list(_START.finditer(text, max(1, len(text) - MAX_CHARACTERS)))
    for match in starts[-_MAX_STARTS:]:
        before = _without_space_behind(text[: match.start()])
        if not before or before.endswith((*"+-*/^_({,", "\\cdot", "\\times")):
            continue
        unit = read_unit(text[match.start() :])
        if unit is None:
            continue
        if match[0] == " ":
            is_unit = not unit.is_noun or before[-1] in ")}"
        else:
            # Behind a thin space as well, letters beside variables are variables.
            is_unit = match[0] != "\\," or "{" in text[match.end() :] or not (unit.is_noun or _has_letters(before))
        if is_unit:
            return before, unit
    return text, None


def _without_space_behind(text: str) -> str:
    while (shorter := text.rstrip().removesuffix("\\,").removesuffix("{}")) != text:
        text = shorter
    return text


def _has_letters(text: str) -> bool:
    return _LETTERS.search(text) is not None


def without_text_commands(text: str) -> tuple[str, bool]:
    r"""The text with what is in `\text{}`, `\mathrm{}` and their like taken out of them, and whether there were any."""
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return _TEXT.subn(lambda match: f" {match[1] or ''} ", text)[0], _TEXT.search(text) is not None


def _plain_words(text: str) -> frozenset[str]:
    r"""The words that are not in `\text{}` or its like."""
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    return frozenset(re.findall(r"[a-zA-Z]+", _TEXT.sub(" ", text)))


def _tokens(text: str) -> list[str]:
    """Names, `^2`, and the signs `*/()`; empty where there is anything else."""
    for pattern, replacement in _THEN_REWRITTEN:
        text = pattern.sub(replacement, text)
    text = text.strip()
    tokens, i = [], 0
    while i < len(text):
        match = _TOKEN.match(text, i)
        if match is None:
            return []
        tokens.append(match[1] or match[3] or "^" + match[2].replace("\u2212", "-"))
        i = match.end()
    return tokens


def _quotient(
    tokens: Sequence[str], i: int, plain: frozenset[str], *, is_spaced: bool, depth: int = 0
) -> tuple[Unit | None, int]:
    """The product and quotient of units that starts at `i`, None where there is none, and where it ends."""
    result, sign, is_first = _ONE, 1, True
    if i < len(tokens) and tokens[i] == "/":  # dollars stand before it, or nothing: `5 per hour`
        sign, i = -1, i + 1
    while i < len(tokens):
        if tokens[i] == "(" and depth < 3:
            unit, i = _quotient(tokens, i + 1, plain, is_spaced=True, depth=depth + 1)
            if i == len(tokens) or tokens[i] != ")":
                return None, i
            i += 1
            exponent = 1
        else:
            start = i
            while i < len(tokens) and tokens[i][0] not in "^*/()":
                i += 1
            exponent = int(tokens[i][1:]) if i < len(tokens) and tokens[i][0] == "^" else 1
            unit = _phrase(tokens[start:i], exponent, plain, is_spaced=is_spaced)
            i += exponent != 1 or (i < len(tokens) and tokens[i] == "^1")
        if unit is None:
            return None, i
        is_alone = is_first and sign == 1 and (i == len(tokens) or tokens[i] == ")")
        result = unit if is_alone else _product(result, unit, sign)
        is_first = False
        if i == len(tokens) or tokens[i] == ")":
            return result, i
        sign = -1 if tokens[i] == "/" else 1
        i += tokens[i] in "*/"
    return None, i


def _phrase(words: Sequence[str], exponent: int, plain: frozenset[str], *, is_spaced: bool) -> Unit | None:
    """The unit that words side by side are, the last one to a power: `square feet`, `kg m^2`, `red apples`."""
    if not words:
        return None
    if len(words) > 1 and exponent == 1:
        if power := _POWER_BEFORE.get(words[0].lower()):
            return _phrase(words[1:], power, frozenset(), is_spaced=True)
        if power := _POWER_BEHIND.get(words[-1].lower()):
            return _phrase(words[:-1], power, frozenset(), is_spaced=True)
    if len(words) > 1 and words[-1].lower() in _AFTER_UNIT and _known(words[-2], plain):
        words = words[:-1]
    elif len(words) > 1 and words[0].lower() in _BEFORE_UNIT and _known(words[1], plain):
        words = words[1:]
    if is_spaced and exponent in (2, 3) and words == ["m"]:
        plain = frozenset()  # 14 m^2 is an area, 14m^2 a product
    known = [_known(word, plain) for word in words]
    if not all(known) or (len(known) > 1 and not plain.isdisjoint(words)):
        return _noun(words, exponent, plain)
    unit = _ONE
    for factor in known[:-1]:
        unit = _product(unit, factor or _ONE)
    return _product(unit, known[-1] or _ONE, exponent)


def _in_table(word: str) -> Unit | None:
    return UNITS.get(word) or UNITS.get(word.lower())


def _known(word: str, plain: frozenset[str]) -> Unit | None:
    """The unit in the table; a short name that is no text is one only where nobody takes it for variables."""
    is_unit = word not in plain or word in _SHORT or word.lower() in _SHORT or len(word) > 3
    return _in_table(word) if is_unit else None


def _noun(words: Sequence[str], exponent: int, plain: frozenset[str]) -> Unit | None:
    lowered = [word.lower() for word in words]
    if len(words[0]) < 3 and words[0] in plain and words[0].lower() not in ("of", "us"):
        return None  # variables
    if len(words) > _MAX_NOUN_WORDS or not _NOT_UNITS.isdisjoint(lowered) or not all(map(_NOUN.fullmatch, words)):
        return None
    return Unit(((" ".join(map(_singular, lowered)), exponent),), is_noun=True)


def _singular(noun: str) -> str:
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
