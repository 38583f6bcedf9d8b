"""Math-Verify as its README calls it, to be run in worker processes: its timeouts are signals."""

from math_verify import parse, verify


def judge(completion: str, reference: str) -> bool:
    """Whether Math-Verify pays the completion."""
    return bool(verify(parse(f"${reference}$"), parse(completion)))
