"""Whether an answer says the same as the reference, type by type.

Run in worker processes: everything here is small enough by the caps of `lexer`, `parser` and `nodes`, and what is not
(sympy's `simplify`) is ended by the worker's deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.math import numeric, real_sets, relations, symbolic
from rewards.math.nodes import (
    TRIGONOMETRIC,
    Node,
    constant,
    divided,
    is_arithmetic,
    multiplied,
    number,
    symbols_of,
)
from rewards.math.statements import Answer, Neighbours, Several, half_unit
from rewards.math.units import conversion, is_left_out
from rewards.math.values import (
    BaseNumeral,
    Choice,
    Congruence,
    FiniteSet,
    Literal,
    LongNumber,
    Matrix,
    NumberSet,
    Ratio,
    Region,
    Relation,
    Sequence,
    Value,
    Words,
    variables_of,
)

_LINE_SETS = (Region, Relation, NumberSet)


@dataclass(frozen=True, slots=True)
class Rules:
    """How equality is judged.

    Attributes:
        strict: Whether a rational number must be written as a result, with nothing left to compute.
        rel_tol: How far apart two constant numbers may be, relative to the reference.
    """

    strict: bool = True
    rel_tol: float = 0.0


def same(reference: Answer, answer: Answer, rules: Rules) -> bool:
    """Whether two answers say the same."""
    if answer.is_tautology or not _holds_together(answer):
        return False
    if (
        answer.text
        and answer.text == reference.text
        and answer.unit == reference.unit
        and answer.name == reference.name
    ):
        return True
    if isinstance(reference.value, Several) or isinstance(answer.value, Several):
        return _same_several(reference, answer, rules)
    if _same_answer(reference, answer, rules):
        return True
    # 10/3 ≈ 3.33 answers 3.33, and where the reference is π ≈ 3.14, π is right.
    rounded = answer.approximation
    if rounded is None or not isinstance(answer.value, Node) or not isinstance(reference.value, Node):
        return False
    return _is_rounding(answer.value, rounded) and _same_answer(
        reference, replace(answer, value=rounded, approximation=None), rules
    )


def _holds_together(answer: Answer) -> bool:
    r"""Whether the parts of each chain agree: `7 = \sqrt{2}` and `\sqrt{2} ≈ 7` do not."""
    if isinstance(answer.value, Several):
        return all(map(_holds_together, answer.value.answers))
    return all(map(_agree, answer.neighbours))


def _agree(pair: Neighbours) -> bool:
    if numeric.differ_everywhere(pair.left, pair.right):
        # `\sin 30 = 1/2`: degrees, where the sign is missing
        in_degrees = _in_degrees(pair.left), _in_degrees(pair.right)
        if numeric.differ_everywhere(*in_degrees):
            return _is_rounding_of(pair.left, pair.right, is_approximate=pair.is_approximate)
    return True


def _in_degrees(node: Node) -> Node:
    """The expression with each angle that is a rational number taken for degrees."""
    if node.op in TRIGONOMETRIC and node.args[0].value is not None:
        return replace(node, args=(divided(multiplied(node.args[0], constant("pi")), number(180)),))
    return replace(node, args=tuple(map(_in_degrees, node.args))) if node.value is None else node


def _is_rounding_of(left: Node, right: Node, *, is_approximate: bool) -> bool:
    """Whether one of two constants may be written for the other: 3.14 or 3.141 for pi, and 22/7 behind an `≈`."""
    try:
        values = numeric.real_value(left), numeric.real_value(right)
    except numeric.NoValue:
        return False
    error = abs(values[0] - values[1])
    if symbols_of(left) or not any(values):
        return False
    for node, value, other in zip((left, right), values, reversed(values), strict=True):
        half = 0.0 if node.value is None else float(half_unit(node.value))
        is_precise = half <= 0.005 or abs(value) >= 200 * half
        is_cut_off = is_precise and abs(value) < abs(other)
        if half and (is_precise or is_approximate) and error <= half * (2 if is_cut_off else 1) * (1 + 1e-9):
            return True
    is_decimal = any(node.value is not None and half_unit(node.value) for node in (left, right))
    return is_approximate and not is_decimal and error <= max(map(abs, values)) / 100


def _same_answer(reference: Answer, answer: Answer, rules: Rules) -> bool:
    """`same` for answers that are not several."""
    left, right = reference.value, answer.value
    if isinstance(left, Several) or isinstance(right, Several):
        return False
    if reference.unit and answer.unit:
        factor = conversion(answer.unit, reference.unit)
        if factor is None:
            return False
        if factor != 1 and not isinstance(right, Node):
            return False
        right = _converted(right, factor) if factor != 1 and isinstance(right, Node) else right
    elif not is_left_out(reference.unit, answer.unit):
        return False
    if isinstance(left, Ratio) and isinstance(right, Ratio) and (reference.unit or answer.unit):
        return left == right  # 3:30 pm is not 1:10 pm
    if reference.relation and answer.relation and _need_relations(reference, answer):
        return _same_relation(reference.relation, answer.relation, rules)
    if isinstance(left, Node) and isinstance(right, Relation):
        right = right.sides[-1] if _is_identity(left, right, rules) else _quantity(right)
    if _have_other_names(reference, answer) and not reference.relation:
        return False
    return same_value(left, right, rules)


def _converted(node: Node, factor: Fraction) -> Node:
    """A number in another unit; nothing is left to compute that was not before."""
    value = number(node.value * factor) if node.value is not None else multiplied(number(factor), node)
    return replace(value, is_evaluated=node.is_evaluated)


def _have_other_names(reference: Answer, answer: Answer) -> bool:
    """Whether they are the values of different variables, or of the same ones in another order: `(y, x) = (1, 2)`."""
    if not (reference.name and answer.name) or reference.name == answer.name:
        return False
    if "(" in reference.name + answer.name:
        return sorted(reference.name) == sorted(answer.name)
    return True


def _need_relations(reference: Answer, answer: Answer) -> bool:
    """Whether two equations must be compared as such: they are not both solved for the same variable."""
    return not (reference.name and reference.name == answer.name)


def _is_identity(reference: Node, relation: Relation, rules: Rules) -> bool:
    """Whether both sides of an equation are the expression that is asked for: `(x + 1)^2 = x^2 + 2x + 1`."""
    if relation.ops != ("=",) or not symbols_of(reference):
        return False
    return all(isinstance(side, Node) and same_node(reference, side, rules) for side in relation.sides)


def _quantity(relation: Relation) -> Value:
    """The value of a quantity in several variables: `a + b = 14` answers 14, and `2x = 14` does not."""
    left, right = relation.sides[0], relation.sides[-1]
    is_equation = relation.ops == ("=",) and isinstance(right, Node) and not symbols_of(right)
    return right if is_equation and len(variables_of(left)) > 1 else relation


def same_value(reference: Value, answer: Value, rules: Rules) -> bool:
    """Whether two values are the same. Different types differ, with the exceptions documented in `MathReward`."""
    left, right = reference, answer
    if isinstance(left, Node) and isinstance(right, Node):
        return same_node(left, right, rules)
    if isinstance(left, Sequence) and isinstance(right, Sequence):
        return _same_sequence(left, right, rules)
    if isinstance(left, FiniteSet) and isinstance(right, FiniteSet):
        return _same_items(_distinct(left.items), _distinct(right.items), rules)
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        return _same_matrix(left, right, rules)
    if isinstance(left, _LINE_SETS) or isinstance(right, _LINE_SETS):
        return _same_set(left, right, rules)
    if isinstance(left, BaseNumeral) or isinstance(right, BaseNumeral):
        return _same_numeral(left, right, rules)
    if isinstance(left, Ratio) or isinstance(right, Ratio):
        return _same_ratio(left, right, rules)
    if isinstance(left, Congruence) and isinstance(right, Congruence):
        return _same_congruence(left, right, rules)
    if isinstance(left, LongNumber | Words | Literal | Choice):
        return left == right or (
            isinstance(left, Choice) and isinstance(right, Node) and right.op == "symbol" and right.name == left.letter
        )
    return False


# --- numbers and expressions ------------------------------------------------------------------------------------------


def same_node(reference: Node, answer: Node, rules: Rules) -> bool:
    """Whether two expressions are equal and, if `strict`, the answer to a rational number is one as well."""
    if reference == answer:
        return True
    if "infinity" in (reference.op, answer.op):
        return False
    if rules.strict and not answer.is_evaluated and _must_be_evaluated(reference, answer):
        return False
    if reference.value is not None and answer.value is not None:
        return _close(reference.value, answer.value, rules)
    if rules.rel_tol and not symbols_of(reference) and not symbols_of(answer) and _near(reference, answer, rules):
        return True
    return symbolic.equal(reference, answer)


def _must_be_evaluated(reference: Node, answer: Node) -> bool:
    """Whether nothing may be left to compute: for a rational number, and for `(2 + i)^2` where 3 + 4i is wanted.

    The polar form of a complex number is another way to write it.
    """
    if symbolic.rational_value(reference) is not None:
        return True
    return is_arithmetic(answer) and symbolic.is_gaussian(reference)


def _close(reference: Fraction, answer: Fraction, rules: Rules) -> bool:
    return answer == reference or abs(answer - reference) <= Fraction(rules.rel_tol) * abs(reference)


def _near(reference: Node, answer: Node, rules: Rules) -> bool:
    try:
        left, right = numeric.real_value(reference), numeric.real_value(answer)
    except numeric.NoValue:
        return False
    return bool(abs(right - left) <= rules.rel_tol * abs(left))


def _is_rounding(exact: Node, rounded: Node) -> bool:
    """Whether a decimal is a number rounded to as many places as it has."""
    if rounded.value is None:
        return False
    try:
        difference = numeric.real_value(exact) - numeric.real_value(rounded)
    except numeric.NoValue:
        return False
    return bool(abs(difference) <= float(half_unit(rounded.value)) * (1 + 1e-9))


def _same_numeral(left: Value, right: Value, rules: Rules) -> bool:
    """Base-n numerals. Writing a number in a base is what is asked for, so `strict` wants the reference's."""
    if rules.strict:
        return left == right
    values = [side.value if isinstance(side, BaseNumeral | Node) else None for side in (left, right)]
    return values[0] is not None and values[0] == values[1]


