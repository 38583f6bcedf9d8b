"""What completions and the host have in common: nothing of it can be changed, and no memory is kept outside of limits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, Sandbox, launcher, sandbox_report

HERE = str(Path(__file__).parents[1])
if HERE not in sys.path:
    sys.path.append(HERE)
CHANNELS, HOARDS, SYSTEM = (getattr(import_module("shared_objects"), name) for name in ("CHANNELS", "HOARDS", "SYSTEM"))

pytestmark = [
    pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs have that machine's numbers of calls"),
]
MEMORY = 64 * 2**20
LIMITS = Limits(cpu_seconds=5, wall_seconds=20, memory_bytes=MEMORY)


@pytest.fixture(
    scope="module",
    params=[("zygote", 6), ("zygote", 5), ("zygote", 0), ("fresh", 6), ("fresh", 0)],
    ids=lambda param: f"{param[0]}, Landlock {param[1]}",
)
def sandbox(request):
    """A sandbox in each mode, as on a kernel with each version of Landlock that differs."""
    mode, landlock = request.param
    with pytest.MonkeyPatch.context() as patch, Sandbox(mode=mode, limits=LIMITS) as sandbox:
        patch.setattr(launcher, "NEWEST_LANDLOCK", landlock)
        yield sandbox


def attempt(candidate, name, *args):
    """What a call returned, or the name of what it raised."""
    try:
        return candidate.call(name, args)
    except CandidateRaised as error:
        # a mistake of the program is no success of the sandbox
        assert error.type_name not in {"NameError", "SyntaxError", "Unencodable", "AttributeError", "TypeError"}, str(error)
        return error.type_name
    except CandidateError as error:
        return str(error.outcome)


@pytest.mark.parametrize("name", CHANNELS)
def test_what_one_completion_leaves_no_other_finds(sandbox, name):
    with sandbox.open(CHANNELS[name]) as sender, sandbox.open(CHANNELS[name]) as receiver:
        before = attempt(receiver, "get", None)
        known = attempt(sender, "put", 77)
        known = known if isinstance(known, bytes | int) else None
        assert attempt(receiver, "get", known) == before


@pytest.mark.parametrize("name", HOARDS)
def test_memory_beside_the_address_space_has_a_limit(sandbox, name):
    with sandbox.open(HOARDS[name]) as candidate:
        held = attempt(candidate, "hold")
    assert isinstance(held, str) or held <= MEMORY, held
