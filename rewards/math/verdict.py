"""The verdict on one answer, as a worker process gives it.

Importing this loads sympy. `MathReward` names the function to the worker processes and does not import it.
"""

from __future__ import annotations

from functools import lru_cache

from rewards.base import Outcome
from rewards.math.answers import read_answer, read_reference
from rewards.math.equivalence import Rules, same
from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge
from rewards.math.statements import Answer, SeveralCandidates


def judge(text: str, reference: str, strict: bool, rel_tol: float) -> str:
    """The `Outcome` of an answer that has been extracted, by name.

    Args:
        text: The answer.
        reference: The reference, which `read_reference` reads.
        strict: Whether a rational number must be written as a result, with nothing left to compute.
        rel_tol: How far apart two constant numbers may be, relative to the reference.
    """
    expected = _reference(reference)
    try:
        answer = read_answer(text, expected)
    except Unreadable:
        return Outcome.UNPARSED
    except SeveralCandidates:
        return Outcome.WRONG
    except (TooLarge, RecursionError):
        return Outcome.TOO_LARGE
    try:
        return Outcome.CORRECT if same(expected, answer, Rules(strict, rel_tol)) else Outcome.WRONG
    except (TooLarge, RecursionError):
        return Outcome.TOO_LARGE
    except Unreadable:
        return Outcome.WRONG


@lru_cache(maxsize=256)
def _reference(text: str) -> Answer:
    return read_reference(text)
