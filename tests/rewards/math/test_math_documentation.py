"""Every row of the tables in docs/math_reward.md is what the reward does."""

import re
from pathlib import Path

import pytest

from rewards.math import MathReward
from rewards.math.expressions import MAX_DEPTH
from rewards.math.lexer import MAX_DIGITS, MAX_TOKENS
from rewards.math.nodes import MAX_BITS, MAX_EXPONENT, MAX_FACTORIAL

PAGE = Path(__file__).parents[3] / "docs" / "math_reward.md"
ROW = re.compile(r"\| `(?P<answer>.+?)` \| `(?P<reference>.+?)` \| (?P<verdict>[a-z, ]+) \|")
VERDICTS = {
    "right": (1.0, 1.0),
    "wrong": (0.0, 0.0),
    "strict wrong, lenient right": (0.0, 1.0),
}


def rows():
    return [match.groupdict() for match in ROW.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['answer']} for {row['reference']}"[:60])
def test_row(row):
    got = tuple(
        MathReward(strict=strict)(["?"], [f"\\boxed{{{row['answer']}}}"], [row["reference"]])[0].reward
        for strict in (True, False)
    )
    assert got == VERDICTS[row["verdict"]]


def test_all_rows_are_found():
    assert len(rows()) == sum(line.count("| `") == 2 for line in PAGE.read_text(encoding="utf-8").splitlines()) > 90


def test_the_limits_are_those_of_the_code():
    page = PAGE.read_text(encoding="utf-8")
    for text in (f"{MAX_TOKENS} signs", f"{MAX_DEPTH} nested", f"{MAX_DIGITS} digits", f"{MAX_BITS:,} bits",
                 f"exponent beyond {MAX_EXPONENT:,}", f"factorial beyond {MAX_FACTORIAL}"):  # fmt: skip
        assert text in page