def _same_ratio(left: Value, right: Value, rules: Rules) -> bool:
    """Proportional ratios; one of two numbers is also the same as its quotient."""
    if isinstance(left, Ratio) and isinstance(right, Ratio):
        if len(left.parts) != len(right.parts):
            return False
        zero = (*left.parts, *right.parts)
        if any(part.value == 0 for part in zero):
            return all(map(symbolic.equal, left.parts, right.parts))
        scaled = [divided(part, right.parts[0]) for part in right.parts]
        return all(
            symbolic.equal(divided(part, left.parts[0]), other) for part, other in zip(left.parts, scaled, strict=True)
        ) and (not rules.strict or all(part.is_evaluated or part.value is None for part in right.parts))
    ratio, other = (left, right) if isinstance(left, Ratio) else (right, left)
    if not isinstance(ratio, Ratio) or not isinstance(other, Node) or len(ratio.parts) != 2:
        return False
    if ratio.parts[1].value == 0:
        return False
    return symbolic.equal(divided(*ratio.parts), other)


def _same_congruence(left: Congruence, right: Congruence, rules: Rules) -> bool:
    values = [left.right.value, right.right.value, left.modulus.value, right.modulus.value]
    if None in values or values[2] != values[3] or not values[2]:
        return False
    if left.left and right.left and not symbolic.equal(left.left, right.left):
        return False
    first, second, modulus, _ = values
    if first is None or second is None or modulus is None:
        return False
    if rules.strict and not right.right.is_evaluated:
        return False
    return (first - second) % modulus == 0


