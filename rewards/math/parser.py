r"""Expressions in LaTeX and plain text: an own tokenizer and precedence-climbing parser. No sympy here.

Nothing of the text is ever evaluated as code: names are looked up in the fixed tables below, and everything else is
refused. Size is capped at each stage: characters, tokens, nesting, digits here, and what an expression could come to in
`rewards.math.nodes`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.math.nodes import (
    Node,
    Unreadable,
    added,
    applied,
    constant,
    divided,
    multiplied,
    negated,
    number,
    raised,
    symbol,
)
from rewards.math.numerals import DECIMAL, TooLarge, e_notation, normalize_spaces, to_fraction

MAX_CHARACTERS = 2_000
MAX_TOKENS = 300
MAX_DEPTH = 30
MAX_DIGITS = 200
"""Digits of one number in an expression; a number that stands alone may have more, see `rewards.math.numerals`."""
FUNCTIONS = frozenset(("sin", "cos", "tan", "ln", "exp", "abs", "sqrt"))
"""Functions of one argument. `log` is `ln`, as it is in sympy; `\\log_b` is a quotient of two."""
CONSTANTS = frozenset(("pi", "e"))

_GREEK_LETTERS = """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi chi
    psi omega
"""
_GREEK = frozenset(_GREEK_LETTERS.split())
_IGNORED_COMMANDS = frozenset(("left", "right", "displaystyle", "big", "Big", "bigl", "bigr", "limits"))
_OPERATOR_COMMANDS = {
    "cdot": "*",
    "times": "*",
    "div": "/",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "frac": "frac",
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "log": "log",
}
_OPERATOR_WORDS = {"log": "log"}
_OPERATOR_CHARACTERS = {
    **{character: character for character in "+-*/^_|%()[]{}"},
    "\u00d7": "*",
    "\u00b7": "*",
    "\u22c5": "*",
    "\u00f7": "/",
}
# Short runs of letters are products of symbols, unless they are words.
_SHORT_WORDS = "or and not but is are no yes to of in if the at by so we it an as on do all any nor"
_WORDS = frozenset(_SHORT_WORDS.split())
_LETTERS = re.compile(r"[a-zA-Z]++")
_COMMAND = re.compile(r"\\([a-zA-Z]++)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def parse(text: str) -> Node:
    """Read one expression.

    Raises:
        Unreadable: Where the text is not an expression in the known symbols and functions.
        TooLarge: Where it exceeds a cap.
    """
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"{len(text)} characters, at most {MAX_CHARACTERS} are read")
    return _Parser(_tokenize(normalize_spaces(text))).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "number", "symbol", "constant", "function" or the operator itself
    text: str = ""
    value: Fraction = Fraction(0)
    is_whole: bool = False


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    i = 0
    while i < len(text):
        if text[i] == " " or text.startswith("\\,", i):
            i += 1 if text[i] == " " else 2
            continue
        found, i = _tokens_at(text, i)
        tokens.extend(found)
        if len(tokens) > MAX_TOKENS:
            raise TooLarge(f"more than {MAX_TOKENS} tokens")
    return tokens


def _tokens_at(text: str, i: int) -> tuple[list[_Token], int]:
    """The tokens that start at `i`, and where they end."""
    if match := DECIMAL.match(text, i):
        return _number(text, match)
    if match := _COMMAND.match(text, i):
        return _command(match[1]), match.end()
    if match := _LETTERS.match(text, i):
        return _letters(match[0]), match.end()
    if text.startswith(("\\%", "\\{", "\\}", "\\|"), i):
        if text[i + 1] == "%":
            return [_Token("%")], i + 2
        raise Unreadable("sets are not read")
    if text.startswith("**", i):
        return [_Token("^")], i + 2
    if text[i] in _OPERATOR_CHARACTERS:
        return [_Token(_OPERATOR_CHARACTERS[text[i]])], i + 1
    if text[i] in "\u00b2\u00b3":
        return [_Token("^"), _whole("2" if text[i] == "\u00b2" else "3")], i + 1
    if text[i] == "\u03c0":
        return [_Token("constant", "pi")], i + 1
    if text[i] == "\u221a":
        return [_Token("function", "sqrt")], i + 1
    raise Unreadable(f"unknown character {text[i]!a}")


def _number(text: str, match: re.Match[str]) -> tuple[list[_Token], int]:
    if len(match[0]) > MAX_DIGITS:
        raise TooLarge(f"a number of more than {MAX_DIGITS} digits")
    value, is_whole = to_fraction(match[0]), "." not in match[0]
    if notation := e_notation(text, match.end()):
        value, is_whole = value * notation[0], False
        return [_Token("number", value=value)], notation[1]
    return [_Token("number", match[0], value, is_whole)], match.end()


def _whole(digits: str) -> _Token:
    return _Token("number", digits, Fraction(int(digits)), is_whole=True)


def _command(name: str) -> list[_Token]:
    if name in _IGNORED_COMMANDS:
        return []
    if name in _OPERATOR_COMMANDS:
        return [_Token(_OPERATOR_COMMANDS[name])]
    if name in FUNCTIONS:
        return [_Token("function", name)]
    if name == "pi":
        return [_Token("constant", "pi")]
    if name in _GREEK:
        return [_Token("symbol", name)]
    raise Unreadable(f"unknown command {name[:20]}")


def _letters(run: str) -> list[_Token]:
    if run in _OPERATOR_WORDS:
        return [_Token(_OPERATOR_WORDS[run])]
    if run in FUNCTIONS:
        return [_Token("function", run)]
    if run in CONSTANTS:
        return [_Token("constant", run)]
    if run in _GREEK:
        return [_Token("symbol", run)]
    if len(run) > 3 or run.lower() in _WORDS:
        raise Unreadable(f"unknown word {run[:20]}")
    return [_Token("constant", "e") if letter == "e" else _Token("symbol", letter) for letter in run]


class _Parser:
    """Precedence climbing over a list of tokens: sums, products (written or not), signs, powers, primaries."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._i = 0
        self._depth = 0
        self._open_bars = 0

    def parse(self) -> Node:
        node = self._sum()
        if self._i < len(self._tokens):
            raise Unreadable(f"unexpected {self._kind()}")
        return node

    def _kind(self, ahead: int = 0) -> str:
        return self._tokens[self._i + ahead].kind if self._i + ahead < len(self._tokens) else "end"

    def _take(self) -> _Token:
        if self._i == len(self._tokens):
            raise Unreadable("the expression ends too early")
        self._i += 1
        return self._tokens[self._i - 1]

    def _expect(self, kind: str) -> None:
        if self._take().kind != kind:
            raise Unreadable(f"expected {kind}")

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")

    def _sum(self) -> Node:
        self._descend()
        nodes = [self._product()]
        while self._kind() in ("+", "-"):
            negative = self._take().kind == "-"
            node = self._product()
            nodes.append(negated(node) if negative else node)
        self._depth -= 1
        return added(nodes) if len(nodes) > 1 else nodes[0]

    def _product(self) -> Node:
        node = self._signed()
        # Quotients nest to the left, so a long run of them is as deep as brackets are.
        quotients = 0
        while True:
            if self._kind() == "*":
                self._take()
                node = multiplied(node, self._signed())
            elif self._kind() == "/":
                self._take()
                quotients += 1
                if quotients > MAX_DEPTH:
                    raise TooLarge(f"more than {MAX_DEPTH} divisions in a row")
                node = divided(node, self._signed())
            elif self._starts_factor():
                node = multiplied(node, self._power())
            else:
                return node

    def _starts_factor(self) -> bool:
        """Whether a factor follows without a sign. A number never does: `2 3` and `x2` have no one meaning."""
        if self._kind() == "|":
            return self._open_bars == 0
        return self._kind() in ("symbol", "constant", "function", "(", "[", "{", "frac", "log")

    def _signed(self) -> Node:
        if self._kind() not in ("+", "-"):
            return self._power()
        self._descend()
        negative = self._take().kind == "-"
        node = self._signed()
        self._depth -= 1
        return negated(node) if negative else node

    def _power(self) -> Node:
        base = self._primary()
        if self._kind() == "%":
            self._take()
            if not base.is_evaluated or base.value is None:
                raise Unreadable("a percentage of something that is not a number")
            base = number(base.value / 100)
        if self._kind() != "^":
            return base
        self._take()
        return raised(base, self._exponent())

    def _exponent(self) -> Node:
        """What stands behind `^`, which groups to the right: 2^3^2 is 2^9."""
        self._descend()
        if self._kind() in ("+", "-"):
            negative = self._take().kind == "-"
            node = self._exponent()
            node = negated(node) if negative else node
        else:
            node = self._power()
        self._depth -= 1
        return node

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "symbol":
            return symbol(token.text + self._subscript())
        if token.kind == "constant":
            return constant(token.text)
        if token.kind == "function":
            return self._function(token.text)
        if token.kind == "log":
            return self._logarithm()
        if token.kind == "frac":
            return divided(self._argument(), self._argument())
        if token.kind == "|":
            return self._absolute()
        if token.kind in _CLOSING:
            return self._bracketed(_CLOSING[token.kind])
        raise Unreadable(f"unexpected {token.kind}")

    def _number(self, token: _Token) -> Node:
        if token.is_whole and self._kind() == "number":
            top = self._take()
            self._expect("/")
            return self._mixed(token, top, self._take())
        if token.is_whole and self._kind() == "frac":
            start = self._i
            self._take()
            numerator, denominator = self._whole_argument(), self._whole_argument()
            if numerator is not None and denominator is not None:
                return self._mixed(token, numerator, denominator)
            self._i = start
        return number(token.value)

    def _mixed(self, whole: _Token, top: _Token, bottom: _Token) -> Node:
        """A whole number beside a fraction is their sum; where the fraction is not proper, nobody can say."""
        if not (top.is_whole and bottom.is_whole and 0 < top.value < bottom.value):
            raise Unreadable("a number beside another one")
        return number(whole.value + top.value / bottom.value)

    def _whole_argument(self) -> _Token | None:
        r"""An argument of `\frac` that is a single whole number, or None."""
        if self._kind() == "number":
            token = self._digit()
        elif self._kind() == "{" and self._kind(1) == "number" and self._kind(2) == "}":
            token = self._tokens[self._i + 1]
            self._i += 3
        else:
            return None
        return token if token.is_whole else None

    def _digit(self) -> _Token:
        r"""The first digit of a number, as an argument without braces takes it: `\frac34` is 3/4."""
        token = self._take()
        if len(token.text) > 1:
            if not token.is_whole or "," in token.text:
                raise Unreadable("an argument without braces that is not a digit")
            self._i -= 1
            self._tokens[self._i] = _whole(token.text[1:])
        return _whole(token.text[0])

    def _argument(self) -> Node:
        """What a command applies to: a group in braces, or a single symbol or digit."""
        if self._kind() == "number":
            return number(self._digit().value)
        return self._primary()

    def _subscript(self) -> str:
        if self._kind() != "_":
            return ""
        self._take()
        token = self._take()
        if token.kind == "{":
            token = self._take()
            self._expect("}")
        if token.kind == "symbol" or token.is_whole:
            return "_" + token.text
        raise Unreadable("a subscript that is neither a number nor a letter")

    def _bracketed(self, closing: str) -> Node:
        # Inside brackets of its own, a bar opens again.
        open_bars, self._open_bars = self._open_bars, 0
        node = self._sum()
        self._open_bars = open_bars
        self._expect(closing)
        return node

    def _absolute(self) -> Node:
        self._open_bars += 1
        node = self._sum()
        self._open_bars -= 1
        self._expect("|")
        return applied("abs", node)

    def _function(self, name: str) -> Node:
        if name == "sqrt":
            return self._root()
        power = None
        if self._kind() == "^":
            self._take()
            power = self._exponent()
            # Half of the world reads sin^{-1} as an inverse function and the other half as a reciprocal.
            if power.value is None or power.value < 0:
                raise Unreadable("a function with an exponent that is not a positive number")
        node = applied(name, self._function_argument())
        return node if power is None else raised(node, power)

    def _root(self) -> Node:
        if self._kind() != "[":
            return applied("sqrt", self._argument() if self._kind() == "number" else self._primary())
        self._take()
        degree = self._sum()
        self._expect("]")
        return raised(self._argument(), divided(number(Fraction(1)), degree))

    def _logarithm(self) -> Node:
        if self._kind() != "_":
            return self._function("ln")
        self._take()
        base = self._argument()
        return divided(applied("ln", self._function_argument()), applied("ln", base))

    def _function_argument(self) -> Node:
        """A group in brackets, or a product without signs and further functions: `sin 2x cos x` is a product."""
        self._descend()
        if self._kind() in _CLOSING:
            node = self._primary()
        else:
            node = self._power()
            while self._kind() in ("symbol", "constant"):
                node = multiplied(node, self._power())
        self._depth -= 1
        return node
