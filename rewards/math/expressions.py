"""Arithmetic, by precedence climbing over the tokens of `lexer`: sums, products, signs, powers, functions.

`rewards.math.parser` builds on it and adds what stands in brackets and around expressions.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as AbstractSequence
from functools import partial

from rewards.math.lexer import Token, whole
from rewards.math.nodes import (
    SEVERAL_ARGUMENTS,
    Node,
    Unreadable,
    added,
    applied,
    constant,
    divided,
    infinity,
    multiplied,
    negated,
    number,
    raised,
    rooted,
    symbol,
)
from rewards.math.numerals import TooLarge
from rewards.math.values import FiniteSet, Matrix, NumberSet, Sequence, Value

MAX_DEPTH = 30

_STARTS_FACTOR = frozenset(
    ("symbol", "constant", "function", "(", "[", "{", "frac", "log", "sqrt", "binom", "floor(", "ceil(", "begin")
)
_NUMBERS_ONLY = frozenset(("number", "+", "-", "*", "/", "^", "(", ")", "{", "}", "%", "!", "frac"))
# What may follow `[` where it closes an interval: `[1, 2[`.
_AFTER_INTERVAL = frozenset(("", "cup", "cap", "minus", ",", ";", ")", "\\}"))


class ExpressionParser(ABC):
    r"""Reads expressions; a matrix may be added, negated, transposed and multiplied by a number.

    Args:
        tokens: What to read.
        upper_signs: Whether `\pm` is a plus.
    """

    def __init__(self, tokens: list[Token], *, upper_signs: bool = True) -> None:
        self._tokens = list(tokens)
        self._upper_signs = upper_signs
        self._i = 0
        self._depth = 0
        self._open_bars = 0
        self._bar_ends = False  # whether `|` separates, as in a set
        self._mod_is_operation = True  # 17 mod 5; behind a congruence it names the modulus

    @abstractmethod
    def _bracketed(self, opening: str) -> Value: ...

    @abstractmethod
    def _matrix(self, environment: str) -> Value: ...

    @abstractmethod
    def _reversed_interval(self) -> Value: ...

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _kind(self, ahead: int = 0) -> str:
        i = self._i + ahead
        return self._tokens[i].kind if 0 <= i < len(self._tokens) else ""

    def _take(self) -> Token:
        if self._i == len(self._tokens):
            raise Unreadable("the formula ends too early")
        self._i += 1
        return self._tokens[self._i - 1]

    def _accept(self, *kinds: str) -> bool:
        if self._kind() in kinds:
            self._i += 1
            return True
        return False

    def _expect(self, kind: str) -> None:
        if self._take().kind != kind:
            raise Unreadable(f"expected {kind}")

    def _descend(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")

    # --- expressions --------------------------------------------------------------------------------------------------

    def _node(self, value: Value) -> Node:
        if not isinstance(value, Node):
            raise Unreadable("arithmetic with something that is not a number")
        return value

    def _sum(self) -> Value:
        self._descend()
        values = [self._product()]
        while self._kind() in ("+", "-", "pm", "mp"):
            if isinstance(values[0], NumberSet):
                break  # `R - {2}` is a difference of sets
            negative = self._sign()
            value = self._product()
            values.append(_each(negated, value) if negative else value)
        self._depth -= 1
        if len(values) == 1:
            return values[0]
        if all(isinstance(value, Matrix) for value in values):
            return _matrix_sum([value for value in values if isinstance(value, Matrix)])
        return added([self._node(value) for value in values])

    def _sign(self) -> bool:
        """Whether the sign that comes next is a minus."""
        kind = self._take().kind
        return kind == "-" or (kind == "mp" if self._upper_signs else kind == "pm")

    def _product(self) -> Value:
        value = self._signed()
        # Quotients and remainders nest to the left, so a long run of them is as deep as brackets are.
        quotients = 0
        while True:
            if self._accept("*"):
                value = _product(value, self._signed())
            elif self._accept("/"):
                quotients += 1
                value = _each(partial(_divided_by, self._node(self._signed())), value)
            elif self._starts_factor():
                value = _product(value, self._power())
            elif self._mod_is_operation and self._accept("mod"):
                quotients += 1
                value = applied("mod", self._node(value), self._node(self._signed()))
            else:
                return value
            if quotients > MAX_DEPTH:
                raise TooLarge(f"more than {MAX_DEPTH} divisions in a row")

    def _starts_factor(self) -> bool:
        """Whether a factor follows without a sign. A number never does: `2 3` and `x2` have no one meaning."""
        if self._kind() == "|":
            return self._open_bars == 0 and not self._bar_ends
        if self._kind() == "(" and self._kind(1) in ("pmod", "mod"):
            return False
        if self._kind() == "[" and self._kind(1) in _AFTER_INTERVAL:
            return False
        if self._kind() == "number":
            return self._kind(-1) == "!"  # 3! 4!
        if self._kind(-1) == "number" and self._kind() == "symbol" and self._tokens[self._i].text == "\u2026":
            return False  # 0.333... is a number that goes on
        return self._kind() in _STARTS_FACTOR and not self._is_letter_union()

    def _signed(self) -> Value:
        if self._kind() not in ("+", "-", "pm", "mp"):
            return self._power()
        self._descend()
        is_negative = self._sign()
        # A sign before another one is arithmetic, -(-6): nobody writes a result like that.
        is_run = self._kind() in ("+", "-", "pm", "mp")
        value = self._signed()
        self._depth -= 1
        if is_run:
            value = _each(partial(multiplied, number(1)), value)
        return _each(negated, value) if is_negative else value

    def _power(self) -> Value:
        base = self._primary()
        for signs in itertools.count():
            if signs > MAX_DEPTH:
                raise TooLarge(f"more than {MAX_DEPTH} signs in a row")
            if self._accept("!"):
                base = applied("factorial", self._node(base))
            elif self._kind() == "%" and self._kind(-1) != "%":
                self._take()
                base = self._node(base)
                if not base.is_evaluated or base.value is None:
                    raise Unreadable("a percentage of something that is not a number")
                base = number(base.value / 100)
            elif self._accept_degree():
                base = divided(multiplied(self._node(base), constant("pi")), number(180))
            else:
                break
        if self._kind() != "^":
            return base
        self._take()
        if isinstance(base, Matrix):
            return self._transposed(base)
        power = raised(self._node(base), self._exponent())
        return applied("factorial", power) if self._accept("!") else power

    def _accept_degree(self) -> bool:
        r"""Whether the sign of degrees follows: `°`, `^\circ`, `^{\circ}`."""
        if self._accept("degree"):
            return True
        for start, length in ((["^", "degree"], 2), (["^", "{", "degree", "}"], 4)):
            if [self._kind(ahead) for ahead in range(length)] == start:
                self._i += length
                return True
        return False

    def _transposed(self, matrix: Matrix) -> Matrix:
        token = self._take()
        if token.kind == "{":
            token = self._take()
            self._expect("}")
        if token.kind == "top" or (token.kind == "symbol" and token.text in ("T", "t")):
            return Matrix(tuple(zip(*matrix.rows, strict=True)))
        raise Unreadable("a power of a matrix")

    def _exponent(self) -> Node:
        """What stands behind `^`, which groups to the right: 2^3^2 is 2^9."""
        self._descend()
        if self._kind() in ("+", "-", "pm", "mp"):
            negative = self._sign()
            node = self._exponent()
            node = negated(node) if negative else node
        elif self._kind() == "number":
            # In TeX, `x^23` is x²3; nobody means that, and plain text means x to the 23.
            node = self._node(self._number(self._take()))
            if self._kind() == "^":
                self._take()
                node = raised(node, self._exponent())
        elif self._kind() in ("{", "symbol", "constant"):
            node = self._node(self._primary())
            if self._kind() == "^":
                self._take()
                node = raised(node, self._exponent())
        else:
            node = self._node(self._power())
        self._depth -= 1
        return node

    def _primary(self) -> Value:
        token = self._take()
        kind = token.kind
        if kind == "number":
            return self._number(token)
        if kind == "symbol":
            return symbol(token.text + self._subscript())
        if kind == "constant":
            return constant(token.text)
        if kind == "function":
            return self._function(token.text)
        if kind in ("(", "[", "<(", "\\{", "{", "floor(", "ceil("):
            return self._bracketed(kind)
        single: dict[str, Callable[[], Value]] = {
            "log": self._logarithm,
            "sqrt": self._root,
            "frac": lambda: divided(self._argument(), self._argument()),
            "binom": lambda: applied("binomial", self._argument(), self._argument()),
            "|": self._absolute,
            "begin": lambda: self._matrix(token.text),
            "]": self._reversed_interval,
            "infinity": infinity,
            "empty": FiniteSet,
        }
        if kind in single:
            return single[kind]()
        if kind == "set":
            return NumberSet(token.text)
        raise Unreadable(f"unexpected {kind}")

    def _number(self, token: Token) -> Node:
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
            if self._is_fraction_of_numbers():
                raise Unreadable("a number beside a fraction that is not one of whole numbers")
        return number(token.value)

    def _is_fraction_of_numbers(self) -> bool:
        r"""Whether the next `\frac` has no letter and no root: `2\frac{1.5}{3}` may be a sum, `2\frac{x}{3}` is not."""
        depth = arguments = 0
        for token in self._tokens[self._i + 1 :]:
            if token.kind not in _NUMBERS_ONLY:
                return False
            depth += (token.kind == "{") - (token.kind == "}")
            arguments += depth == 0
            if arguments == 2:
                break
        return True

    def _mixed(self, integer: Token, top: Token, bottom: Token) -> Node:
        """A whole number beside a fraction is their sum; where the fraction is not proper, nobody can say."""
        if not (top.is_whole and bottom.is_whole and 0 < top.value < bottom.value):
            raise Unreadable("a number beside another one")
        return number(integer.value + top.value / bottom.value)

    def _whole_argument(self) -> Token | None:
        r"""An argument of `\frac` that is a single whole number, or None."""
        if self._kind() == "number":
            token = self._digit()
        elif self._kind() == "{" and self._kind(1) == "number" and self._kind(2) == "}":
            token = self._tokens[self._i + 1]
            self._i += 3
        else:
            return None
        return token if token.is_whole else None

    def _digit(self) -> Token:
        r"""The first digit of a number, as an argument without braces takes it: `\frac34` is 3/4."""
        token = self._take()
        if len(token.text) > 1:
            if not token.is_whole or not token.text.isdigit():
                raise Unreadable("an argument without braces that is not a digit")
            self._i -= 1
            self._tokens[self._i] = whole(token.text[1:])
        return whole(token.text[0]) if token.text else token

    def _argument(self) -> Node:
        """What a command applies to: a group in braces, or a single symbol or digit."""
        if self._kind() == "number":
            return number(self._digit().value)
        return self._unbraced() if self._kind() != "{" else self._node(self._primary())

    def _unbraced(self) -> Node:
        """An argument without braces, which may be another command: a run of these nests."""
        self._descend()
        node = self._node(self._primary())
        self._depth -= 1
        return node

    def _subscript(self) -> str:
        if not self._accept("_"):
            return ""
        token = self._take()
        name = token.text
        if token.kind == "{":
            name = ""
            while not self._accept("}"):
                token = self._take()
                if token.kind not in ("symbol", "constant", "text") and not token.is_whole:
                    raise Unreadable("a subscript that is neither a number nor a name")
                name += token.text
        elif token.kind not in ("symbol", "constant") and not token.is_whole:
            raise Unreadable("a subscript that is neither a number nor a name")
        return "_" + name

    def _is_letter_union(self) -> bool:
        is_letter = self._kind() == "symbol" and self._tokens[self._i].text in ("U", "u")
        return is_letter and self._i > 0 and self._kind(-1) in (")", "]", "\\}") and self._kind(1) in ("(", "[", "\\{")

    def _absolute(self) -> Node:
        self._open_bars += 1
        node = self._node(self._sum())
        self._open_bars -= 1
        self._expect("|")
        return applied("abs", node)

    # --- functions ----------------------------------------------------------------------------------------------------

    def _function(self, name: str) -> Node:
        power = None
        if self._accept("^"):
            power = self._exponent()
            if power.value == -1 and name in ("sin", "cos", "tan", "sec", "csc", "cot"):
                # The usual meaning, of f^{-1}: the inverse function.
                name, power = "arc" + name, None
            elif power.value is None or power.value < 0:
                raise Unreadable("a function with an exponent that is not a positive number")
        node = applied(name, *self._function_arguments(name))
        return node if power is None else raised(node, power)

    def _function_arguments(self, name: str) -> list[Node]:
        """Those in brackets, or a product without signs and further functions: `sin 2x cos x` is a product."""
        self._descend()
        if self._kind() in ("(", "[", "{") or (name in SEVERAL_ARGUMENTS and self._kind() == "\\{"):
            value = self._primary()
            items = value.items if isinstance(value, Sequence | FiniteSet) else (value,)
            nodes = [self._node(item) for item in items]
        else:
            node = self._node(self._power())
            while self._kind() in ("symbol", "constant"):
                node = multiplied(node, self._node(self._power()))
            if self._kind() == "/" and self._kind(1) == "number" and node.op != "number":
                # `sin x/2` is left to the writer's brackets.
                raise Unreadable("a function of a quotient without brackets")
            nodes = [node]
        self._depth -= 1
        return nodes

    def _root(self) -> Node:
        if not self._accept("["):
            return applied("sqrt", self._argument())
        degree = self._node(self._sum())
        self._expect("]")
        return rooted(self._argument(), degree)

    def _logarithm(self) -> Node:
        base = None
        if self._accept("_"):
            base = self._argument()
        power = None
        if self._accept("^"):
            power = self._exponent()
        node = applied("ln", *self._function_arguments("ln"))
        if base is not None:
            if base.value == 1:
                raise Unreadable("a logarithm to the base 1")
            node = divided(node, applied("ln", base))
        return node if power is None else raised(node, power)


def _each(function: Callable[[Node], Node], value: Value) -> Value:
    """The function of an expression, or of each entry of a matrix."""
    if isinstance(value, Node):
        return function(value)
    if isinstance(value, Matrix):
        return Matrix(tuple(tuple(_computed(function(entry), entry) for entry in row) for row in value.rows))
    raise Unreadable("arithmetic with something that is not a number")


def _computed(result: Node, entry: Node) -> Node:
    """A number in front of a matrix of numbers is a usual way to write one: nothing is left to compute."""
    return number(result.value) if result.value is not None and entry.is_evaluated else result


def _divided_by(bottom: Node, top: Node) -> Node:
    return divided(top, bottom)


def _product(left: Value, right: Value) -> Value:
    if isinstance(left, Node):
        return _each(lambda entry: multiplied(left, entry), right)
    if isinstance(right, Node):
        return _each(lambda entry: multiplied(entry, right), left)
    raise Unreadable("a product of two values that are not numbers")


def _matrix_sum(matrices: AbstractSequence[Matrix]) -> Matrix:
    shapes = {(len(matrix.rows), len(matrix.rows[0])) for matrix in matrices}
    if len(shapes) > 1:
        raise Unreadable("a sum of matrices of different sizes")
    rows = zip(*(matrix.rows for matrix in matrices), strict=True)
    return Matrix(tuple(tuple(added(entries) for entries in zip(*row, strict=True)) for row in rows))
