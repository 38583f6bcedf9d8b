"""The expression parser."""

import ast
import pathlib
import subprocess
import sys

import pytest
import sympy

import rewards
from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge
from rewards.math.parser import parse
from rewards.math.symbolic import to_sympy

x, y, z = sympy.symbols("x y z")
READ = [
    ("1 + 2 * 3", 7),
    ("2 - 3 - 4", -5),
    ("12 / 3 / 2", 2),
    ("-2^2", -4),
    ("2^-1", sympy.Rational(1, 2)),
    ("2^3^2", 512),
    ("2**3", 8),
    ("2(3)", 6),
    ("2 \\cdot 3 \\times 4", 24),
    ("12 \\div 4", 3),
    ("3\u00d74", 12),
    ("3\u00b2", 9),
    ("xy", x * y),
    ("2x", 2 * x),
    ("x^{10}", x**10),
    ("x^10", x**10),
    ("2x^2y", 2 * x**2 * y),
    ("(x+1)(x-1)", (x + 1) * (x - 1)),
    ("\\left(x+1\\right)^2", (x + 1) ** 2),
    ("\\frac{x}{y}", x / y),
    ("\\frac{x+1}2", (x + 1) / 2),
    ("\\frac12x", x / 2),
    ("\\sqrt{2}", sympy.sqrt(2)),
    ("\\sqrt2", sympy.sqrt(2)),
    ("\\sqrt{8}", 2 * sympy.sqrt(2)),
    ("\\sqrt[3]{2}", sympy.root(2, 3)),
    ("sqrt(2)", sympy.sqrt(2)),
    ("\u221a2", sympy.sqrt(2)),
    ("2\\sqrt{3}", 2 * sympy.sqrt(3)),
    ("2\\pi", 2 * sympy.pi),
    ("2pi", 2 * sympy.pi),
    ("2\u03c0", 2 * sympy.pi),
    ("e^x", sympy.exp(x)),
    ("exp(x)", sympy.exp(x)),
    ("sin(x)", sympy.sin(x)),
    ("\\sin 2x", sympy.sin(2 * x)),
    ("\\sin x \\cos x", sympy.sin(x) * sympy.cos(x)),
    ("\\sin^2 x", sympy.sin(x) ** 2),
    ("\\sin(x)^2", sympy.sin(x) ** 2),
    ("\\tan x", sympy.tan(x)),
    ("\\ln x", sympy.log(x)),
    ("\\log x", sympy.log(x)),
    ("\\log_2 x", sympy.log(x) / sympy.log(2, evaluate=False)),
    ("|x|", sympy.Abs(x)),
    ("2|x|+|y|", 2 * sympy.Abs(x) + sympy.Abs(y)),
    ("|-5|", 5),
    ("abs(x)", sympy.Abs(x)),
    ("x_1", sympy.Symbol("x_1")),
    ("x_{12}", sympy.Symbol("x_12")),
    ("\\alpha + \\beta", sympy.Symbol("alpha") + sympy.Symbol("beta")),
    ("1,234 + 1", 1235),
    ("50\\% + 1", sympy.Rational(3, 2)),
    ("2\\frac{1}{2} + 1", sympy.Rational(7, 2)),
]
UNREADABLE = [
    "",
    " ",
    "+",
    "1 +",
    "(1",
    "1)",
    "(1]",
    "1 2",
    "x2",
    "2 3/2",
    "2\\frac{3}{2}",
    "1/0",
    "1/(2-2)",
    "0^0",
    "0^{-1}",
    "\\frac{1}",
    "\\frac1.5 2",
    "\\sin",
    "\\sin^{-2} x",
    "apples",
    "14 or 15",
    "x.y",
    "__import__('os')",
    "().__class__",
    "lambda: 1",
    "x < 1",
    "x, y",
    "{1, 2}",
    "\\{1\\}",
    "\\input{x}",
    "\\def\\a{\\a}\\a",
    "|x",
    "_1",
    "x_",
    "5%%",
    "\u0664\u0662",
    "\ud800",
    "\0",
    "\u202e5",
]
TOO_LARGE = [
    "9^9^9^9",
    "9**9**9**9",
    "((9^9)^9)^999",
    "9^{9^{9^{9^x}}}",
    "e^{e^{e^x}}",
    "2^{10000}",
    "x^{10001}",
    "(((2x)^{999})^{999})^{999}",
    "x^{1/5001}",
    "1e4999 + 1",
    "1e99999 + 1",
    "9" * 300 + "x",
    "(" * 5_000 + "x" + ")" * 5_000,
    "(" * 100 + "x" + ")" * 100,
    "-" * 100 + "x",
    "x^" * 100 + "x",
    "x/" * 100 + "x",
    "\\sin " * 100 + "x",
    "|" * 100 + "x",
    "\\frac{1}{" * 100 + "x" + "}" * 100,
    "\\sqrt{" * 100 + "x" + "}" * 100,
    "x+" * 400 + "x",
    "(99999999^{99})^{1/2}",
]


@pytest.mark.parametrize(("text", "expected"), READ)
def test_read(text, expected):
    assert to_sympy(parse(text)) == expected


@pytest.mark.parametrize("text", UNREADABLE)
def test_unreadable(text):
    with pytest.raises(Unreadable):
        parse(text)


@pytest.mark.parametrize("text", TOO_LARGE)
def test_too_large(text):
    with pytest.raises(TooLarge):
        parse(text)


@pytest.mark.parametrize(
    ("text", "evaluated"),
    [
        ("(14)", True),
        ("{-14}", True),
        ("(\\frac{3}{4})", True),
        ("-(5)", True),
        ("-(-5)", False),
        ("2 + 3", False),
        ("2 * 3", False),
        ("2^3", False),
        ("\\sqrt{16}", False),
        ("|5|", False),
        ("(8)/(4)", False),
        ("x", False),
    ],
)
def test_is_evaluated(text, evaluated):
    assert parse(text).is_evaluated is evaluated


def test_the_process_that_asks_for_verdicts_never_loads_sympy():
    script = """
import sys
from rewards.math import MathReward
reward = MathReward()
for text in ("425", "17 * 25", "9^9^9^9", "x + 1"):
    reward([""], [f"\\\\boxed{{{text}}}"], ["1 + x"])
assert reward([""], ["\\\\boxed{x + 1}"], ["1 + x"])[0].reward == 1
assert "sympy" not in sys.modules and "mpmath" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=pathlib.Path(rewards.__file__).parents[1])


FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "sympify",
    "parse_expr",
    "parse_latex",
    "lambdify",
    "S",
    "getattr",
}


def called_names(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute) and not (
                isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
            ):
                yield node.func.attr


def test_text_of_a_model_is_never_evaluated():
    root = pathlib.Path(rewards.__file__).parent
    files = [root / "extract.py", *sorted((root / "math").glob("*.py"))]
    assert len(files) >= 6
    for file in files:
        assert FORBIDDEN.isdisjoint(called_names(file.read_text(encoding="utf-8"))), file


def test_the_search_for_forbidden_calls_finds_them():
    assert not FORBIDDEN.isdisjoint(called_names("sympy.sympify(text)"))
    assert not FORBIDDEN.isdisjoint(called_names("eval(text)"))
