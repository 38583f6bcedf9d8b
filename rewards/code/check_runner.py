"""The checker's side of test code: `CheckRunner` has it run in a worker process and calls the candidate for it."""

from __future__ import annotations

import base64
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from rewards.base import InvalidReference, Outcome
from rewards.code.check_worker import LINK_BYTES, LINK_DEPTH
from rewards.code.sandbox import CandidateError, CandidateRaised
from rewards.code.sandbox.codec import Unencodable, decode, encode
from rewards.workers.pool import JobStatus, WorkerPool, WorkerPoolError

CHECK_SECONDS = 10.0
"""For one run of test code, the candidate's own time not counted. It is needed where a value makes it run away."""

CHECK_MEMORY = 512 * 2**20
MAX_CALLS = 100_000
"""Calls of the candidate in one run of test code."""

_MAX_RUNS = 2_000  # then the process is replaced: test code may leave something behind
_OUTCOMES = {JobStatus.TIMEOUT: Outcome.TIMEOUT, JobStatus.MEMORY: Outcome.MEMORY}

Call = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]


class CheckerFault(RuntimeError):
    """The checker's own process failed; no program is to blame."""


class CheckRunner:
    """Runs test code in one worker process, which is started when it is first needed. For one thread at a time.

    Args:
        seconds: See `CHECK_SECONDS`.
        memory: Bytes that test code may take.
        max_calls: See `MAX_CALLS`.
    """

    def __init__(
        self, *, seconds: float = CHECK_SECONDS, memory: int = CHECK_MEMORY, max_calls: int = MAX_CALLS
    ) -> None:
        self.seconds = seconds
        self.max_calls = max_calls
        self.runs = 0
        # the state of a run is in its worker, which must stay the same one between two calls
        self._pool = WorkerPool(
            "rewards.code.check_worker:step", workers=1, deadline=seconds, memory=memory, max_jobs=2**62
        )

    def run(self, setup: str, check: str, entry_point: str, call: Call) -> str | None:
        """Run one piece of test code.

        Args:
            setup: Code that runs before it.
            check: The test code.
            entry_point: The name of the function.
            call: Calls the candidate. What it raises, except `CandidateRaised`, ends the run and passes through.

        Returns:
            None if it passed, else why not.

        Raises:
            CandidateError: If what the candidate returned made the test code run out of time or memory, or crash.
            InvalidReference: If the test code itself is to blame.
            CheckerFault: If the process was lost.
        """
        self.runs += 1
        token = uuid.uuid4().hex
        spent = 0.0
        job: tuple[Any, ...] = ("start", token, setup, check, entry_point)
        for _ in range(self.max_calls + 1):
            started = monotonic()
            kind, *content = self._step(job)
            spent += monotonic() - started
            if kind == "passed":
                return None
            if kind == "failed":
                return str(content[0])
            if kind == "broken":
                raise InvalidReference(f"the tests of {entry_point} cannot be used: {content[0]}")
            if kind != "call":
                raise CheckerFault("the process of the tests was lost")
            if spent > self.seconds:
                break
            args, kwargs = decode(base64.b64decode(content[0]), max_bytes=LINK_BYTES, max_depth=LINK_DEPTH)
            try:
                job = ("value", token, encode(call(args, kwargs), max_bytes=LINK_BYTES, max_depth=LINK_DEPTH))
            except Unencodable as error:  # where `Limits.value_bytes` is beyond `LINK_BYTES`
                job = ("raised", token, "ValueError", str(error))
            except CandidateRaised as error:
                job = ("raised", token, str(error.type_name)[:100], str(error.message)[:10_000])
            except BaseException:
                self._stop(token)
                raise
        self._stop(token)
        raise CandidateError(Outcome.TIMEOUT, "the tests took too long")

    def close(self) -> None:
        """End the process. A later `run` starts another one."""
        self._pool.close()

    def _step(self, job: tuple[Any, ...]) -> list[Any]:
        (done,) = self._pool.map([job])
        if done.status is JobStatus.DONE:
            answer: list[Any] = done.value
            return answer
        if done.status in _OUTCOMES:
            raise CandidateError(_OUTCOMES[done.status], f"in the tests: {done.error}")
        if done.status is JobStatus.CRASHED and "SIGKILL" not in done.error:
            raise CandidateError(Outcome.CRASHED, f"in the tests: {done.error}")
        # killed from outside, by the system when memory is short, or a mistake of this package
        raise CheckerFault(f"the process of the tests failed: {done.error}")

    def _stop(self, token: str) -> None:
        with suppress(WorkerPoolError):
            self._pool.map([("stop", token)])


_idle: deque[CheckRunner] = deque()


def take_runner() -> CheckRunner:
    """A runner that no other thread uses, of those that were given back if there is one."""
    try:
        return _idle.pop()
    except IndexError:
        return CheckRunner()


def give_back_runner(runner: CheckRunner) -> None:
    """Keep a runner, and its process, for the next user."""
    if runner.runs >= _MAX_RUNS:
        runner.close()
        runner.runs = 0
    _idle.append(runner)
