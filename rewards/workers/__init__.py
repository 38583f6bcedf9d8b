"""Slow functions in worker processes that can be killed.

The names load on first use: a worker process imports this package too, and needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewards.workers.pool import JobResult, JobStatus, WorkerPool, shared_pool

__all__ = ["JobResult", "JobStatus", "WorkerPool", "shared_pool"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rewards.workers' has no attribute {name!r}")
    return getattr(importlib.import_module("rewards.workers.pool"), name)
