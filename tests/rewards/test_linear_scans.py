"""Every scan of a completion takes operations in proportion to its length, for whatever is repeated in it."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from hypothesis import example, given, settings

import rewards.code.extraction
import rewards.extract
import rewards.math.lexer
from tests.operations import LONG, TEXTS, assert_linear, count_operations

CODE, ANSWER, LEXER = rewards.code.extraction, rewards.extract, rewards.math.lexer
PREFIX = "import math\n\n\ndef f(x):\n    '''Doc.'''\n"
BOUNDED = settings(max_examples=40, deadline=None, derandomize=True)


@BOUNDED
@given(TEXTS)
@example(('```python\n"""', '\\"""', '\n"""\n'))
@example(("```python\n'''", "\\'''", "\n```\n'''\n"))
@example(('```python\n"""', '\\""""', "\n"))
@example(("", '```python\n"""\n```\n', "'''"))
@example(("```python\n", "'''\"\"\"\\", "\n```\n"))
@example(("~~~\n", '```\n"""\n', "~~~"))
@example(("", "```x`\n", ""))
def test_finding_a_program(parts):
    assert_linear(CODE.extract_code, parts, (CODE,))
    assert_linear(lambda text: CODE.extract_code(text, entry_point="f"), parts, (CODE,))
    assert_linear(lambda text: CODE.extract_code(text, entry_point="f", prefix=PREFIX), parts, (CODE,))


@BOUNDED
@given(TEXTS)
@example(("", "\\boxed{", ""))
@example(("", "\\boxed{", "}" * 400))
@example(("", "<answer>", "</answer>"))
@example(("", "answer ", ""))
@example(("#### ", "**", ""))
def test_finding_an_answer(parts):
    assert_linear(ANSWER.extract_answer, parts, (ANSWER,))


@BOUNDED
@given(TEXTS)
@example(("", "\\{", ""))
@example(("1", "0", "x"))
def test_the_lexer_of_formulas(parts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LEXER, "MAX_CHARACTERS", 10 * LONG)
        patch.setattr(LEXER, "MAX_TOKENS", 10 * LONG)
        assert_linear(LEXER.tokenize, parts, (LEXER,))


def module_of(source: str) -> ModuleType:
    """A module, whose instructions are counted by its file's name."""
    module = ModuleType("scan")
    module.__file__ = "<scan>"
    module.re = re
    exec(compile(source, "<scan>", "exec"), module.__dict__)  # noqa: S102
    return module


QUADRATIC = {
    "slices": "def scan(t):\n    while t: t = t[1:]",
    "searches": "def scan(t):\n    for i in range(len(t)): t.find('!', i)",
    "searches from behind": "def scan(t):\n    for i in range(len(t)): t.rfind('!', 0, i)",
    "loops": "def scan(t):\n    for i in range(len(t) // 8):\n        for j in range(i): pass",
    "copies": "def scan(t):\n    while t != (t := t.removeprefix('a')): pass",
    "membership": "def scan(t):\n    for _ in range(len(t)): '!' in t",
    "expressions": "P = re.compile('a*')\ndef scan(t):\n    for i in range(len(t)): P.match(t, i)",
    "expressions in a table": "P = {1: re.compile('b')}\ndef scan(t):\n    for i in range(len(t)): P[1].search(t, i)",
    "expressions that are compiled late": "def scan(t):\n    for i in range(len(t)): re.search('a+', t[i:])",
    "parts of parts": "def scan(t):\n    (line,) = t.splitlines()\n    for i in range(len(line)): line.count('b')",
}


@pytest.mark.parametrize("name", QUADRATIC)
def test_what_is_quadratic_is_seen(name):
    module = module_of(QUADRATIC[name])
    with pytest.raises(AssertionError, match="operations"):
        assert_linear(module.scan, ("", "a", ""), (module,))


@pytest.mark.parametrize(
    "source", ["def scan(t):\n    for c in t: pass", "def scan(t):\n    t.split('a'), t.find('b')", "def scan(t): pass"]
)
def test_what_is_linear_is_not(source):
    module = module_of(source)
    assert_linear(module.scan, ("", "a", ""), (module,))
    assert count_operations(module.scan, "aaa", (module,)) == count_operations(module.scan, "aaa", (module,)) > 0
