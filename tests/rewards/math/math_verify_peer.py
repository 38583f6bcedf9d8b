"""Math-Verify as its README calls it, to be run in worker processes: its timeouts are signals."""

from functools import cache
from typing import Any

from math_verify import parse, verify


@cache
def parsed_reference(reference: str) -> list[Any]:
    """A reference is that of several completions."""
    return parse(f"${reference}$")


def judge(completion: str, reference: str) -> bool:
    """Whether Math-Verify pays the completion."""
    return bool(verify(parsed_reference(reference), parse(completion)))
