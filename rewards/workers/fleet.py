"""The program's side of the worker processes: the host, the workers, and who has which."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from rewards.workers import host

START_LIMIT = 60.0
"""Seconds for the host to import the function's module, and for a worker to report."""
REQUEST_LIMIT = 10.0
"""Seconds for the host to fork or to kill."""
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[2]); sys.path[:] = setup['path']; "
    "from rewards.workers.host import main; main(setup)"
)


class WorkerPoolError(RuntimeError):
    """The pool itself cannot work; no job is to blame."""


class HostGone(Exception):
    """A host process has died, or another thread has closed it."""

    def __init__(self, gone: Host) -> None:
        super().__init__()
        self.host = gone


class Host:
    """The host process, seen from the program. Used under the pool's lock, except `close`."""

    def __init__(self, module: str, function: str, memory: int, deadline: float) -> None:
        self.closed = False
        self.died = False  # by itself
        self._lent: socket.socket | None = None
        name = f"{module}.{function}"
        self.control, theirs = socket.socketpair()
        with theirs:
            setup = {
                "path": _import_path(),
                "module": module,
                "name": function,
                "memory": memory,
                "deadline": deadline,
                "control": theirs.fileno(),
                "parent": os.getpid(),
            }
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, "llm-envs-worker-pool", json.dumps(setup)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C in the terminal is not for them
                )
            except BaseException as error:
                self.closed = True
                self.control.close()
                if isinstance(error, OSError):
                    raise WorkerPoolError(f"the host process for {name} cannot be started: {error}") from error
                raise
        self.control.settimeout(0.5)
        try:
            code, text = self._reply(START_LIMIT)
        except HostGone:
            self.close(kill=True)
            raise WorkerPoolError(
                f"the host process for {name} ended while it started (exit code {self.process.returncode}) or took "
                f"more than {START_LIMIT:.0f} s; its messages are on standard error"
            ) from None
        except BaseException:
            self.close(kill=True)
            raise
        if code == host.FAILED:
            self.close()
            raise WorkerPoolError(
                f"{name} cannot be imported in a worker process: {text}. The module must be importable through sys.path"
            )

    def spawn(self) -> Worker:
        """Fork a worker.

        Raises:
            HostGone: If the host cannot be reached.
            WorkerPoolError: If the system refuses another process.
        """
        ours, self._lent = socket.socketpair()
        try:
            with self._lent:
                code, _ = self._request(host.SPAWN, 0, [self._lent.fileno()])
            if code < 0:
                raise WorkerPoolError(f"a worker process cannot be started: {os.strerror(-code)}")
            return Worker(self, code, ours)
        except BaseException:
            ours.close()
            raise

    def kill(self, pid: int) -> int:
        """Kill a worker, and return its exit code: that of its own death where it was dead before."""
        return self._request(host.KILL, pid)[0]

    def close(self, kill: bool = False) -> None:
        """End the host and all its workers. A second call does nothing."""
        if self.closed:
            return
        self.closed = True
        if kill:
            self.process.kill()
        # not only closed: a forked child of the program may have inherited it
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        finally:
            self.control.close()

    def abandon(self) -> None:
        """Forget the process, in a forked child of the program."""
        self.closed = True
        self.process.returncode = 0  # not a child of this process
        self.control.close()
        if self._lent is not None:  # another thread was starting a worker, whose death would not be seen
            self._lent.close()

    def _request(self, operation: bytes, pid: int, fds: list[int] | None = None) -> tuple[int, str]:
        if self.closed:
            raise HostGone(self)
        try:
            socket.send_fds(self.control, [host.REQUEST.pack(operation, pid)], fds or [])
        except OSError:
            raise self._gone() from None
        return self._reply(REQUEST_LIMIT)

    def _reply(self, limit: float) -> tuple[int, str]:
        until = monotonic() + limit
        data = b""
        size = host.REPLY.size
        while len(data) < size:
            try:
                chunk = self.control.recv(size - len(data))
            except TimeoutError:
                # the end of the socket may not be seen where a forked child holds the other side
                if self.process.poll() is not None or monotonic() > until:
                    raise self._gone() from None
                continue
            except OSError:
                raise self._gone() from None
            if not chunk:
                raise self._gone()
            data += chunk
            if len(data) == host.REPLY.size:
                size += host.REPLY.unpack_from(data)[1]
        code = host.REPLY.unpack_from(data)[0]
        return code, data[host.REPLY.size :].decode("utf-8", "surrogatepass")

    def _gone(self) -> HostGone:
        self.died = not self.closed
        return HostGone(self)


