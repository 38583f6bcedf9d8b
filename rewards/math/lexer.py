r"""LaTeX and plain text as one list of tokens, by fixed tables; what is not in a table is refused.

Mark-up without a meaning (`\left`, `\,`, `\displaystyle`, `\mathrm{}`) is gone afterwards, and the many spellings of
one sign (`\le`, `\leq`, `<=`, `≤`) are one token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.latex import FONT_MACROS, TEXT_MACROS
from rewards.math.nodes import ONE_ARGUMENT, SEVERAL_ARGUMENTS, Unreadable
from rewards.math.numerals import (
    DECIMAL,
    DECIMAL_IN_BRACKETS,
    REPEATING,
    TooLarge,
    normalize_spaces,
    repeating,
    scientific,
    to_number,
)

MAX_CHARACTERS = 2_000
MAX_TOKENS = 400
MAX_DIGITS = 200
"""Digits of one number in an expression; a number that stands alone may have more, see `rewards.math.numerals`."""

_FUNCTION_SPELLINGS = {
    "log": "log", "exp": "exp", "sqrt": "sqrt", "cbrt": "cbrt", "lg": "lg", "tg": "tan", "ctg": "cot", "cosec": "csc",
    "arctg": "arctan", "ceiling": "ceil", "arsinh": "arsinh", "arcsinh": "arsinh", "asinh": "arsinh",
    "arccosh": "arcosh", "acosh": "arcosh", "arctanh": "artanh", "atanh": "artanh", "comb": "binomial",
    "nCr": "binomial", "binom": "binomial", "Abs": "abs", "Max": "max", "Min": "min",
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sec", "csc", "cot")},
}  # fmt: skip
FUNCTIONS = {**{name: name for name in (*ONE_ARGUMENT, *SEVERAL_ARGUMENTS)}, **_FUNCTION_SPELLINGS}
"""The functions that are read, by each of their names. `log` is `ln`, as it is in sympy, unless it has a base."""
del FUNCTIONS["mod"]  # an operator

_GREEK_LETTERS = """
    alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega Pi Upsilon
"""
_GREEK_VARIANTS = {"varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "varrho": "rho"}
_GREEK = {name: name for name in _GREEK_LETTERS.split()} | _GREEK_VARIANTS
_GREEK_SIGNS = dict(zip("αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΣΦΨΩ", _GREEK_LETTERS.split(), strict=False))

_IGNORED_WORDS = """
    left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm displaystyle textstyle
    scriptstyle limits nolimits rm bf it boldmath normalsize large Large small strut null
