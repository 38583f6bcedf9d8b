"""What stands around a box inside another box belongs to the answer."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rewards.math import MathReward

with (Path(__file__).parent / "boxes_in_boxes.tsv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("row", ROWS, ids=[row["inside"] for row in ROWS])
def test_verdict(row):
    (result,) = MathReward()(["?"], [f"\\boxed{{{row['inside']}}}"], [row["reference"]])
    assert result.reward == float(row["verdict"] == "right"), result