class Worker:
    """A worker process, seen from the program."""

    __slots__ = ("answer", "expires", "fd", "host", "index", "number", "pid", "ready", "rest", "socket")

    def __init__(self, host: Host, pid: int, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.host = host
        self.pid = pid
        self.socket = connection
        self.fd = connection.fileno()
        self.ready = False
        self.number = 0  # jobs so far
        self.index = -1  # of the present job in its batch
        self.expires = monotonic() + START_LIMIT
        self.rest: memoryview | None = None  # of the present job, not sent yet
        self.answer = bytearray()  # of the present job, not complete yet

    def is_alive(self) -> bool:
        """Return whether nothing came from an idle worker: it neither died nor talks out of turn."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK)) and not self.ready
        except BlockingIOError:
            return True
        except OSError:
            return False


class Fleet:
    """The processes of one pool. Any thread may use it; a lock serves one at a time.

    A user of workers is any object; it has to give back what it took, or end it.

    Attributes:
        leased: Who has which worker. The others are idle.
        queue: What the users without a worker wait at, the first to wait first.
    """

    def __init__(self, module: str, function: str, workers: int, memory: int, deadline: float) -> None:
        self.workers = workers
        self.leased: dict[Worker, object] = {}
        self.queue: deque[threading.Lock] = deque()
        self._start = lambda: Host(module, function, memory, deadline)
        self._lock = threading.Lock()
        self._host: Host | None = None
        self._finalizer: Any = None
        self._all: list[Worker] = []

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._drop_host()

    def abandon(self) -> None:
        """Forget the processes, in a forked child of the program. Nothing else may be called after that."""
        for worker in self._all:
            worker.socket.close()
        if self._host is not None:
            self._finalizer.detach()
            self._host.abandon()

    def take(self, user: object, wait: bool) -> Worker | None:
        """Lease a worker to `user`; without one, wait or return None.

        Raises:
            HostGone: If a new worker is needed, and the host has died.
        """
        gate = None
        try:
            while True:
                with self._lock:
                    if len(self.leased) < self.workers and (not self.queue or self.queue[0] is gate):
                        if gate is not None:
                            self.queue.popleft()
                        worker = self._idle_worker()
                        self.leased[worker] = user
                        self._wake()
                        return worker
                    if not wait:
                        return None
                    if gate is None:
                        gate = threading.Lock()
                        gate.acquire()
                        self.queue.append(gate)
                gate.acquire()
        except BaseException:
            with self._lock:
                if gate is not None and gate in self.queue:
                    self.queue.remove(gate)
                self._wake()
            raise

    def _wake(self) -> None:
        """Let the first in the queue look again.

        Not a `threading.Condition`: Ctrl-C inside its `wait` may leave it without its lock, which it then releases for
        somebody else.
        """
        if self.queue and len(self.leased) < self.workers and self.queue[0].locked():
            self.queue[0].release()

    def _idle_worker(self) -> Worker:
        for worker in [worker for worker in self._all if worker not in self.leased]:
            if worker.host is self._host and worker.is_alive():
                return worker
            self._remove(worker)
        return self._spawn()

    def _spawn(self) -> Worker:
        if self._host is None:
            started = self._start()
            self._finalizer = weakref.finalize(
                self, _end_all, started, self._all, self.leased
            )  # also at the interpreter's exit
            self._host = started
        try:
            worker = self._host.spawn()
        except WorkerPoolError:
            raise
        except BaseException:
            self._drop_host()
            raise
        self._all.append(worker)
        return worker

    def give_back(self, worker: Worker) -> None:
        """Make a worker idle again."""
        with self._lock:
            del self.leased[worker]
            self._wake()

    def give_back_all(self, user: object, keep: Callable[[Worker], bool]) -> None:
        """Make all workers of `user` idle again, and end those that `keep` does not want."""
        try:
            with self._lock:
                for worker in [worker for worker, who in self.leased.items() if who is user]:
                    if keep(worker):
                        del self.leased[worker]
                    else:
                        self._remove(worker)
                self._wake()
        except BaseException:  # a second Ctrl-C: no time to be particular
            for worker in [worker for worker, who in self.leased.items() if who is user]:
                self.leased.pop(worker)
                worker.socket.close()
            self.close()
            raise

    def end(self, worker: Worker) -> int | None:
        """Kill a worker, and return its exit code, or None if its host has gone."""
        with self._lock:
            return self._remove(worker)

    def _remove(self, worker: Worker) -> int | None:
        try:
            if worker in self._all:
                self._all.remove(worker)
            self.leased.pop(worker, None)
            worker.socket.close()
            self._wake()
            return worker.host.kill(worker.pid)
        except HostGone:
            self._drop_host(worker.host)
            return None
        except BaseException:
            self._drop_host(worker.host)
            raise

    def _drop_host(self, dead: Host | None = None) -> None:
        """End the host and its workers (if it still is `dead`). Sockets of leased workers are left to who uses them."""
        gone = self._host
        if gone is None or dead not in (None, gone):
            return
        self._host = None
        for worker in [worker for worker in self._all if worker.host is gone and worker not in self.leased]:
            self._all.remove(worker)
            worker.socket.close()
        self._finalizer.detach()
        gone.close()


def _end_all(host: Host, workers: list[Worker], leased: dict[Worker, object]) -> None:
    """End what nobody can close any more. At the interpreter's exit a daemon thread may still use its worker."""
    host.close()
    for worker in workers:
        if worker not in leased:
            worker.socket.close()


def _import_path() -> list[str]:
    try:
        here = os.getcwd()
    except OSError:  # the folder was deleted
        here = ""
    return [entry or here for entry in sys.path if isinstance(entry, str)]
