"""Slow functions in worker processes that can be killed.

The names load on first use: a worker process imports this package too, and needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from rewards.workers.pool import JobResult, JobStatus, WorkerPool, shared_pool

__all__ = ["JobResult", "JobStatus", "WorkerPool", "shared_pool"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "rewards.workers.pool": ["JobResult", "JobStatus", "WorkerPool", "shared_pool"],
        },
    )
