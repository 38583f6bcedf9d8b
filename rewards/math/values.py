"""What a text can say besides an expression: relations, sets, tuples, intervals, matrices and the rest.

An expression is a `Node`. Everything here is plain data; `parser` makes it and `compare` compares it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rewards.math.nodes import Node, symbols_of


@dataclass(frozen=True, slots=True)
class Sequence:
    """Values in an order: a tuple, a vector, a list or, of two values, an interval. The brackets are kept."""

    items: tuple[Value, ...]
    opening: str
    closing: str


@dataclass(frozen=True, slots=True)
class FiniteSet:
    """Values without an order. Repetition says nothing."""

    items: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class NumberSet:
    """One of the sets R, Q, Z, N, C."""

    name: str


@dataclass(frozen=True, slots=True)
class Region:
    """A set made of sets or conditions.

    Attributes:
        op: `union`, `intersection` or `difference`.
        parts: What it is made of.
    """

    op: str
    parts: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of equal length."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain of sides with one of `= != < <= > >= ~ in` between neighbours."""

    sides: tuple[Value, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Congruence:
    """`left ≡ right (mod modulus)`; without a left side, a residue class."""

    left: Node | None
    right: Node
    modulus: Node


@dataclass(frozen=True, slots=True)
class Ratio:
    """`3 : 4`; proportional ones are equal."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Several values side by side, in no order: `2, 3`, `2 or 3`, `±2`.

    Attributes:
        items: The values.
        word: What stands between them, `,`, `and` or `or`.
    """

    items: tuple[Value, ...]
    word: str


@dataclass(frozen=True, slots=True)
class BaseNumeral:
    """A number written in another base than ten."""

    value: Fraction
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    """A text, without differences of case, spacing and mark-up."""

    text: str


@dataclass(frozen=True, slots=True)
class Literal:
    r"""A formula that is compared by how it is written: `AB \parallel CD`, `\sum_{k=1}^n k`."""

    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The letter of an option."""

    letter: str


@dataclass(frozen=True, slots=True)
class LongNumber:
    """The digits of a number that has too many to compute with."""

    digits: str


Value = (
    Node | Sequence | FiniteSet | NumberSet | Region | Matrix | Relation | Congruence | Ratio | Candidates | BaseNumeral
    | Words | Literal | Choice | LongNumber
)  # fmt: skip


def variables_of(value: Value) -> set[str]:
    """The names of the variables in a value."""
    if isinstance(value, Node):
        return symbols_of(value)
    if isinstance(value, Matrix):
        return set().union(*(symbols_of(entry) for row in value.rows for entry in row))
    parts: tuple[Value, ...] = ()
    if isinstance(value, Sequence | FiniteSet | Candidates):
        parts = value.items
    elif isinstance(value, Region | Ratio):
        parts = value.parts
    elif isinstance(value, Relation):
        parts = value.sides
    return set().union(*(variables_of(part) for part in parts))
