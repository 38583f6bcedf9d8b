"""Where models put their final answers, and what they say beside them: `final_answers.tsv`, one row a case."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rewards.math import MathReward

TABLE = Path(__file__).with_name("final_answers.tsv")


def cases():
    with TABLE.open(encoding="utf-8", newline="") as file:
        for i, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=2):
            yield pytest.param(row, id=f"{row['kind']}-line{i}")


@pytest.mark.parametrize("row", list(cases()))
def test_verdict(row):
    completion = row["completion"].replace("⏎", "\n")
    (result,) = MathReward()(["?"], [completion], [row["reference"]])
    verdict = "right" if result.reward == 1.0 else "wrong"
    assert verdict == row["verdict"], f"{completion!r} for {row['reference']!r} is {result.outcome}: {result.answer!r}"


def test_each_kind_has_right_and_wrong_rows():
    rows = [case.values[0] for case in cases()]
    for kind in {row["kind"] for row in rows}:
        verdicts = [row["verdict"] for row in rows if row["kind"] == kind]
        assert min(verdicts.count("right"), verdicts.count("wrong")) >= 4, kind