# --- collections ------------------------------------------------------------------------------------------------------


def _same_sequence(left: Sequence, right: Sequence, rules: Rules) -> bool:
    """Tuples, vectors and intervals: the same items in the same order; of two items, in the same brackets."""
    if len(left.items) != len(right.items):
        return False
    if len(left.items) == 2 and _brackets(left) != _brackets(right):
        return False
    return all(same_value(a, b, rules) for a, b in zip(left.items, right.items, strict=True))


def _brackets(sequence: Sequence) -> tuple[str, str]:
    return ("(", ")") if sequence.opening == "<(" else (sequence.opening, sequence.closing)


def _same_matrix(left: Matrix, right: Matrix, rules: Rules) -> bool:
    if (len(left.rows), len(left.rows[0])) != (len(right.rows), len(right.rows[0])):
        return False
    entries = zip(sum(left.rows, ()), sum(right.rows, ()), strict=True)
    return all(same_node(a, b, rules) for a, b in entries)


def _distinct(items: tuple[Value, ...]) -> tuple[Value, ...]:
    found: list[Value] = []
    for item in items:
        if not any(same_value(other, item, Rules(strict=False)) for other in found):
            found.append(item)
    return tuple(found)


def _same_items(left: tuple[Value, ...], right: tuple[Value, ...], rules: Rules) -> bool:
    """Whether each item has its counterpart, in any order."""
    if len(left) != len(right):
        return False
    rest = list(right)
    for item in left:
        found = next((i for i, other in enumerate(rest) if same_value(item, other, rules)), None)
        if found is None:
            return False
        del rest[found]
    return True


def _same_set(left: Value, right: Value, rules: Rules) -> bool:
    """Sets of numbers and relations, by what they contain or, where they have parameters, by what they say."""
    if isinstance(left, Relation) and isinstance(right, Relation):
        return _same_relation(left, right, rules)
    if isinstance(left, NumberSet) and isinstance(right, NumberSet):
        return left == right
    if isinstance(right, Relation) and not real_sets.is_solved(right) and isinstance(left, Sequence | Region):
        return False
    if real_sets.is_real_set(left) and real_sets.is_real_set(right):
        if rules.strict and not all(
            _is_result(end) for end in real_sets.ends_of(right) if end not in real_sets.ends_of(left)
        ):
            return False
        return real_sets.same_real_set(left, right, symbolic.equal)
    if isinstance(left, Region) and isinstance(right, Region) and left.op == right.op:
        if left.op == "difference":
            return all(same_value(a, b, rules) for a, b in zip(left.parts, right.parts, strict=True))
        return _same_items(left.parts, right.parts, rules)
    return False


