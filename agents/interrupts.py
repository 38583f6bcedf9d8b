"""Ctrl-C, SIGTERM and SIGHUP while an agent learns: the update under way is finished first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

TERMINATING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a scheduler, a machine that is taken back, or a terminal that closes sends."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, in the place of the end of the process that they would be.

    Attributes:
        signal: Which of the two.
    """

    def __init__(self, signum: int) -> None:
        self.signal = signal.Signals(signum)
        super().__init__(self.signal.name)


def raise_terminated(signum: int, frame: FrameType | None) -> None:
    """A signal handler: raise `Terminated` once; a terminal that closes sends SIGHUP twice, and cleaning up goes on."""
    for one in TERMINATING:
        if signal.getsignal(one) is raise_terminated:
            signal.signal(one, signal.SIG_IGN)
    raise Terminated(signum)


@contextlib.contextmanager
def terminated_by_signals() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM or SIGHUP would end the process; one that is ignored (`nohup`) stays so."""
    with contextlib.ExitStack() as stack:
        for signum in TERMINATING:
            if signal.getsignal(signum) == signal.SIG_DFL:
                signal.signal(signum, raise_terminated)
                stack.callback(signal.signal, signum, signal.SIG_DFL)
        yield


class Interruption:
    """What has happened so far: which signal came, if one did."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def raise_if_set(self) -> None:
        """Raise what the signal stands for, if one has come.

        Raises:
            KeyboardInterrupt: It was Ctrl-C.
            Terminated: It was another.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise Terminated(self.signal)


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interruption]:
    """Keep Ctrl-C, SIGTERM and SIGHUP in mind, so that nothing is cut in half; a Ctrl-C after any of them acts at once.

    SIGTERM and SIGHUP are left alone where the program ignores them or has a handler of its own. Outside the main
    thread, where Python delivers no signals, nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, *TERMINATING)}
    ours = [
        signum
        for signum, handler in previous.items()
        if signum == signal.SIGINT or handler in (signal.SIG_DFL, raise_terminated)
    ]

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if interruption.signal in (None, signal.SIGINT):
            interruption.signal = signal.Signals(signum)
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    for signum in ours:
        signal.signal(signum, on_signal)
    try:
        yield interruption
    finally:
        for signum in ours:
            signal.signal(signum, previous[signum])
