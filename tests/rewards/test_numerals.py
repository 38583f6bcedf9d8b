"""Exact numbers, and the slow twin of the fast path."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.math.nodes import to_sympy
from rewards.math.numerals import MAX_DIGITS, TooLarge, parse_numeral, read_numeral
from rewards.math.parser import parse

NUMBERS = [
    ("42", "42"),
    ("042", "42"),
    ("+5", "5"),
    ("-5", "-5"),
    ("- 5", "-5"),
    ("\u22125", "-5"),
    ("-0.5", "-1/2"),
    (".5", "1/2"),
    ("5.", "5"),
    ("1,234", "1234"),
    ("1,234,567.25", "123456725/100"),
    ("1{,}234", "1234"),
    ("1\\,234", "1234"),
    ("1,\\!234", "1234"),
    ("3/4", "3/4"),
    ("-3 / 4", "-3/4"),
    ("\\frac{3}{4}", "3/4"),
    ("-\\dfrac{3}{4}", "-3/4"),
    ("\\frac{-3}{4}", "-3/4"),
    ("\\frac34", "3/4"),
    ("\\tfrac 3{14}", "3/14"),
    ("2 1/2", "5/2"),
    ("-2 1/2", "-5/2"),
    ("2\\frac{1}{2}", "5/2"),
    ("1.2e3", "1200"),
    ("1.2E-3", "12/10000"),
    ("1.2 \\times 10^3", "1200"),
    ("1.2 \\cdot 10^{-3}", "12/10000"),
    ("1.2 x 10^3", "1200"),
    ("50%", "1/2"),
    ("50\\%", "1/2"),
]
WITH_UNITS = [
    ("$14", "14", "dollar"),
    ("\\$14", "14", "dollar"),
    ("-$14", "-14", "dollar"),
    ("$-14", "-14", "dollar"),
    ("14 dollars", "14", "dollar"),
    ("$14 dollars", "14", "dollar"),
    ("\u20ac14", "14", "euro"),
    ("14 cm", "14", "cm"),
    ("14\\text{ cm}", "14", "cm"),
    ("14 \\mathrm{~cm}^2", "14", "cm^2"),
    ("14 cm\u00b2", "14", "cm^2"),
    ("14\\text{ m}", "14", "m"),
    ("90^\\circ", "90", "degree"),
    ("90\u00b0", "90", "degree"),
    ("14 apples", "14", ""),
    ("14 \\text{ apples}", "14", ""),
    ("14 \\text{ red apples}", "14", ""),
    ("50 percent", "1/2", ""),
]
NOT_NUMBERS = [
    "",
    "-",
    "--5",
    "x",
    "14x",
    "14 m",
    "1,23",
    "12345,678",
    "1,2345",
    "0,123",
    "1 234",
    "1.2.3",
    "2 + 2",
    "2 4/2",
    "1/0",
    "\\frac{1}{0}",
    "\\frac{1.5}{2}",
    "1/2/3",
    "14 or 15",
    "14, 15",
    "14 \\text{ or } 15",
    "14 \\text{ or fifteen}",
    "14 million",
    "14 squared",
    "$14 euros",
    "5!",
    "0x10",
    "1_000",
    "inf",
    "nan",
    "\u0664\u0662",
    "\uff14\uff12",
    "\u00b2",
    "\u2155",
    "4\u0662",
    "\ud800",
    "4\x002",
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_number(text, value):
    assert parse_numeral(text) == Fraction(value)


@pytest.mark.parametrize(("text", "value", "unit"), WITH_UNITS)
def test_unit(text, value, unit):
    numeral = read_numeral(text)
    assert (numeral.value, numeral.unit) == (Fraction(value), unit)


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_not_a_number(text):
    assert parse_numeral(text) is None


@pytest.mark.parametrize(
    "text",
    ["9" * (MAX_DIGITS + 1), "1/" + "9" * 5_000, "0." + "0" * 5_000 + "1", "1e4001", "1e-999999999", "x" * 7_000],
)
def test_too_large(text):
    with pytest.raises(TooLarge):
        parse_numeral(text)


def test_the_largest_number_is_exact():
    assert parse_numeral("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1


@pytest.mark.parametrize(
    ("text", "evaluated"), [("3/4", True), ("84/2", False), ("4/1", False), ("\\frac{8}{4}", False)]
)
def test_a_quotient_that_comes_out_even_is_not_evaluated(text, evaluated):
    assert read_numeral(text).is_evaluated is evaluated
    assert parse(text).is_evaluated is evaluated


def by_parser(text):
    value = to_sympy(parse(text))
    assert value.is_Rational
    return Fraction(int(value.p), int(value.q))


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_the_parser_agrees(text, value):
    assert by_parser(text.replace(" x ", " \\times ")) == Fraction(value)


WHOLE = st.integers(0, 10**6).map(str)
POSITIVE = st.integers(1, 10**6).map(str)
WRITTEN = st.one_of(
    WHOLE,
    st.integers(0, 10**9).map("{:,}".format),
    st.tuples(WHOLE, WHOLE).map(".".join),
    st.tuples(WHOLE, POSITIVE).map("/".join),
    st.tuples(WHOLE, POSITIVE).map("\\frac{{{0[0]}}}{{{0[1]}}}".format),
    st.tuples(WHOLE, st.integers(2, 99)).map("{0[0]} 1/{0[1]}".format),
    st.tuples(WHOLE, st.integers(-20, 20)).map("{0[0]}e{0[1]}".format),
    st.tuples(WHOLE, st.integers(-20, 20)).map("{0[0]} \\times 10^{{{0[1]}}}".format),
)


@settings(max_examples=150, deadline=None)
@given(sign=st.sampled_from(["", "-", "+"]), number=WRITTEN, percent=st.sampled_from(["", "%"]))
def test_the_parser_agrees_on_any_number(sign, number, percent):
    text = sign + number + (percent if number.isdigit() else "")
    value = parse_numeral(text)
    assert value is not None
    assert value == by_parser(text)
