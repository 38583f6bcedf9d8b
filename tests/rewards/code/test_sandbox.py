"""The jail: what passes through it, and what does not."""

from __future__ import annotations

import pytest

from rewards.base import Outcome
from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, Sandbox


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


def test_a_function_is_called(sandbox):
    with sandbox.open("def f(x):\n    print('hi')\n    return x + 1") as candidate:
        assert candidate.call("f", (2,)) == 3
        assert candidate.stdout == "hi\n"
