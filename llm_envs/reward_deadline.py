"""A deadline for calls of rewards in this process: a call that takes longer ends the process.

Nothing inside a process can stop every function that hangs, so the process ends. This is for a
command, whose work is on disk, and off outside `end_process_after`. A function that may hang on what a model wrote
belongs in a `rewards.WorkerPool`, which ends that function's process alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_MESSENGER = r"""
import re, sys
seconds, file, text = float(sys.argv[1]), sys.argv[2], sys.stdin.read()
if text:
    with open(file, "w") as out:
        out.write(text)
    last_thread = re.split(r"^(?:Current thread|Thread) ", text, flags=re.M)[-1]  # the main one
    places = re.findall(r"^  File (.*)$", last_thread, flags=re.M)
    places = [place for place in places if not re.search(r"[/\\\\]lib[/\\\\]python", place)] or places
    place = f" It was in {places[0]}." if places else ""
    print(f"\nllm-envs: a reward did not return within its deadline of {seconds:g} seconds.{place} "
          f"The traceback is in {file}; if the reward is only slow, raise --reward-deadline", file=sys.stderr)
"""
"""Runs beside this process and says what has ended it: code that keeps all other threads from running does not."""

_current: tuple[float, IO[bytes]] | None = None
"""The seconds of the deadline, and where the traceback goes when it has passed."""


@contextlib.contextmanager
def end_process_after(seconds: float | None, traceback_file: Path) -> Iterator[None]:
    """End this process with exit code 1 if one call of a reward in this block takes longer.

    It ends at once, in the midst of what it does; what is not on disk is lost. One line on standard error says so.

    Args:
        seconds: For one call, which scores a whole batch; None sets no deadline.
        traceback_file: Gets the place in the program at which each thread is then.
    """
    global _current
    if seconds is None:
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", _MESSENGER, str(seconds), str(traceback_file)]
    messenger = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # Ctrl-C is not for it
    assert messenger.stdin is not None
    _current = (seconds, messenger.stdin)
    try:
        yield
    finally:
        _current = None
        messenger.stdin.close()
        messenger.wait()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Keep the deadline, if one is set, for the call of a reward in this block."""
    if _current is None:
        yield
        return
    seconds, pipe = _current
    faulthandler.dump_traceback_later(seconds, exit=True, file=pipe)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