"""
_IGNORED_COMMANDS = frozenset(_IGNORED_WORDS.split())
_FONT_COMMANDS = frozenset((*FONT_MACROS, "boxed", "fbox"))
_TEXT_COMMANDS = frozenset(TEXT_MACROS)
# What names something together with its letters, and the spellings of one sign.
_NAMING_COMMANDS = {
    "angle": "angle", "measuredangle": "angle", "triangle": "triangle", "overline": "overline", "bar": "overline",
    "vec": "vec", "overrightarrow": "vec", "overleftrightarrow": "line", "hat": "hat", "widehat": "hat",
    "tilde": "tilde", "widetilde": "tilde", "overarc": "arc", "wideparen": "arc",
}  # fmt: skip
_DOTS = {
    "ldots": "\u2026",
    "dots": "\u2026",
    "dotsc": "\u2026",
    "cdots": "\u22ef",
    "dotsb": "\u22ef",
    "dotsm": "\u22ef",
}
_NUMBER_SETS = frozenset("RZNQC")
_OPERATOR_COMMANDS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "colon": ":", "mid": "mid", "vert": "|", "lvert": "|",
    "rvert": "|", "frac": "frac", "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "log": "log", "sqrt": "sqrt",
    "binom": "binom", "dbinom": "binom", "tbinom": "binom", "choose": "choose", "over": "over", "pm": "pm", "mp": "mp",
    "lt": "<", "gt": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=",
    "geqslant": ">=", "geqq": ">=", "ne": "!=", "neq": "!=", "approx": "~", "simeq": "~", "thickapprox": "~",
    "in": "in", "cup": "cup", "bigcup": "cup", "cap": "cap", "setminus": "minus", "backslash": "minus",
    "smallsetminus": "minus", "equiv": "equiv", "pmod": "pmod", "bmod": "mod", "mod": "mod", "circ": "degree",
    "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")", "langle": "<(",
    "rangle": ")>", "lfloor": "floor(", "rfloor": ")floor", "lceil": "ceil(", "rceil": ")ceil",
    "infty": "infinity", "emptyset": "empty", "varnothing": "empty", "degree": "degree", "top": "top",
}  # fmt: skip
_OPERATOR_WORDS = {"log": "log", "mod": "mod", "in": "in", "to": ":", "infinity": "infinity",
                   "inf": "infinity", "oo": "infinity", "choose": "choose", "sqrt": "sqrt"}  # fmt: skip
_CHARACTERS = {
    **{character: character for character in "+-*/^_|%()[]{}=<>!,;:&"},
    "\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u2219": "*", "\u00f7": "/", "\u2264": "<=", "\u2a7d": "<=",
    "\u2265": ">=", "\u2a7e": ">=", "\u2260": "!=", "\u2248": "~", "\u221e": "infinity", "\u2205": "empty",
    "\u2208": "in", "\u222a": "cup", "\u2229": "cap", "\u2216": "minus", "\u00b1": "pm", "\u2213": "mp",
    "\u27e8": "<(", "\u27e9": ")>", "\u230a": "floor(", "\u230b": ")floor", "\u2308": "ceil(", "\u2309": ")ceil",
    "\u2223": "mid", "\u2261": "equiv", "\u221a": "sqrt", "\u00b0": "degree",
}  # fmt: skip
_LONG_SIGNS = (("**", "^"), ("<=", "<="), (">=", ">="), ("!=", "!="), ("==", "="), ("\\\\", "row"), ("\\{", "\\{"),
               ("\\}", "\\}"), ("\\%", "%"), ("\\|", "|"), ("\\&", "&"))  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPT_RUN = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]++")
_SUBSCRIPT_RUN = re.compile(r"[₀₁₂₃₄₅₆₇₈₉]++")
_SPACING = re.compile(r"[ ]|\\[,;:! >]")
_ROW_SPACING = re.compile(r" *+\[ *+-?[0-9.]++ *+(?:pt|ex|em|mm|cm|in) *+\]")  # \\[4pt]
_LETTER_RUN = re.compile(r"[a-zA-Z]++")
_COMMAND = re.compile(r"\\([a-zA-Z]++)")
_ENVIRONMENT = re.compile(r" *+\{([a-z]++)\*?+\}(?: *+\{[clr| ]*+\})?")
_NAMED = re.compile(r" *+(?:\{ *+([a-zA-Z][a-zA-Z0-9_' ]*+)\}|([A-Z]{1,3}|[a-z])(?![a-zA-Z]))")
_GROUP = re.compile(r" *+\{([^{}]*+)\}")
# Short runs of letters are products of symbols, unless they are words.
_SHORT_WORDS = """or and not but is are no yes to of if the at by so we it an as on do all any nor nan low off for per
                  let has was its"""
_WORDS = frozenset(_SHORT_WORDS.split())
_FUNCTIONS_BY_LENGTH = sorted({*FUNCTIONS, "pi"}, key=lambda name: (-len(name), name))
_OPENING, _CLOSING = frozenset(("(", "[", "\\{")), frozenset((")", "]", "\\}"))


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the language of formulas.

    Attributes:
        kind: `number`, `symbol`, `constant`, `function`, `set`, `text`, or the sign or operator itself.
        text: The name of a symbol, constant, function or number set; the digits of a number; a text.
        value: Of a number.
        is_whole: Whether a number is written in digits alone.
    """

    kind: str
    text: str = ""
    value: Fraction = Fraction(0)
    is_whole: bool = False


