r"""The processes behind `WorkerPool`: a host that imports the function once, and the workers it forks.

```
    program --- control socket --- host --- forks --- workers
        \______________ one socket per worker ____________/
```

The host has one thread, forks and kills on request, and alone reaps its children, so a process id is never used for
another process. It ends, with all workers, when its control socket closes: that happens however the program ends.
"""

from __future__ import annotations

import errno
import gc
import importlib
import json
import os
import pickle
import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from struct import Struct
from time import process_time
from typing import Any

REQUEST = Struct("!cI")
"""To the host: `SPAWN`, with the worker's socket, or `KILL` and the process to kill."""
SPAWN, KILL = b"S", b"K"
REPLY = Struct("!qI")
"""From the host: a process id, exit code or negative errno, and the length of a text that follows."""
FAILED = -1_000_000
"""The code of a reply whose text says why the host cannot work."""

JOB = Struct("!QQ")
"""To a worker: the job's number and the length of its pickled arguments, which follow."""
ANSWER = Struct("!QcI")
"""From a worker: the job's number, one of the kinds below, and the length of the text that follows."""
READY, DONE, MEMORY, RAISED = b"S", b"D", b"M", b"R"

MAX_RESULT = 16 * 2**20
MAX_ERROR = 500
CHUNK = 2**16

_PR_SET_PDEATHSIG = 1
_encode = json.JSONEncoder(ensure_ascii=False).encode


