"""The metrics of a run as files: `metrics.jsonl`, `metrics.csv` and TensorBoard events."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.tracking import files
from agents.tracking.callback import Callback, UpdateRecord
from agents.tracking.json_lines import finished_lines

METRICS_FILE = "metrics.jsonl"


class MetricsWriter(Callback):
    """Appends every update's metrics to `metrics.csv` and `metrics.jsonl`, and to TensorBoard event files.

    A resumed run appends to the same files; rows of updates that were lost with an unsaved state are dropped first.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []
        self._tensorboard: Any = None

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Open the files, after dropping rows past `update`."""
        from torch.utils.tensorboard import SummaryWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        self._rows = [row for row in read_metrics(self._folder) if row["update"] <= update]
        files.write_text(self._folder / METRICS_FILE, "".join(map(_json_line, self._rows)))
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        self._write_csv()
        self._tensorboard = SummaryWriter(self._folder / "tensorboard", purge_step=update + 1)

    def on_update(self, record: UpdateRecord) -> None:
        """Write one row everywhere and flush, so that a killed run loses none."""
        row = {"update": record.update, "episodes": record.episodes, **record.metrics}
        self._rows.append(row)
        with (self._folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(_json_line(row))
        new_columns = [name for name in row if name not in self._columns]
        if new_columns:  # an outcome that had not occurred before, say
            self._columns += new_columns
            self._write_csv()
        else:
            with (self._folder / "metrics.csv").open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        for name, value in record.metrics.items():
            self._tensorboard.add_scalar(name, value, record.update)
        self._tensorboard.flush()

    def _write_csv(self) -> None:
        with (
            files.replacing(self._folder / "metrics.csv") as fresh,
            fresh.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)

    def on_training_end(self) -> None:
        """Close the event file."""
        if self._tensorboard is not None:
            self._tensorboard.close()


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a run folder's `metrics.jsonl`, in order; none where there is no such file."""
    return [json.loads(line) for line in finished_lines(Path(folder) / METRICS_FILE)]


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"
