"""Whether a reward comes back from texts that grow when they are evaluated: tried in a process that can be killed.

A reward that evaluates its answer can be kept busy for ever by `9**9**9**9`, in a call that no thread and no signal
interrupts. What runs in the forked child is the reward itself, so that it need not be importable.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import warnings
from collections.abc import Sequence

from llm_envs.audit.scorer import Case, Scorer

HANG_SECONDS = 60.0
"""A call that takes longer is one that does not come back."""
_MOST = 60
_MAY_GROW = re.compile(r"\*\*|\^|!|\d[eE]\d|<<|exit|Exit|factorial")
_BEGUN, _ENDED = b"b", b"e"


def does_not_come_back(scorer: Scorer, cases: Sequence[Case]) -> tuple[Case, str] | None:
    """The first case from which the reward does not return, and what became of it; None where there is none.

    Only texts with powers, factorials and the like are tried. Where processes cannot be forked, nothing is.
    """
    risky = [case for case in cases if _MAY_GROW.search(case.completion)][:_MOST]
    if not risky or not hasattr(os, "fork"):
        return None
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads that a library may have
        child = os.fork()
    if child == 0:
        _rehearse(scorer, risky, write)
    os.close(write)
    try:
        return _watch(risky, read)
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _watch(cases: Sequence[Case], read: int) -> tuple[Case, str] | None:
    begun = 0
    while True:
        ready, _, _ = select.select([read], [], [], HANG_SECONDS)
        if not ready:
            return cases[max(0, begun - 1)], f"does not come back within {HANG_SECONDS:g} s"
        news = os.read(read, 4096)
        if _ENDED in news:
            return None
        if not news:
            return cases[max(0, begun - 1)], "ends the process"
        begun += len(news)


def _rehearse(scorer: Scorer, cases: Sequence[Case], write: int) -> None:
    """Score the cases one by one, and never return: this is the child."""
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)  # its threads are not in a forked process, and it would wait for them
        trial = Scorer(scorer.reward)
        for case in cases:
            os.write(write, _BEGUN)
            try:
                trial.batch([case])
            except BaseException:  # noqa: BLE001 (what it raises is found where it is scored in earnest)
                continue
        os.write(write, _ENDED)
    finally:
        os._exit(0)
