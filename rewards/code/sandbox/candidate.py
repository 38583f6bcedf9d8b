"""`Candidate`: one jailed process, seen from the program."""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress
from math import ceil
from time import monotonic
from typing import Any, Self

from rewards.base import Outcome
from rewards.code.sandbox import codec, wire
from rewards.code.sandbox.launcher import Zygote
from rewards.code.sandbox.results import CandidateError, CandidateRaised, Limits, ProgramResult, SandboxFault

HELLO_LIMIT = 60.0
"""Seconds for a candidate's process to be ready, and to be gone after it was killed."""
STARVATION = 20
"""How many times its wall time a candidate may wait for a core without that counting, all its calls together."""
MAX_JOB = 2**32 - 1
"""Bytes of a source with its standard input. A completion may not make a batch fail by its length."""
FLOOD = 256
"""A candidate that prints so many times what is kept of it is ended."""


def _waited_for_core() -> float:
    """Return how long this thread was ready to run and got no core, in seconds; 0 where the kernel does not count."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Candidate:
    """A jailed process that has executed some source. A context manager; used by one thread.

    After a `CandidateError` it has ended.

    Args:
        zygote: Forks the process.
        limits: What the source may take.
        owned: The zygote again, where it serves this candidate alone and is to end with it.
        owner: Kept alive as long as the candidate: the sandbox, which ends its zygote when it is no longer used.
    """

    def __init__(self, zygote: Zygote, limits: Limits, owned: Zygote | None, owner: object) -> None:
        self._owner = owner
        self._limits = limits
        self._owned = owned
        self._wall = limits.wall_seconds
        self._starved = 0.0  # as the zygote said last
        self._delayed = _waited_for_core()  # the program's thread, until it was looked at last
        self._spared = 0.0  # how much of both was not counted
        self._output = bytearray()
        self._printed = 0
        self._closed = True  # until its descriptors are there
        self._ending: CandidateError | None = None
        self._status: tuple[bytes, int, float, int] | None = None
        self._fault = ""
        self._data = bytearray()  # received
        self._eof = False
        self._number = 0  # of the question that was asked last
        self._rest: memoryview | None = None  # to be sent
        self._waits = False  # for room to send it
        pairs = [socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
        (self._channel, channel), (self._lifeline, lifeline) = pairs
        self._stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self._closed = False
        try:
            request = wire.REQUEST.pack(
                limits.cpu_seconds, limits.memory_bytes, limits.value_bytes, max(limits.memory_bytes // 4, 2**20)
            )
            zygote.send(request, [channel.fileno(), stdout, lifeline.fileno()])
        except BaseException:
            self._closed = True
            self._close_ours()
            raise
        finally:
            channel.close()
            lifeline.close()
            os.close(stdout)
        self._channel.setblocking(False)
        self._lifeline.setblocking(False)
        os.set_blocking(self._stdout, False)
        self._poll = select.poll()
        for fd in (self._channel.fileno(), self._stdout, self._lifeline.fileno()):
            self._poll.register(fd, select.POLLIN)

    def call(self, function: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Call a function of the source, and return its value as plain data.

        `function` may also be `A().f`, a method of a new object; `A()`, which makes an object and returns None; or
        `.f`, a method of the object that was made so last.

        Raises:
            CandidateRaised: If it raised, or its value is no plain data or too large; the process goes on.
            CandidateError: If the process ended, broke a limit or sent what is no answer.
            Unencodable: If the arguments are no plain data.
            SandboxFault: If the sandbox itself fails.
        """
        if self._closed:
            raise self._ending or ValueError("the candidate is closed")
        payload = codec.encode((function, tuple(args), dict(kwargs or {})))
        kind, answer = self._exchange(wire.CALL, payload)
        if kind == wire.VALUE:
            started = monotonic()
            value = self._decode(answer)
            self._wall -= monotonic() - started  # or it could keep the program busy for nothing
            return value
        if kind == wire.RAISED:
            raise CandidateRaised(*self._error(answer))
        raise self._end(self._unexpected(kind))

    @property
    def stdout(self) -> str:
        """What it printed so far, cut at `Limits.output_bytes`; bytes that are no UTF-8 are surrogates."""
        if not self._closed:
            with suppress(CandidateError):  # a flood, which the next call tells
                self._drain()
        return self._output.decode("utf-8", "surrogateescape")

    def close(self) -> None:
        """End the process and all that it left. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(CandidateError):  # a flood; it is ended anyway
                self._drain()
            self._kill()
        finally:
            self._close_ours()
            if self._owned is not None:
                self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._closed = True
            self._close_ours()
            if self._owned is not None:
                self._owned.close()

    def run_source(self, source: str, prelude: str = "") -> None:
        """Execute the source as a module, behind the prelude; called once, before any `call`.

        Raises:
            CandidateError: If the source is no Python, or its execution raised or broke a limit.
            SandboxFault: If the sandbox itself fails.
        """
        kind, answer = self._start(wire.SOURCE, (source, prelude))
        if kind == wire.DONE and not answer:
            return
        raise self._end(self._failed(kind, answer))

    def run_program(self, source: str, stdin: str) -> ProgramResult:
        """Execute the source as a program with `stdin` as its standard input; called once, instead of `run_source`.

        Raises:
            CandidateError: If the source is no Python, or it broke a limit or died by a signal.
            SandboxFault: If the sandbox itself fails.
        """
        started = self._start(wire.PROGRAM, (source, stdin), may_end=True)
        raised = None
        if started is not None:
            raised = self._failed(*started)
            # an uncaught exception is how many programs end; what they printed counts
            if raised.outcome is not Outcome.CRASHED or started[0] != wire.RAISED:
                raise self._end(raised)
            if self._receive(may_end=True) is not None:
                raise self._end(CandidateError(Outcome.CRASHED, "the process sent something that is no answer"))
        ended = self._ended()
        self._drain()
        _, code, used, _ = self._status or (b"", -1, 0.0, 0)
        if ended.outcome is Outcome.CRASHED and code >= 0:
            return ProgramResult(self.stdout, code, used, self._limits.wall_seconds - self._wall)
        raise self._end(ended)

    def _failed(self, kind: bytes, answer: bytes) -> CandidateError:
        """What the answer to a source says that did not execute."""
        if kind not in (wire.SYNTAX, wire.RAISED):
            return self._unexpected(kind)
        name, message, forbidden = self._error(answer)
        text = f"{name}: {message}" if message else name
        if kind == wire.SYNTAX:
            return CandidateError(Outcome.SYNTAX_ERROR, text)
        return CandidateError(Outcome.FORBIDDEN if forbidden else Outcome.CRASHED, text)

    def _start(self, kind: bytes, job: Any, may_end: bool = False) -> Any:
        """Give the process the source, and wait until it has executed it; its start does not count."""
        payload = codec.encode(job, max_bytes=MAX_JOB)
        number = int.from_bytes(os.urandom(8), "big")
        self._rest = memoryview(wire.HEADER.pack(kind, number, len(payload)) + payload)
        wall, self._wall = self._wall, HELLO_LIMIT
        try:
            answer = self._receive(first=True)
        except CandidateError as error:
            self.close()
            raise SandboxFault(f"a candidate's process did not start: {error}") from None
        self._wall = wall
        if answer != (wire.HELLO, b""):
            raise SandboxFault(f"a candidate's process did not start: {answer!r:.100}")
        self._number = number
        return self._receive(may_end=may_end)

    def _exchange(self, kind: bytes, payload: bytes) -> Any:
        self._number = int.from_bytes(os.urandom(8), "big")
        self._rest = memoryview(wire.HEADER.pack(kind, self._number, len(payload)) + payload)
        return self._receive()

    def _receive(self, *, first: bool = False, may_end: bool = False) -> Any:
        """Send what is left to send, and return the message that comes back; None if the process ended and may.

        Args:
            first: The message is the process's first, and another may follow at once.
            may_end: Whether the process may end instead.
        """
        self._push()
        left = self._wall
        until = monotonic() + left
        lifeline = self._lifeline.fileno()
        dead = False
        while True:
            message = self._take_message(first)
            if message is not None:
                self._wall = until - monotonic()
                return message
            if dead or (self._eof and not may_end):  # a program may close the channel and go on
                self._wall = until - monotonic()
                ended = self._ended()
                self._drain()
                if may_end and not self._data:
                    return None
                raise self._end(ended)
            if left <= 0:
                until += self._spare(self._was_starved() + self._was_delayed())
                if until <= monotonic():  # it had cores for all its time; a wait since then is no reason to go on
                    text = f"no answer within {self._limits.wall_seconds:g} s"
                    raise self._end(CandidateError(Outcome.TIMEOUT, text))
            left = until - monotonic()  # what has arrived when the time is up still counts
            for fd, event in self._poll.poll(max(0, ceil(left * 1000))):
                if fd == self._stdout:
                    if not first:  # the first message comes before anything is printed
                        self._drain()
                elif fd == lifeline:
                    dead = True
                elif event & select.POLLOUT:
                    self._push()
            # a chunk at a time, as it may send for ever; what a dead one sent has an end
            while self._pull() and dead:
                pass

    def _push(self) -> None:
        """Send what is left to send, as far as there is room."""
        if self._rest is None:
            return
        waited = self._waits
        try:
            rest = self._rest[self._channel.send(self._rest) :]
            self._rest = rest if len(rest) else None
        except BlockingIOError:
            pass
        except OSError:
            self._rest = None  # it died; reading tells
            return
        self._waits = self._rest is not None
        if waited != self._waits:
            self._poll.modify(self._channel.fileno(), select.POLLIN | (select.POLLOUT if self._waits else 0))

    def _was_starved(self) -> float:
        """Return how long it was ready to run and got no core, in seconds since it was asked last."""
        self._lifeline.settimeout(HELLO_LIMIT)
        try:
            self._lifeline.send(wire.STARVED_QUESTION)
            data = self._lifeline.recv(2**12)
        except OSError:  # it has ended, or its zygote has: reading tells
            return 0.0
        finally:
            self._lifeline.setblocking(False)
        if len(data) < wire.STATUS.size:
            return 0.0
        kind, _, seconds, _ = wire.STATUS.unpack_from(data)
        if kind != wire.STARVED:  # it has just ended
            self._keep_status(data)
            return 0.0
        more, self._starved = seconds - self._starved, max(seconds, self._starved)
        return more

    def _was_delayed(self) -> float:
        """Return how long this thread got no core since it was asked last: the candidate may have waited to be read."""
        delayed = _waited_for_core()
        more, self._delayed = delayed - self._delayed, delayed
        return more

    def _spare(self, starved: float) -> float:
        """Return how much of a wait for a core does not count, whatever was reported."""
        spared = min(max(0.0, starved), STARVATION * self._limits.wall_seconds - self._spared)
        self._spared += spared
        return spared

    def _pull(self) -> bool:
        try:
            data = self._channel.recv(wire.CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            if not self._eof:
                self._eof = True
                self._poll.unregister(self._channel.fileno())
            return False
        self._data += data
        return True

    def _take_message(self, first: bool) -> tuple[bytes, bytes] | None:
        """Take the one message that was received, None if it is not complete; only behind the first may be more."""
        if len(self._data) < wire.HEADER.size:
            return None
        kind, number, length = wire.HEADER.unpack_from(self._data)
        size = wire.HEADER.size + length
        most = max(self._limits.value_bytes, 8 * wire.MAX_ERROR)
        if number != self._number or length > most or (len(self._data) > size and not first):
            raise self._end(CandidateError(Outcome.CRASHED, "the process sent something that is no answer"))
        if len(self._data) < size:
            return None
        payload = bytes(self._data[wire.HEADER.size : size])
        del self._data[:size]
        if kind == wire.MEMORY:
            raise self._end(CandidateError(Outcome.MEMORY, "the memory limit was reached"))
        return kind, payload

    def _decode(self, payload: bytes) -> Any:
        try:
            return codec.decode(payload, max_bytes=max(self._limits.value_bytes, 8 * wire.MAX_ERROR), max_depth=200)
        except (codec.Malformed, RecursionError, MemoryError) as error:
            raise self._end(CandidateError(Outcome.CRASHED, f"the process sent what is no value: {error}")) from None

    def _error(self, payload: bytes) -> tuple[str, str, bool]:
        value = self._decode(payload)
        if type(value) is tuple and [type(part) for part in value] == [str, str, bool]:
            return value[0][: wire.MAX_ERROR], value[1][: wire.MAX_ERROR], value[2]
        raise self._end(CandidateError(Outcome.CRASHED, "the process sent something that is no answer"))

    def _unexpected(self, kind: bytes) -> CandidateError:
        return CandidateError(Outcome.CRASHED, f"the process sent something that is no answer: {kind!r}")

    def _drain(self) -> None:
        """Read what it printed."""
        for _ in range(32):
            try:
                data = os.read(self._stdout, wire.CHUNK)
            except BlockingIOError:
                return
            if not data:
                with suppress(KeyError):
                    self._poll.unregister(self._stdout)
                return
            self._printed += len(data)
            self._output += data[: max(0, self._limits.output_bytes - len(self._output))]
            if self._printed > FLOOD * self._limits.output_bytes + 2**20:
                raise self._end(CandidateError(Outcome.CRASHED, "a flood of output"))
            if len(data) < wire.CHUNK:
                return

    def _end(self, error: CandidateError) -> CandidateError:
        """End the process, and return the error to raise."""
        if self._ending is None:
            self._ending = error
        self.close()
        return error

    def _ended(self) -> CandidateError:
        """Say how the process ended, which nobody wanted; it is killed where it still runs."""
        self._kill()
        if self._status is None or self._status[0] == wire.FAULT:
            self.close()
            raise SandboxFault(f"a candidate's process was lost: {self._fault or 'the zygote died'}")
        kind, code, _, most = self._status
        if kind == wire.CPU_LIMIT:
            return CandidateError(Outcome.TIMEOUT, f"more than {self._limits.cpu_seconds:g} s of CPU time")
        if code == -signal.SIGKILL and most > self._limits.memory_bytes // 2:
            return CandidateError(Outcome.MEMORY, "it was killed while it held much memory")
        if code >= 0:
            return CandidateError(Outcome.CRASHED, f"the process ended with exit code {code}")
        with suppress(ValueError):
            return CandidateError(Outcome.CRASHED, f"the process was ended by {signal.Signals(-code).name}")
        return CandidateError(Outcome.CRASHED, f"the process was ended by signal {-code}")

    def _kill(self) -> None:
        """Let the zygote kill the process, and wait until it is gone."""
        if self._status is not None or self._fault:
            return
        with suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)
        self._lifeline.settimeout(HELLO_LIMIT)
        try:
            data = self._lifeline.recv(2**12)
        except OSError as error:
            self._fault = f"its zygote does not answer: {error}"
            return
        self._keep_status(data)

    def _keep_status(self, data: bytes) -> None:
        if len(data) < wire.STATUS.size:
            self._fault = "the zygote died"
            return
        self._status = wire.STATUS.unpack_from(data)
        self._fault = data[wire.STATUS.size :].decode("utf-8", "replace")

    def _close_ours(self) -> None:
        self._channel.close()
        self._lifeline.close()
        os.close(self._stdout)

    def abandon(self) -> None:
        """Leave the process to the program that this one was forked from."""
        if not self._closed:
            self._closed = True
            self._close_ours()
            if self._owned is not None:
                self._owned.abandon()
