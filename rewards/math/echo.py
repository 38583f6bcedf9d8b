r"""Whether an answer is a formula of the question, handed back.

An expression equals what it simplifies to, so `\sqrt{8}` answers "Simplify $\sqrt{8}$" by value. It does not by form.
"""

from __future__ import annotations

import re

from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge
from rewards.math.parser import parse_value

_MAX_CHARACTERS = 1000
_IGNORED = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[,;:! ]|[\s$]")
_IS_FORMULA = re.compile(r"[-+*/^\\]")


def is_echo(prompt: str, answer: str, reference: str) -> bool:
    r"""Whether the answer stands in the prompt as it is and is written otherwise in the reference.

    Plain numbers and letters are never echoes, nor is what reads as the reference's own form (`\frac12` and `1/2`).

    >>> is_echo(r"Simplify $\sqrt{8}$.", r"\sqrt{8}", r"2\sqrt{2}"), is_echo("Is 1/2 or 1/3 larger?", "1/2", r"\frac12")
    (True, False)
    """
    if len(answer) > _MAX_CHARACTERS or not _IS_FORMULA.search(answer.lstrip("-")):
        return False
    bare = _IGNORED.sub("", answer)
    if bare not in _IGNORED.sub("", prompt) or bare == _IGNORED.sub("", reference):
        return False
    try:
        return parse_value(answer) != parse_value(reference)
    except (Unreadable, TooLarge, RecursionError):
        return False
