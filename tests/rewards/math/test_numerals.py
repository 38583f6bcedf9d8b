"""Exact numbers, and the slow twin of the fast path."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.math.numerals import MAX_DIGITS, TooLarge, parse_numeral, read_numeral
from rewards.math.parser import parse
from rewards.math.symbolic import to_sympy
from rewards.math.units import conversion

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
    ("50 percent", "1/2"),
    ("1 234 567", "1234567"),
    ("0.\\overline{3}", "1/3"),
    ("0.1\\overline{6}", "1/6"),
    ("0.(3)", "1/3"),
    ("2\u00bd", "5/2"),
    ("\u2155", "1/5"),
]
WITH_WORDS = [
    ("1.5 million", "1500000"),
    ("3 dozen", "36"),
    ("2\\text{ thousand}", "2000"),
    ("3rd", "3"),
    ("5^{th}", "5"),
]
WITH_UNITS = [
    ("12 \\mathrm{~km} / \\mathrm{h}", "12", "length/time"),
    ("12\\,\\mathrm{m}\\cdot\\mathrm{s}^{-1}", "12", "length/time"),
    ("5\\,\\mathrm{kg\\,m^{-3}}", "5", "mass/length^3"),
    ("5 \\, \\frac{\\text{kg}}{\\text{m}^3}", "5", "mass/length^3"),
    ("3\\text{ ft } 4\\text{ in}", "40", "length"),
    ("\\text{1 hour and 30 minutes}", "90", "time"),
    ("5' 6\"", "66", "length"),
    ("\\text{40 sq ft}", "40", "length^2"),
    ("$5/hour", "5", "dollar/time"),
    ("5\\,m", "5", "length"),
    ("7,\\! 250,\\! 000 \\text{ kWh}", "7250000", "length^2*mass/time^2"),
    ("$14", "14", "dollar"),
    ("\\$14", "14", "dollar"),
    ("-$14", "-14", "dollar"),
    ("$-14", "-14", "dollar"),
    ("14 dollars", "14", "dollar"),
    ("$14 dollars", "14", "dollar"),
    ("\u20ac14", "14", "euro"),
    ("14 cm", "14", "length"),
    ("14\\text{ cm}", "14", "length"),
    ("14 \\mathrm{~cm}^2", "14", "length^2"),
    ("14 cm\u00b2", "14", "length^2"),
    ("14 square feet", "14", "length^2"),
    ("14\\text{ m}", "14", "length"),
    ("14 m^3", "14", "volume"),
    ("14 km/h", "14", "length/time"),
    ("14 miles per hour", "14", "length/time"),
    ("9.8 m/s^2", "9.8", "length/time^2"),
    ("90^\\circ", "90", "degree"),
    ("90\u00b0", "90", "degree"),
    ("20 ^\\circ\\text{C}", "20", "temperature C"),
    ("14 apples", "14", "apple"),
    ("14 \\text{ apples}", "14", "apple"),
    ("14 \\text{ red apples}", "14", "red apple"),
    ("2 million dollars", "2000000", "dollar"),
]
NOT_NUMBERS = [
    "",
    "-",
    "--5",
    "x",
    "14x",
    "14 m",
    "4s^2",
    "14m^2",
    "5(def)",
    "5/cm",
    "7\\,ab",
    "5 ft, 6 in",
    "6 in 5 ft",
    "1 h 90 min",
    "1,23",
    "12345,678",
    "1,2345",
    "0,123",
    "1 2345",
    "12 34",
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
    "14 millions",
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
    "4\u0662",
    "\ud800",
    "4\x002",
]


@pytest.mark.parametrize(("text", "value"), NUMBERS + WITH_WORDS)
def test_number(text, value):
    assert parse_numeral(text) == Fraction(value)


@pytest.mark.parametrize(("text", "value", "unit"), WITH_UNITS)
def test_unit(text, value, unit):
    numeral = read_numeral(text)
    assert (numeral.value, numeral.unit.dimension) == (Fraction(value), unit)


@pytest.mark.parametrize(
    ("left", "right"),
    [("1 km", "1000 \\text{ m}"), ("1 km/h", "1000 metres per hour"), ("1 m^3", "1000 liters"), ("2 hours", "120 min"),
     ("50 cents", "$0.50"), ("1 m^2", "10000 cm^2"), ("36 km/h", "10 m/s"), ("1 kg", "1000 grams")],
)  # fmt: skip
def test_units_of_one_dimension_have_exact_factors(left, right):
    first, second = read_numeral(left), read_numeral(right)
    assert first.value * conversion(first.unit, second.unit) == second.value


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_not_a_number(text):
    assert parse_numeral(text) is None


@pytest.mark.parametrize(
    "text",
    ["1/" + "9" * 5_000, "9" * 5_000 + "/7", "1e4001", "1e-999999999", "x" * 7_000],
)
def test_too_large(text):
    with pytest.raises(TooLarge):
        parse_numeral(text)


def test_the_largest_number_that_is_computed_with_is_exact():
    assert parse_numeral("9" * MAX_DIGITS) == 10**MAX_DIGITS - 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9" * 9_000, "9" * 9_000),
        ("-" + "9" * 9_000, "-" + "9" * 9_000),
        ("+00" + "9" * 9_000 + ".500", "9" * 9_000 + ".5"),
        ("0.5" + "0" * 15_000, Fraction(1, 2)),
        ("-3.14" + "0" * 50_000, Fraction(-157, 50)),
        ("5." + "0" * 9_000, 5),
        ("7" * 40_000, "7" * 40_000),
        ("0" * 9_000 + "7", 7),
        ("1" + ",000" * 3_000, "1" + "000" * 3_000),
    ],
)
def test_a_plain_number_may_have_any_length(text, value):
    assert parse_numeral(text) == value


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


# the words and the spaces between groups are read by the fast path alone
@pytest.mark.parametrize(
    ("text", "value"), [row for row in NUMBERS if " percent" not in row[0] and row[0] != "1 234 567"]
)
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
