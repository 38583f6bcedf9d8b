r"""Formulas in LaTeX and plain text. No sympy here.

From loose to tight: relations (`=` `<` `\in`), set operations (`\cup` `\setminus`), and the expressions of
`rewards.math.expressions`, in which brackets may hold tuples, intervals and sets. Nothing of the text is ever evaluated
as code. Nesting is capped here and what an expression could come to in `nodes`.
"""

from __future__ import annotations

from collections.abc import Callable

from rewards.math.expressions import MAX_DEPTH, ExpressionParser
from rewards.math.lexer import tokenize
from rewards.math.nodes import Node, Unreadable, applied, divided
from rewards.math.numerals import TooLarge
from rewards.math.values import (
    Candidates,
    Congruence,
    FiniteSet,
    Matrix,
    NumberSet,
    Ratio,
    Region,
    Relation,
    Sequence,
    Value,
)

MAX_MATRIX = 100
"""Entries of a matrix."""

_RELATIONS = frozenset(("=", "!=", "<", "<=", ">", ">=", "~", "in"))
_CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "<(": ")>", "floor(": ")floor", "ceil(": ")ceil"}
_MATRICES = frozenset(("matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array"))


def parse(text: str) -> Node:
    """Read one expression.

    Raises:
        Unreadable: Where the text is not an expression in the known symbols and functions.
        TooLarge: Where it exceeds a cap.
    """
    value = parse_value(text)
    if not isinstance(value, Node):
        raise Unreadable("not a single expression")
    return value


def parse_value(text: str) -> Value:
    """Read any value that a formula stands for.

    Raises:
        Unreadable: Where the text is not a formula in the known signs.
        TooLarge: Where it exceeds a cap.
    """
    tokens = tokenize(text)
    value = _ValueParser(tokens).parse()
    if any(token.kind in ("pm", "mp") for token in tokens):
        # The upper signs and the lower ones.
        lower = _ValueParser(tokens, upper_signs=False).parse()
        if isinstance(value, FiniteSet) and isinstance(lower, FiniteSet):
            return FiniteSet((*value.items, *lower.items))
        if not isinstance(value, Node | Relation):
            raise Unreadable("a plus-minus among several values")
        return Candidates((value, lower), "or")
    return value