def describe(error: BaseException) -> str:
    """Return "TypeName: message", shortened; never raises, even where the message cannot be made."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (an exception's own __str__ may raise anything)
        text = "(its message cannot be shown)"
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 1] + "…"


def main(setup: dict[str, Any]) -> None:
    """Run the host until its control socket closes or the program has gone. Never returns.

    Args:
        setup: `control` (the socket's number), `parent` (the program's process id), `module` and `name` of the
            function, `memory` in bytes, `deadline` in seconds.
    """
    control = socket.socket(fileno=setup["control"])
    control.setblocking(True)
    os.set_inheritable(control.fileno(), False)
    sys.argv[:] = ["llm-envs-worker-pool"]
    setup["host"] = os.getpid()
    die_with = _load_die_with()
    # an import may take long and cannot look at the socket; the thread that started this process waits meanwhile
    die_with(setup["parent"], signal.SIGKILL)
    try:
        function = getattr(importlib.import_module(setup["module"]), setup["name"])
        if not callable(function):
            raise TypeError(f"{setup['name']} is a {type(function).__name__}")
    except BaseException as error:  # noqa: BLE001 (a module may raise anything, SystemExit too)
        _reply(control, FAILED, describe(error))
        os._exit(1)
    # from now on the thread that started this process may end without harm
    die_with(setup["parent"], 0)
    # what the program or the module ignores or blocks came along
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    gc.collect()
    gc.freeze()
    _reply(control, 0)
    children: set[int] = set()
    try:
        _serve(control, children, setup, function, die_with)
    finally:
        for pid in children:
            _signal(pid)
        for pid in children:
            _end(pid)
        os._exit(0)


def _serve(
    control: socket.socket,
    children: set[int],
    setup: dict[str, Any],
    function: Callable[..., Any],
    die_with: Callable[[int, int], None],
) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        if not poll.poll(1000):
            if os.getppid() != setup["parent"]:  # someone else holds the other end of a dead program's socket
                return
            continue
        request, fds, _, _ = socket.recv_fds(control, REQUEST.size, 1)
        if len(request) < REQUEST.size:
            return
        operation, pid = REQUEST.unpack(request)
        if operation == KILL:
            children.discard(pid)
            _reply(control, _end(pid))
            continue
        try:
            with socket.socket(fileno=fds[0]) as connection:
                os.set_inheritable(connection.fileno(), False)
                pid = _fork()
                if pid == 0:
                    control.close()
                    _run_worker(connection, setup, function, die_with)
        except OSError as error:
            _reply(control, -(error.errno or errno.EAGAIN))
            continue
        children.add(pid)
        with suppress(OSError):  # the worker does the same; whoever comes first
            os.setpgid(pid, pid)
        _reply(control, pid)


def _reply(control: socket.socket, code: int, text: str = "") -> None:
    data = text.encode("utf-8", "surrogatepass")
    with suppress(BrokenPipeError, ConnectionResetError):
        control.sendall(REPLY.pack(code, len(data)) + data)


def _fork() -> int:
    with warnings.catch_warnings():
        # newer Pythons warn where a library that was imported has started threads
        warnings.simplefilter("ignore")
        return os.fork()


def _signal(pid: int) -> None:
    """Kill a worker and what it has started. The process is a child not yet waited for, so the id is its own."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _end(pid: int) -> int:
    """Kill a worker where it is not dead yet, and return its exit code (negative: the signal that ended it)."""
    _signal(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _load_die_with() -> Callable[[int, int], None]:
    """Return a function (parent, signal) after which this process gets the signal when its parent dies. Linux only."""
    prctl = None
    if sys.platform == "linux":
        with suppress(ImportError, OSError, AttributeError):
            import ctypes

            prctl = ctypes.CDLL(None).prctl

    def die_with(parent: int, number: int) -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it had died before
            os._exit(1)

    return die_with


def _limit_memory(memory: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            present = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux: macOS does not enforce RLIMIT_AS
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = present + memory if hard == resource.RLIM_INFINITY else min(present + memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _run_worker(
    connection: socket.socket,
    setup: dict[str, Any],
    function: Callable[..., Any],
    die_with: Callable[[int, int], None],
) -> None:
    """Be a worker. Never returns."""
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        die_with(setup["host"], signal.SIGKILL)
        _limit_memory(setup["memory"])
        _work(connection, function, setup["deadline"])
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        os._exit(1)


def _work(connection: socket.socket, function: Callable[..., Any], deadline: float) -> None:
    import resource

    pid = os.getpid()
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    allowed = 0
    connection.sendall(ANSWER.pack(0, READY, 0))
    while True:
        data = connection.recv(CHUNK)
        while len(data) < JOB.size:
            more = connection.recv(CHUNK)
            if not more:
                os._exit(0)
            data += more
        number, length = JOB.unpack_from(data)
        # the wall deadline is kept by the program; this one holds where the program cannot
        seconds = int(process_time()) + ceil(deadline) + 2
        if seconds != allowed:
            allowed = seconds
            soft = allowed if hard == resource.RLIM_INFINITY else min(allowed, hard)
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
        try:
            kind, text = _perform(function, _payload(connection, data, length))
            answer = ANSWER.pack(number, kind, len(text)) + text
        except MemoryError:
            kind, answer = MEMORY, ANSWER.pack(number, MEMORY, 0)
        if os.getpid() != pid:  # a child that the function forked, and that came back
            os._exit(0)
        connection.sendall(answer)
        if kind == MEMORY:
            os._exit(0)


def _payload(connection: socket.socket, data: bytes, length: int) -> memoryview:
    """Return the arguments of a job, of which `data` is the beginning."""
    have = len(data) - JOB.size
    if have == length:
        return memoryview(data)[JOB.size :]
    payload = memoryview(bytearray(length))
    payload[:have] = data[JOB.size :]
    while have < length:
        count = connection.recv_into(payload[have:])
        if not count:
            os._exit(0)
        have += count
    return payload


def _perform(function: Callable[..., Any], payload: memoryview) -> tuple[bytes, bytes]:
    """Return the kind of an answer and its text. A `MemoryError` passes through."""
    doing = "the arguments cannot be unpickled: "
    try:
        job = pickle.loads(payload)  # noqa: S301 (written by the program that started this process)
        doing = ""
        value = function(*job)
        doing = "the result cannot be written as JSON: "
        text = _encode(value).encode("utf-8", "surrogatepass")
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 (what the function raises is its answer, SystemExit too)
        return RAISED, (doing + describe(error)).encode("utf-8", "surrogatepass")
    if len(text) > MAX_RESULT:
        text = f"ValueError: the result has {len(text)} bytes as JSON; at most {MAX_RESULT} can be returned".encode()
        return RAISED, text
    return DONE, text
