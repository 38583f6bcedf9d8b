r"""Whether an answer is a formula of the question, handed back.

An expression equals what it simplifies to, so `\sqrt{8}` answers "Simplify $\sqrt{8}$" by value. It does not by form.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rewards.latex import TEXT_COMMAND
from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge
from rewards.math.parser import parse_value
from rewards.math.values import Relation, Value

_MAX_CHARACTERS = 1000
_IGNORED = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[,;:! ]|[\s$]")
_IS_FORMULA = re.compile(r"[-+*/^\\]")
_DELIMITED = re.compile(r"\$\$?([^$]{1,1000})\$|\\\(([^$]{1,1000}?)\\\)|\\\[([^$]{1,1000}?)\\\]")
_NAME = re.compile(r"^ *+\\?[a-zA-Z]++(?:_\w)?(?:\(\w\))? *+=(?!.*=)")  # y =, f(x) =
_TEXT_AT_END = re.compile(rf"{TEXT_COMMAND} *+\{{[^{{}}]*+\}}$")
_MAX_FORMULAS = 20


def is_echo(prompt: str, answer: str, reference: str) -> bool:
    r"""Whether the answer stands in the prompt and is written otherwise in the reference.

    `y = \sqrt 8 \text{ cm}` is `\sqrt{8}` in another spelling. Plain numbers and letters are never echoes, nor is what
    reads as the reference's own form (`\frac12` and `1/2`).

    >>> is_echo(r"Simplify $\sqrt{8}$.", r"\sqrt{8}", r"2\sqrt{2}"), is_echo("Is 1/2 or 1/3 larger?", "1/2", r"\frac12")
    (True, False)
    """
    if "=" not in (expression := _NAME.sub("", reference)):
        answer, reference = _TEXT_AT_END.sub("", _NAME.sub("", answer)), expression
    if len(answer) > _MAX_CHARACTERS or not _IS_FORMULA.search(answer.lstrip("-")):
        return False
    bare = _IGNORED.sub("", answer)
    if bare == _IGNORED.sub("", reference):
        return False
    value = _value(answer)
    if value is None or (expected := _value(reference)) is None or value == expected:
        return False
    return bare in _IGNORED.sub("", prompt) or value in _formulas(prompt)


def _value(text: str) -> Value | None:
    try:
        return parse_value(text)
    except (Unreadable, TooLarge, RecursionError):
        return None


@lru_cache(maxsize=1024)
def _formulas(prompt: str) -> tuple[Value, ...]:
    """What stands between signs of mathematics, and the sides of what is an equation there."""
    found: list[Value] = []
    for match in list(_DELIMITED.finditer(prompt))[:_MAX_FORMULAS]:
        value = _value("".join(filter(None, match.groups())))
        if value is not None:
            found += [value, *(value.sides if isinstance(value, Relation) else ())]
    return tuple(found)