def _is_result(end: Node) -> bool:
    return end.is_evaluated or symbolic.rational_value(end) is None


def _same_relation(left: Relation, right: Relation, rules: Rules) -> bool:
    if real_sets.is_real_set(left) and "=" not in left.ops:
        if variables_of(left) != variables_of(right):
            return False
        if real_sets.is_real_set(right):
            return _same_ends(left, right, rules)
    elif (
        rules.strict
        and real_sets.is_solved(left)
        and not (real_sets.is_solved(right) or relations.is_rearranged_only(right))
    ):
        return False
    return relations.same_relation(left, right)


def _same_ends(left: Value, right: Value, rules: Rules) -> bool:
    if rules.strict and not all(
        _is_result(end) for end in real_sets.ends_of(right) if end not in real_sets.ends_of(left)
    ):
        return False
    return real_sets.same_real_set(left, right, symbolic.equal)


# --- several answers --------------------------------------------------------------------------------------------------


def _same_several(reference: Answer, answer: Answer, rules: Rules) -> bool:
    left, right = _as_real_set(reference), _as_real_set(answer)
    if left is not None and right is not None and (isinstance(left, _LINE_SETS) or isinstance(right, _LINE_SETS)):
        return _same_set(left, right, rules)
    named = _by_name(reference), _by_name(answer)
    if named[0] and named[1]:
        if named[0].keys() != named[1].keys():
            return False
        return all(same(part, named[1][name], rules) for name, part in named[0].items())
    if named[0] or named[1]:
        # x = 1, y = 2 and the point (1, 2)
        values, other = (named[0], answer.value) if named[0] else (named[1], reference.value)
        ordered = tuple(values[name].value for name in sorted(values))
        if (
            isinstance(other, Sequence)
            and other.opening in ("(", "<(")
            and not any(isinstance(value, Several) for value in ordered)
        ):
            point = Sequence(tuple(v for v in ordered if not isinstance(v, Several)), "(", ")")
            pair = (point, other) if named[0] else (other, point)
            return same_value(*pair, rules)
    parts = _parts(reference), _parts(answer)
    if parts[0] is None or parts[1] is None or len(parts[0]) != len(parts[1]):
        return False
    rest = list(parts[1])
    for part in parts[0]:
        found = next((i for i, other in enumerate(rest) if same(part, other, rules)), None)
        if found is None:
            return False
        del rest[found]
    return True


def _parts(answer: Answer) -> list[Answer] | None:
    """The answers of several, or of a set, that of a plus-minus unfolded; None of one answer."""
    if isinstance(answer.value, FiniteSet):
        return [Answer(item, "") for item in _distinct(answer.value.items)]
    if not isinstance(answer.value, Several):
        return None
    parts = []
    for part in answer.value.answers:
        parts.extend(_parts(part) or [part] if isinstance(part.value, Several) else [part])
    return parts


def _by_name(answer: Answer) -> dict[str, Answer]:
    """The values of different variables; empty where the answers are not that."""
    if not isinstance(answer.value, Several):
        return {}
    names = [part.name for part in answer.value.answers]
    return dict(zip(names, answer.value.answers, strict=True)) if all(names) and len(set(names)) == len(names) else {}


def _as_real_set(answer: Answer) -> Value | None:
    """The set of real numbers that several relations describe together: `x < 1 or x > 3`."""
    value = answer.value
    if not isinstance(value, Several):
        return value if real_sets.is_real_set(value) else None
    parts = [part.value for part in value.answers]
    conditions = tuple(
        part for part in parts if not isinstance(part, Several) and isinstance(part, Relation | Region | Sequence)
    )
    if len(conditions) < len(parts) or not all(real_sets.is_real_set(part) for part in conditions):
        return None
    # (1, 2) or (3, 4) are points, and those of x in (1, 2) or x in (3, 4) are intervals.
    names = {part.name for part in value.answers}
    if all(isinstance(part, Sequence) for part in conditions) and (len(names) > 1 or "" in names or value.word != "or"):
        return None
    if len(set().union(*(variables_of(part) for part in conditions))) > 1:
        return None
    if value.word != "or":
        both = Region("intersection", conditions)
        if value.word == "and" or not real_sets.same_real_set(both, FiniteSet(), symbolic.equal):
            return both
    return Region("union", conditions)
