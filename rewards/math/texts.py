"""Answers that are not formulas: the letter of an option, a text, a numeral of another base."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.latex import TEXT_COMMAND
from rewards.math.lexer import FUNCTIONS
from rewards.math.numerals import normalize_spaces
from rewards.math.units import without_text_commands
from rewards.math.values import BaseNumeral, Choice, FiniteSet, Literal, NumberSet, Value, Words

MAX_TEXT = 500
"""Characters of a text or of a numeral of another base."""

_MARKUP = re.compile(rf"{TEXT_COMMAND} *+\{{([^{{}}]*+)\}}")

_CHOICE_REFERENCE = re.compile(r"\(([A-J])\)|([A-J])[).]?")
_CHOICE = re.compile(
    r"(?:(?:the )?(?:correct )?(?:option|choice|answer)(?: is)?:? *+)?"
    r"(?:\(([a-j])\)|([a-j])([).:]?))(?:(?=[ ,.:$\\])(.*+))?",
    re.IGNORECASE | re.DOTALL,
)
# Also a small letter in brackets or in a list, and a letter behind a word that takes the first one back.
_ANOTHER_CHOICE = re.compile(
    r"(?<![A-Za-z])\(?[A-J][).:](?![a-z])|\b(?:or|and) \(?[A-J]\b|^[A-J](?![A-Za-z' ])"
    r"|^[,;:/&|+ ]+[A-J](?![A-Za-z' ])|^[,;:/&|+ ]+[a-j]$|(?<![A-Za-z0-9)])\([a-j]\)|^(?:(?:or|and) )?[a-j][).:](?!\w)"
    r"|\b(?:maybe|possibly|perhaps|likely|probably|no|not|also)\b,? \(?[A-J]\b|^is (?:wrong|incorrect|false|not)\b"
)

_BASE_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
               "eleven": 11, "twelve": 12, "sixteen": 16}  # fmt: skip
_BASE = re.compile(
    r"(-?)\(?([0-9A-Za-z]++(?:\.[0-9A-Za-z]++)?)\)?"
    r"(?:_([0-9])|_\{\(?([0-9]{1,2}|[a-z]++)\)?\}| \(?(?:in )?base[ -]([0-9]{1,2}|[a-z]++)\)?)"
)
_GROUPED_BASE = re.compile(r"(?<=[0-9])(?:\\[, ]|\{,\}|,(?=[0-9]{3}(?![0-9])))(?=[0-9])")  # 1100\,1001_2
_PREFIXED = re.compile(r"(-?)0([xXbBoO])([0-9A-Fa-f]++)")
_PREFIXES = {"x": 16, "b": 2, "o": 8}

_LITERAL_SIGN = re.compile(
    r"\\(?:parallel|perp|sim|cong|simeq|sum|prod|int|oint|iint|lim|subset|subseteq|supset|nabla|partial|mapsto)(?![a-zA-Z])"
    "|[\u2225\u22a5\u223c\u2245\u2211\u220f\u222b]"
)
_IGNORED_IN_LITERALS = re.compile(r"\\(?:left|right|limits|nolimits|displaystyle)(?![a-zA-Z])|\\[,;:! ]")
_LITERAL_TOKEN = re.compile(r"\\[a-zA-Z]++|\\.|\S")
_BRACES_OF_ONE_SIGN = re.compile(r"(?<=[_^]) \{( \S+) \}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")  # not a difference of three numbers
_TIME_OF_DAY = re.compile(r"([0-9]{1,2}):([0-5][0-9])([ap]m)")  # without spaces and full stops
_TYPOGRAPHIC = str.maketrans("\u2019\u2010\u2011\u2013", "'---")
_ARTICLE = re.compile(r"(?:a|an|the) (?=\w)")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_PUNCTUATION = frozenset(" -'.,:;!?()/&%\"+°")
_PRODUCT = re.compile(r"[abc]++|[xyz]++|[pqrs]++|[uvw]++|[klmn]++")
_PROSE_TOKEN = re.compile(r"\\?[a-zA-Z]++|[^a-zA-Z\\\s]")
_CONDITIONS = """when whenever if iff where given since because unless provided assuming suppose but instead rather not
                 isn while although except"""
_CONDITION_WORDS = frozenset(_CONDITIONS.split())
_PLACE_WORDS = frozenset(("for", "at", "with", "as", "on", "by", "once", "whereas"))
_EMPTY = frozenset("""no solution|no solutions|no real solution|no real solutions|empty set|none|there are no solutions
                   |there is no solution""".replace("\n", "").replace("  ", "").split("|"))  # fmt: skip
_REAL = frozenset(("all real numbers", "all reals", "all real x", "real numbers", "reals", "set of real numbers",
                   "set of all real numbers"))  # fmt: skip
_UNDEFINED = frozenset(("does not exist", "dne", "limit does not exist", "it does not exist"))


def without_markup(text: str) -> str:
    r"""The text with what is in `\text{}` and its like taken out of them."""
    for _ in range(3):
        if "\\" not in text:
            break
        text = _MARKUP.sub(r"\1", text)
    return text


def wrapped(text: str) -> str:
    r"""What a single `\text{}` around the whole text has in it; empty where there is none."""
    match = _MARKUP.fullmatch(text.strip())
    return match[1].strip() if match else ""


def choice_of_reference(text: str) -> Choice | None:
    r"""The option that a reference is: `B`, `(B)`, `\textbf{(B)}`."""
    match = _CHOICE_REFERENCE.fullmatch(without_markup(text).strip())
    return Choice(match[1] or match[2]) if match else None


def choice_of_answer(text: str) -> Choice | None:
    """The one option that an answer names: `B`, `(b)`, `B) 42`, `option B`."""
    match = _CHOICE.fullmatch(normalize_spaces(without_markup(text)))
    if match is None:
        return None
    rest = (match[4] or "").strip(" .$")
    if rest and ((match[2] and not match[3]) or _ANOTHER_CHOICE.search(rest)):
        return None
    return Choice((match[1] or match[2]).upper())


def literal(text: str) -> Literal | None:
    r"""A formula with a sign that is not computed with, `\parallel` or `\sum`; None of any other text.

    White space, and braces around a single sign, make no difference.
    """
    if len(text) > MAX_TEXT or not _LITERAL_SIGN.search(text) or text.count("{") != text.count("}"):
        return None
    text = _IGNORED_IN_LITERALS.sub("", without_markup(normalize_spaces(text)).replace("$", ""))
    return Literal(_BRACES_OF_ONE_SIGN.sub(r"\1", " ".join(_LITERAL_TOKEN.findall(text))))


def is_word(text: str) -> bool:
    """Whether three letters are rather a name than a product: `ASA`, `cat`, and not `xyz`."""
    return len(text) == 3 and text.isascii() and text.isalpha() and not _PRODUCT.fullmatch(text)


def is_date(text: str) -> bool:
    """Whether a text is a date in digits: 2024-03-15."""
    return _DATE.fullmatch(text) is not None


def time_of_day(text: str) -> tuple[int, int, str] | None:
    """Hours, minutes and `am` or `pm`: `3:30 p.m.`, None of anything else."""
    if ":" not in text or len(text) > MAX_TEXT:
        return None
    text = "".join(without_text_commands(text)[0].replace("{:}", ":").replace(".", "").split())
    match = _TIME_OF_DAY.fullmatch(text.lower())
    return (int(match[1]), int(match[2]), match[3]) if match else None


def words(text: str) -> Words | None:
    """A text without differences of case, spacing, punctuation at its ends and mark-up; None where it is not one.

    A date in digits is a text.
    """
    text = without_markup(text).replace("\\ ", " ").replace("\\,", " ").replace("~", " ").replace("$", "")
    text = text.translate(_TYPOGRAPHIC)
    text = _ARTICLE.sub("", " ".join(text.split()).strip(" .,;:!\"'*_`").casefold(), count=1)
    if not text or len(text) > MAX_TEXT:
        return None
    if not all(character.isalnum() or character in _PUNCTUATION for character in text):
        return None
    if not (any(character.isalpha() for character in text) or is_date(text)) or len(_LETTER_OR_DIGIT.findall(text)) < 2:
        return None
    return Words(text)


def is_condition(text: str) -> bool:
    r"""Whether a side that is no formula says when the next one holds: `41 \text{ when } n`, `\text{for } n`.

    `\text{Area of the base}` and `5 \text{ boxes of } 12` are names for what comes next.
    """
    tokens = _PROSE_TOKEN.findall(without_markup(text).replace("s.t.", " when "))
    is_prose = [token.isalpha() and len(token) > 1 and token not in FUNCTIONS for token in tokens]
    if not any(is_prose):
        # 41 | n
        return len(tokens) > 2 and tokens[-1].isalpha() and tokens[-2] in (";", "|", "@", "\\mid", "\\vert", "\\colon")
    if is_prose[0]:
        if tokens[0].lower() in _CONDITION_WORDS | _PLACE_WORDS:
            return True
        # the minimum of 41 when x
        first = next((i for i, token in enumerate(tokens) if token.isdigit()), len(tokens))
        return len(tokens[-1]) == 1 and not _CONDITION_WORDS.isdisjoint(map(str.lower, tokens[first:]))
    if any(token.lower() in _CONDITION_WORDS for token in tokens):
        return True
    # 41 at n, 41 for 2n
    last = max(i for i, found in enumerate(is_prose) if found)
    behind = tokens[last + 1 :]
    variables = [token for token in behind if len(token) == 1 and token.isalpha()]
    return bool(variables) and (len(behind) <= 2 or tokens[last].lower() in _PLACE_WORDS)


def meaning(text: Words) -> Value:
    """What a text says where a formula can say it as well."""
    if text.text in _EMPTY:
        return FiniteSet()
    if text.text in _REAL:
        return NumberSet("R")
    return Words("does not exist") if text.text in _UNDEFINED else text


def base_numeral(text: str) -> BaseNumeral | None:
    r"""A numeral with its base: `1011_2`, `\text{FF}_{16}`, `(12)_{three}`, `1011 base 2`, `0b1011`."""
    text = " ".join(without_markup(text).split()).replace(" _", "_").replace("_ ", "_")
    text = text.replace("{ ", "{").replace(" }", "}")
    if len(text) > MAX_TEXT:
        return None
    if "_" in text or "base" in text:
        text = _GROUPED_BASE.sub("", text)
    if match := _PREFIXED.fullmatch(text):
        base, digits = _PREFIXES[match[2].lower()], match[3]
    elif match := _BASE.fullmatch(text):
        named, digits = match[3] or match[4] or match[5], match[2]
        base = int(named) if named.isdigit() else _BASE_WORDS.get(named, 0)
        if not digits[0].isdigit() and not (base > 10 and (digits.isupper() or len(digits) > 1)):
            return None  # a variable with an index: x_2
    else:
        return None
    if not 2 <= base <= 36:
        return None
    whole, _, fraction = digits.partition(".")
    try:
        value = Fraction(int(whole + fraction, base), base ** len(fraction))
    except ValueError:
        return None  # a digit that the base does not have
    return BaseNumeral(-value if match[1] else value, base)
