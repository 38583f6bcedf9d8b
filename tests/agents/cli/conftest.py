"""Fixtures of the command line's tests."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from agents.tracking.metrics_files import MetricsWriter


@pytest.fixture
def stopped_after_two_updates(monkeypatch):
    """A context in which a run gets Ctrl-C when its second update is written."""

    class StopAfterTwo(MetricsWriter):
        def on_update(self, record):
            super().on_update(record)
            if record.update == 2:
                os.kill(os.getpid(), signal.SIGINT)

    @contextlib.contextmanager
    def stopped():
        with monkeypatch.context() as patched:
            patched.setattr("agents.cli.training_run.MetricsWriter", StopAfterTwo)
            yield

    return stopped
