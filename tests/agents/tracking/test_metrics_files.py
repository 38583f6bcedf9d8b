from __future__ import annotations

import csv

from agents.tracking.completions_file import CompletionsWriter
from agents.tracking.metrics_files import MetricsWriter, read_metrics
from tests.agents.tracking.records import record


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
