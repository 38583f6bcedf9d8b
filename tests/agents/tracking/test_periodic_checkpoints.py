from __future__ import annotations

import pytest

from agents.tracking.periodic_checkpoints import CheckpointEvery
from tests.agents.tracking.records import record


def test_checkpoints_come_at_their_interval():
    saved = []
    callback = CheckpointEvery(lambda: saved.append(1), every=3)
    for update in range(1, 8):
        callback.on_update(record(update))
    assert len(saved) == 2
    with pytest.raises(ValueError, match="every"):
        CheckpointEvery(lambda: None, every=0)
