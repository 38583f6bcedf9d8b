"""The table of verdicts, `math_cases.tsv`: one row a case, for the strict reward and the lenient one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rewards.math import MathReward

TABLE = Path(__file__).with_name("math_cases.tsv")
CONTROL = str.maketrans({"⏎": "\n", "␉": "\t", "␀": "\0"})


def cases():
    with TABLE.open(encoding="utf-8", newline="") as file:
        for i, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
            yield pytest.param(row, id=f"{row['kind']}-line{i}")


@pytest.mark.parametrize("row", list(cases()))
def test_verdict(row):
    completion, reference = row["completion"].translate(CONTROL), row["reference"].translate(CONTROL)
    for mode in ("strict", "lenient"):
        (result,) = MathReward(strict=mode == "strict")(["?"], [completion], [reference])
        verdict = "right" if result.reward == 1.0 else "wrong"
        assert verdict == row[mode], f"{mode}: {completion!r} for {reference!r} is {result.outcome}: {row['why']}"


def test_the_table_is_broad():
    rows = [case.values[0] for case in cases()]
    assert len(rows) >= 1_000
    assert {row["strict"] for row in rows} == {row["lenient"] for row in rows} == {"right", "wrong"}
    by_kind = {row["kind"]: sum(other["kind"] == row["kind"] for other in rows) for row in rows}
    assert len(by_kind) >= 20
    assert min(by_kind.values()) >= 10