class _ValueParser(ExpressionParser):
    def parse(self) -> Value:
        value = self._relation()
        if self._i < len(self._tokens):
            raise Unreadable(f"unexpected {self._kind()}")
        return value

    # --- values -------------------------------------------------------------------------------------------------------

    def _relation(self) -> Value:
        sides: list[Value] = []
        ops: list[str] = []
        sides.append(self._union())
        while self._kind() in _RELATIONS:
            ops.append(self._take().kind)
            self._accept("=") if ops[-1] in ("<", ">") else None
            sides.append(self._union())
        if self._kind() in ("equiv", "pmod", "("):
            return self._congruence(sides, ops)
        if self._kind() == ":" and not ops:
            return self._ratio(sides[0])
        return Relation(tuple(sides), tuple(ops)) if ops else sides[0]

    def _congruence(self, sides: list[Value], ops: list[str]) -> Congruence:
        if ops:
            raise Unreadable("a congruence among relations")
        left, right = None, self._node(sides[0])
        if self._accept("equiv"):
            self._mod_is_operation = False
            left, right = right, self._node(self._union())
        is_bracketed = self._accept("(")
        if not (self._accept("pmod") or self._accept("mod")):
            raise Unreadable("a congruence without a modulus")
        modulus = self._node(self._sum())
        if is_bracketed:
            self._expect(")")
        return Congruence(left, right, modulus)

    def _ratio(self, first: Value) -> Ratio:
        parts = [self._node(first)]
        while self._accept(":"):
            parts.append(self._node(self._sum()))
        return Ratio(tuple(parts))

    def _union(self) -> Value:
        value = self._intersection()
        parts = [value]
        while self._accept("cup") or self._accept_letter_union():
            parts.append(self._intersection())
        return Region("union", tuple(parts)) if len(parts) > 1 else value

    def _accept_letter_union(self) -> bool:
        """Whether a letter stands for the sign of a union: `(0, 1) U (1, 2)`."""
        if not self._is_letter_union():
            return False
        self._i += 1
        return True

    def _intersection(self) -> Value:
        value = self._sum()
        operations = 0
        while self._kind() in ("cap", "minus") or (self._kind() == "-" and isinstance(value, NumberSet)):
            operations += 1
            if operations > MAX_DEPTH:
                raise TooLarge(f"more than {MAX_DEPTH} intersections and differences in a row")
            op = "intersection" if self._take().kind == "cap" else "difference"
            value = Region(op, (value, self._sum()))
        return value

    # --- brackets -----------------------------------------------------------------------------------------------------

    def _bracketed(self, opening: str) -> Value:
        self._descend()
        # Inside brackets of its own, a bar opens again.
        state = self._open_bars, self._bar_ends
        self._open_bars, self._bar_ends = 0, opening == "\\{"
        value = self._inside(opening)
        self._open_bars, self._bar_ends = state
        self._depth -= 1
        return value

    def _inside(self, opening: str) -> Value:
        closing = _CLOSING[opening]
        if opening in ("\\{", "{", "[", "(") and self._accept(closing):
            if opening in ("\\{", "{"):
                return FiniteSet()
            raise Unreadable("empty brackets")
        items = [self._union()]
        if opening == "\\{" or (opening == "{" and self._kind() in ("|", ":", "mid", "in")):
            if self._kind() in ("|", ":", "mid", "in", *_RELATIONS):
                return self._set_builder(items[0], closing)
        elif opening == "{" and self._kind() == "choose":
            self._take()
            node = applied("binomial", self._node(items[0]), self._node(self._sum()))
            self._expect(closing)
            return node
        elif opening == "{" and self._accept("over"):
            node = divided(self._node(items[0]), self._node(self._sum()))
            self._expect(closing)
            return node
        elif opening == "(" and self._kind() in _RELATIONS:
            raise Unreadable("a relation in brackets")
        while self._accept(",", ";"):
            items.append(self._union())
        end = self._take().kind
        if opening in ("floor(", "ceil("):
            return self._single(items, end == closing, lambda node: applied(opening[:-1], node))
        if opening in ("\\{", "{"):
            if end != closing:
                raise Unreadable("a set that is not closed")
            if opening == "{" and len(items) == 1:
                return items[0]
            return FiniteSet(tuple(items))
        return _sequence(items, opening, end, closing)

    def _single(self, items: list[Value], is_closed: bool, make: Callable[[Node], Node]) -> Node:
        if len(items) != 1 or not is_closed:
            raise Unreadable("brackets of one number that hold something else")
        return make(self._node(items[0]))

    def _reversed_interval(self) -> Value:
        """`]1, 2[`, the open interval in another notation."""
        items = [self._union()]
        self._expect(",") if self._kind() == "," else self._expect(";")
        items.append(self._union())
        end = self._take().kind
        if end not in ("[", "]"):
            raise Unreadable("an interval that is not closed")
        return Sequence(tuple(items), "(", ")" if end == "[" else "]")

    def _set_builder(self, first: Value, closing: str) -> Value:
        r"""The conditions of `\{x : x > 2\}`, `\{x \in \mathbb{R} \mid 1 < x, x \ne 2\}`."""
        conditions: list[Value] = []
        if self._accept("in"):
            domain = self._union()
            if domain != NumberSet("R"):
                conditions.append(Relation((first, domain), ("in",)))
        if not self._accept("|", ":", "mid"):
            raise Unreadable("a set that is not a list and has no conditions")
        self._bar_ends = False
        while True:
            conditions.append(self._relation())
            if not self._accept(",", ";"):
                break
        self._expect(closing)
        return Region("intersection", tuple(conditions)) if len(conditions) > 1 else Region("union", (conditions[0],))

    def _matrix(self, environment: str) -> Matrix:
        if environment not in _MATRICES:
            raise Unreadable("an environment that is not a matrix")
        rows: list[list[Node]] = [[]]
        while True:
            if self._accept("end"):
                break
            rows[-1].append(self._node(self._sum()))
            if sum(len(row) for row in rows) > MAX_MATRIX:
                raise TooLarge(f"a matrix of more than {MAX_MATRIX} entries")
            if self._accept("row"):
                rows.append([])
            elif self._kind() != "end":
                self._expect("&")
        if not rows[-1]:
            rows.pop()
        if not rows or len({len(row) for row in rows}) != 1:
            raise Unreadable("a matrix with rows of different lengths")
        return Matrix(tuple(tuple(row) for row in rows))


def _sequence(items: list[Value], opening: str, end: str, closing: str) -> Value:
    """A group, a tuple, an interval, or rows of a matrix in plain text."""
    if len(items) == 1:
        if end != closing:
            raise Unreadable("brackets that do not match")
        if isinstance(items[0], Matrix):
            return items[0]
        if opening == "[" and isinstance(items[0], Sequence) and items[0].opening == "[":
            return Matrix((_row(items[0]),))
        if isinstance(items[0], Node) and opening in ("(", "["):
            return items[0]
        return items[0] if opening == "(" else Sequence(tuple(items), opening, end)
    if opening == "[" and end == "[" and len(items) == 2:
        end = ")"  # [1, 2[
    if end not in (")", "]", ")>") or (end != closing and (len(items) != 2 or "<(" in (opening,) or end == ")>")):
        raise Unreadable("brackets that do not match")
    if opening == "[" and end == "]" and all(isinstance(item, Sequence) and item.opening == "[" for item in items):
        rows = [_row(item) for item in items if isinstance(item, Sequence)]
        if len({len(row) for row in rows}) == 1:
            return Matrix(tuple(rows))
    return Sequence(tuple(items), opening, end)


def _row(sequence: Sequence) -> tuple[Node, ...]:
    if not all(isinstance(item, Node) for item in sequence.items):
        raise Unreadable("a matrix whose entries are not numbers")
    return tuple(item for item in sequence.items if isinstance(item, Node))
