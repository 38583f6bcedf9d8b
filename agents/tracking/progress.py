"""Progress bars: of learning, as a callback, and of an evaluation."""

from __future__ import annotations

import contextlib
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from agents.envs import task_metric
from agents.tracking.callback import Callback, UpdateRecord
from agents.tracking.figures import ACCURACY, REWARD, main_figure, mean_and_margin

_LINES_WITHOUT_TERMINAL = 10
_WIDE = 100
"""From this many columns on, everything fits into the line of `TrainingProgress`."""


class TrainingProgress(Callback):
    """A bar with reward, accuracy or another figure, KL, speed, time left; without a terminal, lines now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        wide = console.width >= _WIDE
        whole = Column(no_wrap=True)  # the bar alone gives way
        self._progress = Progress(
            TextColumn("Learning") if wide else SpinnerColumn(table_column=whole),
            BarColumn(bar_width=None),
            MofNCompleteColumn(table_column=whole),
            TextColumn("{task.fields[figures]}"),
            *([TimeElapsedColumn(table_column=whole)] if wide else []),
            TextColumn("left"),
            TimeRemainingColumn(table_column=whole),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, figures="")

    def on_training_start(self, update: int, total_updates: int) -> None:
        """Show the bar."""
        self._progress.update(self._task, total=total_updates, completed=update)
        self._progress.start()

    def on_update(self, record: UpdateRecord) -> None:
        """Move the bar."""
        m = record.metrics
        figures = _figures(record, None if self.agent is None else task_metric(self.agent.env_spec))
        figures += f"  KL {m['kl']:.3f}" if "kl" in m else ""
        figures += f"  {m['tokens_per_second']:,.0f} tok/s"
        self._progress.update(self._task, completed=record.update, figures=figures)
        every = max(1, record.total_updates // _LINES_WITHOUT_TERMINAL)
        if not self._console.is_terminal and (record.update % every == 0 or record.update == record.total_updates):
            self._console.print(f"update {record.update}/{record.total_updates}  {figures}", highlight=False)

    def on_training_end(self) -> None:
        """Stop moving the bar, which stays in the terminal."""
        with contextlib.suppress(OSError):  # the terminal may be what has gone (SIGHUP)
            self._progress.stop()


def _figures(record: UpdateRecord, metric: str | None) -> str:
    """Reward and accuracy; the reward with its margin where nothing is right or wrong; the figure that a task names."""
    m = record.metrics
    outcomes = (name.removeprefix("outcome/") for name in m if name.startswith("outcome/"))
    figure = main_figure(outcomes, metric)
    if figure == ACCURACY:
        return f"reward {m['reward']:.2f}  accuracy {m['accuracy']:.2f}"
    text = f"{figure} {mean_and_margin(record.rollouts, figure)}"
    return text if figure == REWARD else f"{text}  reward {m['reward']:.2f}"


class EvaluationProgress:
    """A bar for an evaluation, used as a context manager and called with episodes done and their total."""

    def __init__(self, console: Console, title: str) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn(title),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, total=total)
