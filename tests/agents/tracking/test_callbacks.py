from __future__ import annotations

import csv
import json

import pytest

from agents.rollout import Completion, Rollout
from agents.tracking.callback import Callback, CallbackList, UpdateRecord
from agents.tracking.completions_file import CompletionsWriter, rollout_as_json, rollout_from_json
from agents.tracking.metrics_files import MetricsWriter, read_metrics
from agents.tracking.periodic_checkpoints import CheckpointEvery


def rollout(seed, text="x", reference="4"):
    return Rollout(seed, "What?", [1], Completion([2], [-0.1], False), text, 1.0, "correct", "4", reference)


def record(update, total=10, **metrics):
    rollouts = (rollout(1), rollout(1), rollout(2), rollout(2))
    return UpdateRecord(update, total, 4 * update, {"reward": 0.5, **metrics}, rollouts)


def test_metrics_go_to_three_kinds_of_file(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.on_training_start(0, 10)
    for update in (1, 2, 3):
        writer.on_update(record(update, kl=update / 10))
    writer.on_training_end()
    rows = read_metrics(tmp_path)
    assert [row["kl"] for row in rows] == [0.1, 0.2, 0.3]
    with (tmp_path / "metrics.csv").open() as file:
        assert [float(row["reward"]) for row in csv.DictReader(file)] == [0.5] * 3
    [events] = (tmp_path / "tensorboard").iterdir()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars = EventAccumulator(str(events)).Reload().Scalars("kl")
    assert [(event.step, round(event.value, 6)) for event in scalars] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_a_line_that_a_killed_process_did_not_finish_is_dropped(tmp_path):
    writers = [MetricsWriter(tmp_path), CompletionsWriter(tmp_path)]
    for writer in writers:
        writer.on_training_start(0, 10)
        for update in (1, 2):
            writer.on_update(record(update))
        writer.on_training_end()
    for name, rows in (("metrics.jsonl", 1), ("completions.jsonl", 3)):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text[:-5])
        for writer in (MetricsWriter(tmp_path), CompletionsWriter(tmp_path)):
            writer.on_training_start(2, 10)
            writer.on_training_end()
        assert len((tmp_path / name).read_text().splitlines()) == rows
    assert [row["update"] for row in read_metrics(tmp_path)] == [1]


def test_a_resumed_run_drops_the_rows_it_will_write_again(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.on_training_start(0, 10)
    for update in (1, 2, 3):
        writer.on_update(record(update))
    writer.on_training_end()
    resumed = MetricsWriter(tmp_path)
    resumed.on_training_start(2, 10)
    resumed.on_update(record(3, reward=0.9))
    resumed.on_training_end()
    assert [(row["update"], row["reward"]) for row in read_metrics(tmp_path)] == [(1, 0.5), (2, 0.5), (3, 0.9)]


def test_a_metric_that_comes_later_gets_a_column(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.on_training_start(0, 10)
    writer.on_update(record(1))
    writer.on_update(record(2, late=7.0))
    writer.on_training_end()
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["late"] for row in csv.DictReader(file)] == ["", "7.0"]


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


def test_checkpoints_come_at_their_interval():
    saved = []
    callback = CheckpointEvery(lambda: saved.append(1), every=3)
    for update in range(1, 8):
        callback.on_update(record(update))
    assert len(saved) == 2
    with pytest.raises(ValueError, match="every"):
        CheckpointEvery(lambda: None, every=0)


def test_a_list_calls_all_and_stops_if_one_says_so():
    calls = []

    class Named(Callback):
        def __init__(self, name, answer=None):
            self.name, self.answer = name, answer

        def on_training_start(self, update, total_updates):
            calls.append(("start", self.name))

        def on_update(self, record):
            calls.append(("update", self.name))
            return self.answer

        def on_training_end(self):
            calls.append(("end", self.name))

    callbacks = CallbackList([Named("a", False), Named("b")])
    callbacks.on_training_start(0, 1)
    assert callbacks.on_update(record(1)) is False
    callbacks.on_training_end()
    assert calls == [(event, name) for event in ("start", "update", "end") for name in "ab"]
    assert CallbackList([Named("a"), Named("b", True)]).on_update(record(1)) is True
