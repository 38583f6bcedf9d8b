"""Callbacks, which are told of a run while it goes on, and those that write its files; names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from agents.tracking.callback import Callback, UpdateRecord
    from agents.tracking.completions_file import CompletionsWriter
    from agents.tracking.metrics_files import MetricsWriter, read_metrics
    from agents.tracking.periodic_checkpoints import CheckpointEvery
    from agents.tracking.progress import TrainingProgress
    from agents.tracking.run_config import deliver_evaluation

__all__ = [
    "Callback",
    "CheckpointEvery",
    "CompletionsWriter",
    "MetricsWriter",
    "TrainingProgress",
    "UpdateRecord",
    "deliver_evaluation",
    "read_metrics",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "agents.tracking.callback": ["Callback", "UpdateRecord"],
            "agents.tracking.completions_file": ["CompletionsWriter"],
            "agents.tracking.metrics_files": ["MetricsWriter", "read_metrics"],
            "agents.tracking.periodic_checkpoints": ["CheckpointEvery"],
            "agents.tracking.progress": ["TrainingProgress"],
            "agents.tracking.run_config": ["deliver_evaluation"],
        },
    )
