"""The tables of verdicts: one row a case, for the strict reward and the lenient one.

`math_cases.tsv` has cases of every kind; `math_forms.tsv` has the many forms of a few kinds: units, chains of
equations, domains, numerals, and things that are named.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rewards.math import MathReward

HERE = Path(__file__).parent
CONTROL = str.maketrans({"⏎": "\n", "␉": "\t", "␀": "\0"})


def rows_of(name):
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def cases():
    for name in ("math_cases.tsv", "math_forms.tsv"):
        for i, row in enumerate(rows_of(name), start=2):
            yield pytest.param(row, id=f"{row['kind']}-line{i}-of-{name.removesuffix('.tsv')}")


@pytest.mark.parametrize("row", list(cases()))
def test_verdict(row):
    completion, reference = row["completion"].translate(CONTROL), row["reference"].translate(CONTROL)
    for mode in ("strict", "lenient"):
        (result,) = MathReward(strict=mode == "strict")(["?"], [completion], [reference])
        verdict = "right" if result.reward == 1.0 else "wrong"
        assert verdict == row[mode], f"{mode}: {completion!r} for {reference!r} is {result.outcome}: {row.get('why')}"


@pytest.mark.parametrize(("name", "rows", "kinds"), [("math_cases.tsv", 1_000, 20), ("math_forms.tsv", 500, 5)])
def test_the_tables_are_broad(name, rows, kinds):
    table = rows_of(name)
    assert len(table) >= rows
    assert {row["strict"] for row in table} == {row["lenient"] for row in table} == {"right", "wrong"}
    by_kind = {row["kind"]: sum(other["kind"] == row["kind"] for other in table) for row in table}
    assert len(by_kind) >= kinds
    assert min(by_kind.values()) >= 10
