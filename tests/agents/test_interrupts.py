"""Signals while something is done that must not be cut."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest

from agents.interrupts import TERMINATING, Terminated, deferred_interrupt, raise_terminated, terminated_by_signals

SIGNALS = (signal.SIGINT, *TERMINATING)


@pytest.fixture(autouse=True)
def handlers():
    """As in a program that has set none."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for one in TERMINATING:
        signal.signal(one, signal.SIG_DFL)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


def send(*signals: int) -> None:
    for one in signals:
        os.kill(os.getpid(), one)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([signal.SIGINT], signal.SIGINT),
        ([signal.SIGTERM], signal.SIGTERM),
        ([signal.SIGHUP], signal.SIGHUP),
        ([signal.SIGHUP, signal.SIGHUP, signal.SIGTERM], signal.SIGHUP),
        ([signal.SIGINT, signal.SIGTERM], signal.SIGTERM),
    ],
)
def test_a_signal_waits_until_the_work_is_done(sent, kept):
    before = {one: signal.getsignal(one) for one in SIGNALS}
    with deferred_interrupt() as interruption:
        interruption.raise_if_set()
        send(*sent)
        assert interruption.signal == kept
    with pytest.raises(KeyboardInterrupt) as caught:
        interruption.raise_if_set()
    assert isinstance(caught.value, Terminated) == (kept != signal.SIGINT)
    assert kept == signal.SIGINT or (caught.value.signal, str(caught.value)) == (kept, kept.name)
    assert {one: signal.getsignal(one) for one in SIGNALS} == before


@pytest.mark.parametrize("first", SIGNALS)
def test_ctrl_c_after_a_signal_acts_at_once(first):
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():
        send(first, signal.SIGINT)


def test_what_the_program_has_set_stays():
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred_interrupt() as interruption, terminated_by_signals():
        send(signal.SIGTERM, signal.SIGHUP)
    assert (heard, interruption.signal) == ([signal.SIGTERM], None)


def test_a_command_is_terminated_once_and_cleans_up():
    def work():
        with terminated_by_signals(), contextlib.ExitStack() as cleaning_up:
            cleaning_up.callback(send, signal.SIGHUP, signal.SIGTERM)
            send(signal.SIGHUP)

    with pytest.raises(Terminated, match="SIGHUP"):
        work()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with terminated_by_signals():
        assert signal.getsignal(signal.SIGTERM) is raise_terminated
        with deferred_interrupt() as interruption:
            send(signal.SIGTERM)
        assert interruption.signal == signal.SIGTERM


def test_other_threads_change_nothing():
    found: list[object] = []

    def work():
        with deferred_interrupt() as interruption:
            found.append((signal.getsignal(signal.SIGTERM), interruption.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(signal.SIG_DFL, None)]
