"""Runs a slow function in worker processes that can be killed: `WorkerPool`.

A comparison of two expressions, or any other judgement of text that a model wrote, may hang or take all memory. Here
each call runs in a warm process with a wall deadline and limits on memory and CPU time; a process that breaks one is
killed and replaced, and only its own job is lost. No signal handlers, no threads: a pool works in any thread, in
several at once, in a running event loop and in worker processes of others, daemonic ones too. It needs Linux or macOS
(where the memory limit is not enforced).
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import select
import signal
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from time import monotonic
from typing import Any, Self

from rewards.workers import host
from rewards.workers.fleet import START_LIMIT, Fleet, Host, HostGone, Worker, WorkerPoolError

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

__all__ = ["JobResult", "JobStatus", "WorkerPool", "WorkerPoolError", "shared_pool"]


class JobStatus(StrEnum):
    """How a job ended."""

    DONE = "done"
    TIMEOUT = "timeout"
    """No answer within the deadline."""
    MEMORY = "memory"
    """The memory limit was reached."""
    CRASHED = "crashed"
    """The process died."""
    RAISED = "raised"
    """The function raised, or its arguments or its result could not be sent."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of one job.

    Attributes:
        status: How it ended.
        value: What the function returned, as JSON gives it back (tuples are lists, keys are strings), if `DONE`.
        error: "TypeName: message" if `RAISED`, otherwise what happened; empty if `DONE`.
    """

    status: JobStatus
    value: Any = None
    error: str = ""


class WorkerPool:
    """A function in worker processes.

    Processes start with the first `map` and as they are needed. Several threads may call `map` at the same time: as
    long as one waits for its first worker, the others give away the worker of each job that ends, and the first to wait
    is the first to get one. So a single job waits for about one job of each other thread, however many they have left.

    Args:
        function: A function at the top level of a module, or the name of one, `"package.module:function"`, which this
            process then need not import. It is imported by name once, and the workers are forked after that, so what
            is slow to import belongs at the top of its module. It must not be in the script that is run. Its arguments
            are pickled, its result must be writable as JSON. It gets no standard input, and what it prints is lost.
        workers: The most processes; by default one for each core that may be used, at most 8.
        deadline: Seconds for one job, from when it is sent to a worker that is ready.
        memory: Bytes of address space that a worker may take beyond what the imported module has taken (Linux).
        max_jobs: A worker is replaced after so many jobs.

    Raises:
        ValueError: For a function that cannot be imported by name, and for an option out of range.
    """

    def __init__(
        self,
        function: Callable[..., Any] | str,
        *,
        workers: int | None = None,
        deadline: float = 1.0,
        memory: int = 512 * 2**20,
        max_jobs: int = 1_000,
    ) -> None:
        _target(function)
        if workers is None:
            workers = min(_usable_cores(), 8)
        for name, value in (("workers", workers), ("memory", memory), ("max_jobs", max_jobs)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not 0 < deadline < 1e6:
            raise ValueError(f"deadline must be a number of seconds, more than 0 and less than 1e6, not {deadline!r}")
        self.function = function
        self.workers = workers
        self.deadline = float(deadline)
        self.memory = memory
        self.max_jobs = max_jobs
        self._fleet = self._new_fleet()
        _pools.add(self)

    def map(self, jobs: Iterable[tuple[Any, ...]]) -> list[JobResult]:
        """Call the function with each tuple of arguments.

        Returns:
            One result per job, in order. What goes wrong with a job is in its result and changes no other.

        Raises:
            WorkerPoolError: If the processes cannot be started, or the host process died twice.
            TypeError: If a job is not a tuple.
        """
        jobs = list(jobs)
        for job in jobs:
            if not isinstance(job, tuple):
                raise TypeError(f"a job is the tuple of the function's arguments, not {job!r:.100}")
        if os.name != "posix":
            raise WorkerPoolError(f"a WorkerPool needs Linux or macOS, not {sys.platform}")
        return _Batch(self._fleet, jobs, self.deadline, self.max_jobs).run() if jobs else []

    def close(self) -> None:
        """End all processes. A later `map` starts new ones, and so does one that runs in another thread."""
        self._fleet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: getattr(self, name) for name in ("workers", "deadline", "memory", "max_jobs")}
        return partial(type(self), **options), (self.function,)

    def _new_fleet(self) -> Fleet:
        return Fleet(*_target(self.function), self.workers, self.memory, self.deadline)

    def abandon(self) -> None:
        """Leave the processes to the program that this one was forked from."""
        self._fleet.abandon()
        self._fleet = self._new_fleet()


class _Batch:
    """One call of `map`: its jobs, and the workers that it has at the moment."""

    def __init__(self, fleet: Fleet, jobs: list[tuple[Any, ...]], deadline: float, max_jobs: int) -> None:
        self.fleet = fleet
        self.deadline = deadline
        self.max_jobs = max_jobs
        self.jobs = jobs
        self.results: list[JobResult | None] = [None] * len(jobs)
        self.todo = deque(range(len(jobs)))
        self.poll = select.poll()
        # by file descriptor, and the first to expire first
        self.starting: dict[int, Worker] = {}
        self.busy: dict[int, Worker] = {}
        self.lost: list[Host] = []

    def run(self) -> list[JobResult]:
        try:
            while self.todo or self.busy:
                self._lease()
                if self.starting or self.busy:
                    self._wait()
        except BaseException:
            # a busy worker would answer later, and what a starting one has said may just have been read
            self.fleet.give_back_all(self, keep=lambda worker: worker.ready and worker.fd not in self.busy)
            raise
        self.fleet.give_back_all(self, keep=lambda worker: True)
        return [result for result in self.results if result is not None]

    def _lease(self) -> None:
        """Take idle workers for jobs that wait, or start one: one at a time, as short jobs need no more."""
        while len(self.todo) > len(self.starting):
            waits = not (self.busy or self.starting)
            if not waits and (self.starting or len(self.fleet.leased) >= self.fleet.workers):
                return
            try:
                worker = self.fleet.take(self, wait=waits)
            except HostGone as error:
                self._lose(error.host)
                continue
            except WorkerPoolError:
                if waits:
                    raise
                return  # the system has no room for another process: go on with those there are
            if worker is None:
                return
            self.poll.register(worker.fd, select.POLLIN)
            if worker.ready:
                self._send(worker)
            else:
                self.starting[worker.fd] = worker

    def _wait(self) -> None:
        """Wait for an answer or the next deadline, and deal with it."""
        now = monotonic()
        expires = min(next(iter(some.values())).expires for some in (self.busy, self.starting) if some)
        for fd, event in self.poll.poll(max(0, math.ceil((expires - now) * 1000))):
            worker = self.busy.get(fd) or self.starting.get(fd)
            if worker is None:
                continue
            if event & select.POLLOUT and worker.rest is not None:
                self._push(worker, worker.rest)
            if event & ~select.POLLOUT:
                self._pull(worker)
        now = monotonic()
        while self.busy:
            worker = next(iter(self.busy.values()))
            if worker.expires > now:
                break
            self._conclude(worker, JobResult(JobStatus.TIMEOUT, error=f"no answer within {self.deadline:g} s"))
        while self.starting:
            worker = next(iter(self.starting.values()))
            if worker.expires > now:
                break
            self._end(worker)
            raise WorkerPoolError(f"a worker process did not start within {START_LIMIT:.0f} s")

    def _send(self, worker: Worker) -> None:
        """Send the next job, or give the worker back."""
        payload = None
        while self.todo and payload is None:
            index = self.todo.popleft()
            try:
                payload = pickle.dumps(self.jobs[index], pickle.HIGHEST_PROTOCOL)
            except Exception as error:  # noqa: BLE001 (an argument's own __reduce__ may raise anything)
                error_text = "the arguments cannot be pickled: " + host.describe(error)
                self.results[index] = JobResult(JobStatus.RAISED, error=error_text)
        if payload is None:
            self.poll.unregister(worker.fd)
            self.fleet.give_back(worker)
            return
        worker.number += 1
        worker.index = index
        worker.expires = monotonic() + self.deadline
        self.busy[worker.fd] = worker  # before the first byte leaves: after an exception it counts as busy
        message = host.JOB.pack(worker.number, len(payload)) + payload
        try:
            sent = worker.socket.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it died; reading tells
        if sent < len(message):
            worker.rest = memoryview(message)[sent:]
            self.poll.modify(worker.fd, select.POLLIN | select.POLLOUT)

    def _push(self, worker: Worker, rest: memoryview) -> None:
        """Send more of a large job."""
        try:
            rest = rest[worker.socket.send(rest) :]
        except BlockingIOError:
            return
        except OSError:  # it died, or ran out of memory and has said so; reading tells
            self.poll.modify(worker.fd, select.POLLIN)
            return
        worker.rest = rest if len(rest) else None
        if worker.rest is None:
            self.poll.modify(worker.fd, select.POLLIN)

    def _pull(self, worker: Worker) -> None:
        """Read what a worker has to say."""
        data: bytes | bytearray
        try:
            data = worker.socket.recv(host.CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died(worker)
            return
        if worker.answer:
            worker.answer += data
            data = worker.answer
        size = host.ANSWER.size
        if len(data) < size:
            worker.answer = bytearray(data)
            return
        number, kind, length = host.ANSWER.unpack_from(data)
        if number != worker.number or length > host.MAX_RESULT or len(data) > size + length:
            self._conclude(worker, JobResult(JobStatus.CRASHED, error="the process sent something that is no answer"))
            return
        if len(data) < size + length:
            if data is not worker.answer:
                worker.answer = bytearray(data)
            return
        if kind == host.READY and not worker.ready:
            del self.starting[worker.fd]
            worker.ready = True
            self._send(worker)
            return
        result = _result(kind, data[size:])
        if result.status in (JobStatus.MEMORY, JobStatus.CRASHED) or worker.number >= self.max_jobs or worker.rest:
            self._conclude(worker, result)
            return
        if worker.answer:
            worker.answer = bytearray()
        self.results[worker.index] = result
        del self.busy[worker.fd]
        if self.todo and not self.fleet.queue:
            self._send(worker)
        else:
            self.poll.unregister(worker.fd)
            self.fleet.give_back(worker)

    def _conclude(self, worker: Worker, result: JobResult) -> None:
        """Set the result of a worker that is not used again, and end it."""
        self._end(worker)
        self.results[worker.index] = result

    def _end(self, worker: Worker) -> int | None:
        self.poll.unregister(worker.fd)
        code = self.fleet.end(worker)
        self.busy.pop(worker.fd, None)
        self.starting.pop(worker.fd, None)
        return code

    def _died(self, worker: Worker) -> None:
        code = self._end(worker)
        if code is None:  # so did its host: nobody's fault, try again
            if worker.ready:
                self.todo.appendleft(worker.index)
            self._lose(worker.host)
        elif not worker.ready:
            raise WorkerPoolError(f"a worker process ended while it started: {_cause(code)}")
        elif code == -signal.SIGXCPU:
            self.results[worker.index] = JobResult(JobStatus.TIMEOUT, error="the limit of CPU time was reached")
        else:
            self.results[worker.index] = JobResult(JobStatus.CRASHED, error=_cause(code))

    def _lose(self, lost: Host) -> None:
        """Count a host that died under this batch; one may. What another thread closed does not count."""
        if lost.died and lost not in self.lost:
            self.lost.append(lost)
        if len(self.lost) > 1:
            raise WorkerPoolError("the host process of the workers died, and the one that replaced it died as well")


def shared_pool(function: Callable[..., Any] | str, **options: Any) -> WorkerPool:
    """Return the pool of this process for `function` with these options, the same one for each call.

    Args:
        function: See `WorkerPool`.
        **options: The options of `WorkerPool`.
    """
    key = (function, *sorted(options.items()))
    with _shared_lock:
        if key not in _shared:
            _shared[key] = WorkerPool(function, **options)
        return _shared[key]


def _result(kind: bytes, text: bytes | bytearray) -> JobResult:
    try:
        if kind == host.DONE:
            return JobResult(JobStatus.DONE, json.loads(text.decode("utf-8", "surrogatepass")))
        if kind == host.RAISED:
            return JobResult(JobStatus.RAISED, error=text.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        return JobResult(JobStatus.CRASHED, error=f"the result cannot be read: {host.describe(error)}")
    if kind == host.MEMORY:
        return JobResult(JobStatus.MEMORY, error="the memory limit was reached")
    return JobResult(JobStatus.CRASHED, error="the process sent something that is no answer")


def _cause(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code}"
    try:
        return f"the process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"the process was ended by signal {-code}"


def _target(function: Any) -> tuple[str, str]:
    """The module and the name of a function.

    Raises:
        ValueError: Where it cannot be imported by them.
    """
    if isinstance(function, str) and _NAME.fullmatch(function) and not function.startswith("__main__:"):
        return function.partition(":")[0], function.partition(":")[2]
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module == "__main__":
        raise ValueError(
            f"{name} is defined in the script that is run, which worker processes cannot import; move it to a module"
        )
    if (
        not callable(function)
        or not isinstance(module, str)
        or not isinstance(name, str)
        or "." in name
        or getattr(sys.modules.get(module), name, None) is not function
    ):
        raise ValueError(
            f"{function!r:.200} cannot be imported by name in a worker process; pass a function that is defined at the "
            "top level of a module, not a lambda, a nested function, a method or a partial, or its name, "
            '"package.module:function"'
        )
    return module, name


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()
_shared: dict[tuple[Any, ...], WorkerPool] = {}
_shared_lock = threading.Lock()


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()  # a thread that is not here may have held the old one
    for pool in list(_pools):
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
