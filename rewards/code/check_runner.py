"""The checker's side of test code: `CheckRunner` has it run in a worker process and calls the candidate for it."""

from __future__ import annotations

import base64
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from rewards.base import InvalidReference, Outcome
from rewards.code.check_worker import LINK_BYTES, LINK_DEPTH
from rewards.code.sandbox import CandidateError, CandidateRaised
from rewards.code.sandbox.codec import Malformed, Unencodable, decode, encode
from rewards.workers.pool import JobStatus, WorkerPool, WorkerPoolError

CHECK_SECONDS = 10.0
"""For all test code of one completion, the candidate's own time and what comes before the first call not counted. It is
needed where a value makes test code run away."""

CHECK_MEMORY = 512 * 2**20
MAX_CALLS = 100_000
"""Calls of the candidate by all test code of one completion."""

_LEAST_SECONDS = 0.01
_MAX_RUNS = 2_000  # then the process is replaced: test code may leave something behind
_OUTCOMES = {JobStatus.TIMEOUT: Outcome.TIMEOUT, JobStatus.MEMORY: Outcome.MEMORY}

Call = Callable[[tuple[Any, ...], Mapping[str, Any]], Any]


class CheckerFault(RuntimeError):
    """The checker's own process failed; no program is to blame."""


@dataclass
class Budget:
    """What is left for the test code of one completion.

    Attributes:
        seconds: Of time, the candidate's own not counted.
        calls: Of the candidate.
    """

    seconds: float
    calls: int


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

    def budget(self) -> Budget:
        """What the test code of one completion may take."""
        return Budget(self.seconds, self.max_calls)

    def run(self, setup: str, check: str, entry_point: str, call: Call, budget: Budget | None = None) -> str | None:
        """Run one piece of test code.

        Args:
            setup: Code that runs before it.
            check: The test code.
            entry_point: The name of the function.
            call: Calls the candidate. What it raises, except `CandidateRaised`, ends the run and passes through.
            budget: What is left for it, the same object in all runs for one completion; by default all.

        Returns:
            None if it passed, else why not.

        Raises:
            CandidateError: If what the candidate returned made the test code run out of time or memory, or crash.
            InvalidReference: If the test code itself is to blame.
            CheckerFault: If the process was lost.
        """
        self.runs += 1
        token = uuid.uuid4().hex
        budget = budget or self.budget()
        kind, *content = self._begin(("start", token, setup, check, entry_point))
        while kind == "call":
            if budget.seconds <= 0 or budget.calls <= 0:
                self._stop(token)
                raise CandidateError(Outcome.TIMEOUT, "the tests took too long")
            budget.calls -= 1
            try:
                job = self._answer(token, self._arguments(token, content, budget), call)
            except BaseException:
                self._stop(token)
                raise
            kind, *content = self._step(job, budget)
        if kind == "passed":
            return None
        if kind == "failed":
            return str(content[0])
        if kind == "broken":
            raise InvalidReference(f"the tests of {entry_point} cannot be used: {content[0]}")
        raise CheckerFault("the process of the tests was lost")

    def close(self) -> None:
        """End the process. A later `run` starts another one."""
        self._pool.close()

    def _begin(self, job: tuple[Any, ...]) -> list[Any]:
        """Go on to the first call. No value of the candidate is in it yet, so no failure is the candidate's."""
        try:
            return self._step(job, self.budget())
        except CandidateError:  # an earlier value filled the process; there is a new one now
            pass
        try:
            return self._step(job, self.budget())
        except CandidateError as error:
            raise CheckerFault(f"the tests' own code failed before its first call: {error}") from None

    def _arguments(self, token: str, content: list[Any], budget: Budget) -> bytes:
        """The encoded arguments of a call, which come in parts."""
        part, more = content
        data = base64.b64decode(part)
        while more:
            kind, *content = self._step(("more", token), budget)
            if kind != "call":
                raise CheckerFault("the process of the tests was lost")
            part, more = content
            data += base64.b64decode(part)
        return data

    def _answer(self, token: str, arguments: bytes, call: Call) -> tuple[Any, ...]:
        """Call the candidate, and return the job that tells the test code what came of it."""
        try:
            args, kwargs = decode(arguments, max_bytes=LINK_BYTES, max_depth=LINK_DEPTH)
        except (Malformed, MemoryError) as error:  # such as a set of the candidate's numbers, whose hashes collide
            return ("raised", token, "TypeError", f"the arguments cannot be sent: {error}")
        try:
            return ("value", token, encode(call(args, kwargs), max_bytes=LINK_BYTES, max_depth=LINK_DEPTH))
        except Unencodable as error:  # where `Limits.value_bytes` is beyond `LINK_BYTES`
            return ("raised", token, "ValueError", str(error))
        except CandidateRaised as error:
            return ("raised", token, str(error.type_name)[:100], str(error.message)[:10_000])

    def _step(self, job: tuple[Any, ...], budget: Budget) -> list[Any]:
        self._pool.deadline = max(budget.seconds, _LEAST_SECONDS)
        started = monotonic()
        (done,) = self._pool.map([job])
        budget.seconds -= monotonic() - started
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
