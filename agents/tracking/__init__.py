"""Callbacks, which are told of a run while it goes on, and those that write its files; names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.tracking.callback import Callback, UpdateRecord
    from agents.tracking.completions_file import CompletionsWriter
    from agents.tracking.metrics_files import MetricsWriter, read_metrics
    from agents.tracking.periodic_checkpoints import CheckpointEvery
    from agents.tracking.progress import TrainingProgress
    from agents.tracking.run_config import deliver_evaluation

_HOME = {
    "Callback": "agents.tracking.callback",
    "CheckpointEvery": "agents.tracking.periodic_checkpoints",
    "CompletionsWriter": "agents.tracking.completions_file",
    "MetricsWriter": "agents.tracking.metrics_files",
    "TrainingProgress": "agents.tracking.progress",
    "UpdateRecord": "agents.tracking.callback",
    "deliver_evaluation": "agents.tracking.run_config",
    "read_metrics": "agents.tracking.metrics_files",
}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'agents.tracking' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
