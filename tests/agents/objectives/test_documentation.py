"""docs/objectives.md says what the code does."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from agents.objectives import CLASSES, PRESETS, PolicyGradient, WeightedLikelihood

PAGE = (Path(__file__).parents[3] / "docs" / "objectives.md").read_text("utf-8")


def table(header: str) -> dict[str, list[str]]:
    """The rows under a header, by what is in backticks in their first cell."""
    lines = PAGE[PAGE.index(header) :].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        rows[cells[0].strip("`")] = cells[1:]
    return rows


def values(cell: str) -> dict[str, object]:
    return {name: ast.literal_eval(value) for name, value in re.findall(r"`(\w+)=([^`]*)`", cell)}


def all_fields(objective) -> dict[str, object]:
    return {field.name: getattr(objective, field.name) for field in fields(objective)}


def test_every_preset_has_a_formula():
    rows = table("| name | class |")
    assert list(rows) == list(PRESETS)
    for name, (cls, formula, source, _) in rows.items():
        assert cls == f"`{type(PRESETS[name]()).__name__}`"
        assert "`" in formula
        assert source


@pytest.mark.parametrize("name", PRESETS)
def test_defaults_of_presets(name):
    objective = PRESETS[name]()
    base = WeightedLikelihood() if isinstance(objective, WeightedLikelihood) else PolicyGradient()
    differs = {field: value for field, value in all_fields(objective).items() if value != getattr(base, field)}
    assert values(table("| name | fields |")[name][0]) == differs


def test_defaults_of_the_classes():
    rows = table("| class | fields |")
    assert set(rows) == {"PolicyGradient", "WeightedLikelihood"}
    for name, (cell,) in rows.items():
        assert values(cell) == all_fields(CLASSES[name]())


@pytest.mark.parametrize("name", [name for name in PRESETS if "weighted" not in name and name != "rejection"])
def test_papers_are_those_of_the_docstrings(name):
    paper = re.search(r"arXiv:\d+\.\d+", type(PRESETS[name]()).__doc__).group()
    assert paper in table("| name | class |")[name][2]


def test_defaults_are_in_the_formulas():
    formulas = {name: row[1] for name, row in table("| name | class |").items()}
    assert f"clip(rho, 0.8, {1 + PRESETS['dapo']().clip_high})" in formulas["dapo"]
    assert f"{PRESETS['grpo']().kl_coef} k3" in formulas["grpo"]
    assert f"{PRESETS['rloo']().kl_coef} log" in formulas["rloo"]
    assert f"{PRESETS['reinforce++']().kl_coef} k2" in formulas["reinforce++"]
    assert f"min(rho, {PRESETS['cispo']().max_ratio:g})" in formulas["cispo"]
    assert f"else {PRESETS['sapo']().tau_neg}" in formulas["sapo"]