def tokenize(text: str) -> list[Token]:
    """The tokens of a formula.

    Raises:
        Unreadable: Where a sign, a command or a word is not known.
        TooLarge: Where the text exceeds a cap.
    """
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    text = normalize_spaces(_without_scripts(text))
    tokens: list[Token] = []
    depth = i = 0
    while i < len(text):
        if match := _SPACING.match(text, i):
            i = match.end()
            continue
        found, i = _tokens_at(text, i, depth)
        tokens.extend(found)
        for token in found:
            depth += (token.kind in _OPENING) - (token.kind in _CLOSING)
        if len(tokens) > MAX_TOKENS:
            raise TooLarge(f"more than {MAX_TOKENS} tokens")
    return tokens


def whole(digits: str) -> Token:
    """The token of a whole number."""
    return Token("number", digits, Fraction(int(digits)), is_whole=True)


def _without_scripts(text: str) -> str:
    """Raised and lowered digits as exponents and indices."""
    if text.isascii():
        return text
    text = _SUPERSCRIPT_RUN.sub(lambda match: "^{" + match[0].translate(_SUPERSCRIPTS) + "}", text)
    return _SUBSCRIPT_RUN.sub(lambda match: "_{" + match[0].translate(_SUBSCRIPTS) + "}", text)


def _tokens_at(text: str, i: int, depth: int) -> tuple[list[Token], int]:
    """The tokens that start at `i`, and where they end."""
    character = text[i]
    if character == "\u2026" or text.startswith("...", i):
        return [Token("symbol", "\u2026")], i + (1 if character == "\u2026" else 3)
    if character.isdigit() or character == ".":
        return _number(text, i, depth)
    if match := _COMMAND.match(text, i):
        return _command(match[1], text, match.end())
    if match := _LETTER_RUN.match(text, i):
        return letters(match[0]), match.end()
    for sign, kind in _LONG_SIGNS:
        if text.startswith(sign, i):
            end = i + len(sign)
            spacing = _ROW_SPACING.match(text, end) if kind == "row" else None
            return [Token(kind)], spacing.end() if spacing else end
    if character in _CHARACTERS:
        return [Token(_CHARACTERS[character])], i + 1
    if character == "\u03c0":
        return [Token("constant", "pi")], i + 1
    if character in _GREEK_SIGNS:
        return [Token("symbol", _GREEK_SIGNS[character])], i + 1
    if character == "\u221b":
        return [Token("function", "cbrt")], i + 1
    if character == "\u211d":
        return [Token("set", "R")], i + 1
    raise Unreadable(f"unknown character {character!a}")


def _number(text: str, i: int, depth: int) -> tuple[list[Token], int]:
    if match := REPEATING.match(text, i):
        if len(match[0]) > MAX_DIGITS:
            raise TooLarge(f"a number of more than {MAX_DIGITS} digits")
        return [Token("number", value=repeating(match))], match.end()
    match = (DECIMAL_IN_BRACKETS if depth else DECIMAL).match(text, i)
    if match is None:
        raise Unreadable(f"unknown character {text[i]!a}")
    digits, end = match[0], match.end()
    if len(digits) > MAX_DIGITS:
        raise TooLarge(f"a number of more than {MAX_DIGITS} digits")
    value, is_whole = Fraction(to_number(digits)), "." not in digits
    if power := scientific(text, end):
        return [Token("number", value=value * power[0])], power[1]
    return [Token("number", digits, value, is_whole)], end


