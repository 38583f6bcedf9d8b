"""Runs a task's own test code in a trusted worker process, one call of the candidate at a time.

Test code is the task author's and trusted, but what it computes with comes from a program that is not: `range(x)` of a
huge `x` would not end, and `"a" * x` would fill the memory. So it runs in a process of `rewards.workers.pool`, which
can be killed. It runs in a thread that stops wherever it calls `candidate`; the arguments go to the checker as the
result of one job, and the value comes back as the next.
"""

from __future__ import annotations

import base64
import builtins
import gc
import os
import sys
import threading
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any

from rewards.code.sandbox.codec import Unencodable, decode, encode
from rewards.workers.host import describe

LINK_BYTES = 2**26
LINK_DEPTH = 80
"""More than the jail's own limits, which hold already: this side is trusted."""

PART_BYTES = 2**23
"""Of a call's arguments, in one answer: as base64 they must be within `rewards.workers.host.MAX_RESULT`."""

_MODULE = "llm_envs_check"
_STOP_SECONDS = 1.0
_NOT_PASSED_ON = (MemoryError, StopIteration, StopAsyncIteration)


class CandidateFailed(Exception):
    """The candidate raised an exception that is none of Python's own."""


class _Stopped(BaseException):
    """The candidate cannot be called any more."""


class _Check:
    """One run of test code, in its own thread."""

    def __init__(self, token: str, setup: str, check: str, entry_point: str) -> None:
        self.token = token
        self.calls = 0
        self.stopped = False
        self.arguments = b""  # of the call, those that are to be sent
        self.answers: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.messages: SimpleQueue[Any] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, args=(setup, check, entry_point), daemon=True)

    def _run(self, setup: str, check: str, entry_point: str) -> None:
        message: Any
        module = ModuleType(_MODULE)
        sys.modules[_MODULE] = module  # where dataclasses look for it
        names = module.__dict__
        try:
            try:
                _execute(setup, names)
            except MemoryError:
                raise
            except BaseException as error:  # noqa: BLE001 (test code may raise anything, SystemExit too)
                self.messages.put(["broken", f"its setup raised {describe(error)}"])
                return
            names.pop("check", None)
            names["candidate"] = self.candidate
            owner, _, method = entry_point.partition("().")
            # `Solution().solve(1)` is as good as `candidate(1)`
            names[owner] = (lambda: SimpleNamespace(**{method: self.candidate})) if method else self.candidate
            _execute(check, names)
            if callable(names.get("check")):
                names["check"](self.candidate)
            message = ["passed"]
        except MemoryError as error:
            message = error
        except BaseException as error:  # noqa: BLE001 (see above)
            message = ["failed", describe(error)]
        names.clear()  # a large value must not be there any more when the next run begins
        if not self.calls and not isinstance(message, MemoryError):
            # no value of the candidate can be the reason
            message = ["broken", f"it {' '.join(message)} without a call of {entry_point}"]
        self.messages.put(message)

    def candidate(self, *args: Any, **kwargs: Any) -> Any:
        """What test code calls in place of the function."""
        if self.stopped:
            raise _Stopped
        if threading.current_thread() is not self.thread:
            raise RuntimeError("the candidate can be called in the thread of the tests only")
        self.calls += 1
        try:
            data = encode((args, kwargs), max_depth=LINK_DEPTH)
        except Unencodable as error:
            raise TypeError(f"an argument of the candidate cannot be sent: {error}") from None
        self.messages.put(["call", data])
        kind, *content = self.answers.get()
        if kind == "value":
            return decode(content[0], max_bytes=LINK_BYTES, max_depth=LINK_DEPTH)
        if kind == "raised":
            raise _exception(*content)
        self.stopped = True
        raise _Stopped

    def wait(self) -> Any:
        """The next message of the thread."""
        message = self.messages.get()
        if isinstance(message, MemoryError):
            raise message
        if message[0] == "call":
            self.arguments = message[1]
            return self.part()
        gc.collect()
        return message

    def part(self) -> list[Any]:
        """The next part of a call's arguments."""
        part, self.arguments = self.arguments[:PART_BYTES], self.arguments[PART_BYTES:]
        return ["call", base64.b64encode(part).decode("ascii"), bool(self.arguments)]


def _execute(source: str, names: dict[str, Any]) -> None:
    # The only `exec` of the packages. The text is the tests of a task's author, never a completion or a part of one.
    exec(compile(source, "<tests>", "exec", dont_inherit=True), names)  # noqa: S102


def _exception(type_name: str, message: str) -> BaseException:
    """The exception that the candidate raised: one of Python's own by its name, so that tests can expect it.

    But not those that say something to the tests' own process: `all(map(candidate, cases))` would end at a
    `StopIteration` and be true.
    """
    kind = getattr(builtins, type_name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in _NOT_PASSED_ON:
        try:
            return kind(message)
        except TypeError:  # UnicodeDecodeError and the like want more
            pass
    return CandidateFailed(f"{type_name}: {message}")


_current: _Check | None = None


def step(kind: str, token: str, *content: Any) -> Any:
    """One job: go on until the next call of the candidate or the end.

    Args:
        kind: `start` with setup, check and entry point; `value` with its encoding; `raised` with type and message;
            `more` for the next part of arguments; `stop`.
        token: Which run it is.
        *content: See `kind`.

    Returns:
        `["call", part of the arguments, whether there is more]`, `["passed"]`, `["failed", why]`, `["broken", why]`
        if the tests are to blame, `["stopped"]` or, if this process knows nothing of the run, `["lost"]`.
    """
    global _current
    if kind == "start":
        _current = _Check(token, *content)
        try:
            _current.thread.start()
        except RuntimeError as error:  # there is no room for its stack
            raise MemoryError from error
        return _current.wait()
    run = _current
    if run is None or run.token != token:
        return ["lost"]
    if kind == "more":
        return run.part()
    run.answers.put((kind, *content))
    if kind != "stop":
        return run.wait()
    _current = None
    run.thread.join(_STOP_SECONDS)
    if run.thread.is_alive():
        os._exit(1)
    return ["stopped"]
