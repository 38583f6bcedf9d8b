from __future__ import annotations

import json

import pytest

from agents.tracking.completions_file import CompletionsWriter, rollout_as_json, rollout_from_json
from tests.agents.tracking.records import record, rollout


def test_completions_are_written_by_whole_groups(tmp_path):
    writer = CompletionsWriter(tmp_path / "run", groups_per_update=1)
    writer.on_update(record(1))
    writer.on_update(record(2))
    lines = [json.loads(line) for line in (tmp_path / "run" / "completions.jsonl").read_text().splitlines()]
    assert [(line["update"], line["seed"]) for line in lines] == [(1, 1), (1, 1), (2, 1), (2, 1)]
    assert lines[0]["completion"] == "x"


@pytest.mark.parametrize("text", ["", "\ud800", "\x00 é 🙂"])
def test_any_rollout_survives_json(text):
    line = json.dumps(rollout_as_json(rollout(1, text, reference={"tests": [1]})))
    again = rollout_from_json(json.loads(line))
    assert (again.text, again.reference, again.correct) == (text, "{'tests': [1]}", True)