def _command(name: str, text: str, end: int) -> tuple[list[Token], int]:
    if name in _OPERATOR_COMMANDS:
        return [Token(_OPERATOR_COMMANDS[name])], end
    if name in ("begin", "end"):
        match = _ENVIRONMENT.match(text, end)
        if match is None:
            raise Unreadable(f"a broken {name}")
        return [Token(name, match[1])], match.end()
    if name == "not" and (match := re.compile(r" *+(=|\\equiv|\\in)").match(text, end)):
        return [Token("!=" if match[1] == "=" else "not" + match[1][1:])], match.end()
    if name in _IGNORED_COMMANDS:
        # `\left.` is an invisible bracket.
        return [], end + 1 if name in ("left", "right") and text.startswith(".", end) else end
    if name in FUNCTIONS:
        return [Token("function", FUNCTIONS[name])], end
    if name == "pi":
        return [Token("constant", "pi")], end
    if name in _GREEK:
        return [Token("symbol", _GREEK[name])], end
    if name in _DOTS:
        return [Token("symbol", _DOTS[name])], end
    if name in _NAMING_COMMANDS and (match := _NAMED.match(text, end)):
        return _named(_NAMING_COMMANDS[name], (match[1] or match[2]).replace(" ", "")), match.end()
    if name == "ell":
        return [Token("symbol", "l")], end
    if name in ("color", "textcolor"):
        match = _GROUP.match(text, end)
        if match is None:
            raise Unreadable(f"a broken {name}")
        return [], match.end()
    if name in _TEXT_COMMANDS or name in _FONT_COMMANDS:
        match = _GROUP.match(text, end)
        if match is None:
            if name in _FONT_COMMANDS:
                return [], end
            raise Unreadable(f"a broken {name}")
        if name in _TEXT_COMMANDS:
            return _text(match[1]), match.end()
        tokens = _font(match[1])
        if name in ("boxed", "fbox") and len(tokens) > 1:
            tokens = [Token("{"), *tokens, Token("}")]
        return tokens, match.end()
    if name == "mathbb" and (match := re.compile(r" *+(?:\{ *+([A-Z]) *+\}|([A-Z]))").match(text, end)):
        letter = match[1] or match[2]
        if letter in _NUMBER_SETS:
            return [Token("set", letter)], match.end()
    raise Unreadable(f"unknown command {name[:20]}")


def _named(sign: str, letters_: str) -> list[Token]:
    r"""A symbol of its own for `\angle ABC`, which is `\angle CBA`. The segment `\overline{AB}` is its length `AB`."""
    if sign == "overline" and len(letters_) == 2 and letters_.isupper():
        return [Token("{"), *letters(letters_), Token("}")]
    if sign in ("angle", "line", "arc"):
        letters_ = min(letters_, letters_[::-1])
    return [Token("symbol", f"{sign} {letters_}")]


def _font(content: str) -> list[Token]:
    r"""The tokens of what `\mathrm{}` and its like stand around."""
    run = content.replace("\\,", "").strip()
    return letters(run) if run.isalpha() and run.isascii() else tokenize(run)


def _text(content: str) -> list[Token]:
    content = content.strip()
    if not content:
        return []
    if (
        content.isascii()
        and content.isalpha()
        and (len(content) == 1 or content in FUNCTIONS or content in ("mod", "to"))
    ):
        return letters(content)
    if content[0].isdigit() or content[0] in "(-" or content.startswith("mod "):
        try:
            return tokenize(content)
        except Unreadable:
            pass
    return [Token("text", content)]


def letters(run: str) -> list[Token]:
    """The tokens of a run of letters: a name that is known, or a product of symbols.

    Raises:
        Unreadable: Where it looks like a word.
    """
    if run in _OPERATOR_WORDS:
        return [Token(_OPERATOR_WORDS[run])]
    if run in FUNCTIONS:
        return [Token("function", FUNCTIONS[run])]
    if run == "pi":
        return [Token("constant", "pi")]
    if run in _GREEK:
        return [Token("symbol", _GREEK[run])]
    if run.lower() not in _WORDS:
        if len(run) <= 3:
            return [_letter(letter) for letter in run]
        # `sinx`, `xsin`: a function with a letter on one side or both.
        for name in _FUNCTIONS_BY_LENGTH:
            before, found, after = run.partition(name)
            if found and len(name) > 1 and len(before) <= 1 and len(after) <= 1:
                middle = letters(name)
                return [*(_letter(letter) for letter in before), *middle, *(_letter(letter) for letter in after)]
    raise Unreadable(f"unknown word {run[:20]}")


def _letter(letter: str) -> Token:
    return Token("constant", letter) if letter in "ei" else Token("symbol", letter)
