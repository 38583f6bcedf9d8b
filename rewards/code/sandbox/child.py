"""The candidate's process: closes the jail around itself, then runs the source and answers calls.

Everything here may be read, changed and forged by the source, and nothing here decides anything: the program takes
what comes out as some value, or as the end of the candidate.
"""

from __future__ import annotations

import _sitebuiltins
import atexit
import builtins
import errno
import gc
import io
import os
import resource
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rewards.code import codec
from rewards.code.sandbox import landlock, linux, seccomp, wire

UID = 1000
NAMESPACES = linux.CLONE_NEWUSER | linux.CLONE_NEWPID | linux.CLONE_NEWNS
MAX_FILES, MAX_THREADS, STACK = 128, 64, 64 * 2**20
_FORBIDDEN = (errno.EPERM, errno.EACCES, errno.EROFS)


@dataclass
class Jail:
    """What the jail of one completion is made of.

    Attributes:
        scratch: The folder that is the only one to be written in.
        work: Where each completion gets a folder if it has no namespaces of its own.
        proc: Where the zygote sees /proc.
        namespaces: What each completion has its own of, users, processes and mounts, or 0.
        landlock: The version of its interface, or 0.
        filter: The seccomp filter, or None.
        present: Bytes of address space that a process has before it runs anything.
    """

    scratch: str
    work: str
    proc: str
    namespaces: int
    landlock: int
    filter: seccomp.Filter | None
    present: int = 0

    def layers(self) -> dict[str, bool]:
        """Return which layers there are, by name."""
        return {"namespaces": self.namespaces != 0, "landlock": self.landlock > 0, "seccomp": self.filter is not None}

    def enter_namespaces(self, uid: int, gid: int, scratch_bytes: int) -> None:
        """Be a user of one's own, with an empty scratch that also hides /proc and this code."""
        if not self.namespaces:
            return
        proc = self.proc + "/self/"
        for name, text in (("setgroups", "deny"), ("uid_map", f"{UID} {uid} 1"), ("gid_map", f"{UID} {gid} 1")):
            fd = os.open(proc + name, os.O_WRONLY)
            os.write(fd, text.encode())
            os.close(fd)
        linux.mount_tmpfs(self.scratch, f"size={scratch_bytes},nr_inodes=4096,mode=0700,uid={UID},gid={UID}")

    def close(self, cpu_seconds: float, memory: int) -> None:
        """Limit what this process can do, for ever."""
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        os.chdir(self.scratch)
        os.umask(0o077)
        if not self.namespaces:
            os.environ.update(HOME=self.scratch, TMPDIR=self.scratch)  # each completion has another
        # the zygote's standard error is one file: what one candidate wrote there another could read, or find full
        with open("/dev/null", "r+b", buffering=0) as null:
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 2)
        cpu = int(cpu_seconds) + 2  # the zygote is exact; this holds where it is not
        for limit, value in (
            (resource.RLIMIT_CPU, cpu),
            (resource.RLIMIT_AS, self.present + memory),
            (resource.RLIMIT_FSIZE, memory),
            (resource.RLIMIT_NOFILE, MAX_FILES),
            (resource.RLIMIT_NPROC, MAX_THREADS),
            (resource.RLIMIT_STACK, STACK),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            hard = resource.getrlimit(limit)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (value, value))
        if self.landlock:
            landlock.restrict(self.landlock, self.scratch)
        linux.drop_capabilities()
        if self.filter is not None:
            self.filter.install()


class Channel:
    """Frames from and to the program."""

    def __init__(self, fd: int, value_bytes: int) -> None:
        self._fd = fd
        self._value_bytes = value_bytes
        self._number = 0

    def receive(self) -> tuple[bytes, Any]:
        """Return the next frame's kind and value. Ends the process where there is none."""
        kind, self._number, length = wire.FRAME.unpack(self._exactly(wire.FRAME.size))
        return kind, codec.decode(self._exactly(length), max_bytes=2**32, max_depth=1_000_000)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def _exactly(self, size: int) -> bytes:
        if not size:
            return b""
        data = os.read(self._fd, size)
        if len(data) == size:
            return data
        parts = []
        while data:
            parts.append(data)
            size -= len(data)
            if not size:
                return b"".join(parts)
            data = os.read(self._fd, size)
        os._exit(0)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a frame."""
        data = wire.FRAME.pack(kind, self._number, len(payload)) + payload
        sent = os.write(self._fd, data)
        if sent < len(data):
            view = memoryview(data)
            while sent < len(data):
                sent += os.write(self._fd, view[sent:])

    def send_value(self, value: Any) -> None:
        """Send what a call returned, or why it cannot be sent."""
        payload = codec.encode(value)
        if len(payload) > self._value_bytes:
            self.send_text(wire.RAISED, "ValueError", f"the value has {len(payload)} bytes, more than may be returned")
        else:
            self.send(wire.VALUE, payload)

    def send_error(self, kind: bytes, error: BaseException) -> None:
        """Send an exception."""
        try:
            text = str(error)
        except Exception:  # noqa: BLE001 (an exception's own __str__ may raise anything)
            text = "(its message cannot be shown)"
        self.send_text(kind, type(error).__name__, text, is_forbidden(error))

    def send_text(self, kind: bytes, name: str, text: str, forbidden: bool = False) -> None:
        """Send an exception's name and message."""
        self.send(kind, codec.encode((name[: wire.MAX_ERROR], text[: wire.MAX_ERROR], forbidden)))


def is_forbidden(error: BaseException | None) -> bool:
    """Return whether an exception comes from something that the jail denies."""
    for _ in range(10):
        if isinstance(error, OSError) and error.errno in _FORBIDDEN:
            return True
        if error is None:
            return False
        error = error.__cause__ or error.__context__
    return False


def warm() -> None:
    """Do in the zygote what every candidate does, so that it finds the pages and the specialized code."""
    text = "def warm(number: int) -> list[int]:\n    return [number + other for other in range(3)]\n"
    ours, theirs = socket.socketpair()
    frames = Channel(ours.detach(), 2**20)
    for _ in range(50):
        namespace: dict[str, Any] = {}
        exec(compile(text, "solution.py", "exec", dont_inherit=True), namespace)  # noqa: S102 (the text above)
        job = codec.encode(("warm", (1,), {}))
        theirs.sendall(wire.FRAME.pack(wire.CALL, 0, len(job)) + job)
        _, (name, args, kwargs) = frames.receive()
        frames.send_value(namespace[name](*args, **kwargs))
        theirs.recv(wire.CHUNK)
    frames.close()
    theirs.close()


def tidy(jail: Jail) -> None:
    """Prepare in the zygote what every candidate finds: each page that a candidate changes is copied for it."""
    # a pipe as the output will be: whether it can be sought in is asked once
    _, pipe = os.pipe()
    os.dup2(pipe, 1)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8", errors="surrogateescape"
    )
    sys.__stdout__ = sys.stdout  # type: ignore[misc]
    for name in [name for name in sys.modules if name == "__main__" or name.partition(".")[0] == "rewards"]:
        _kept.append(sys.modules.pop(name))
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")  # the module site, which is not loaded, makes them
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    os.environ.clear()
    os.environ.update(HOME=jail.scratch, TMPDIR=jail.scratch, PATH="/usr/bin:/bin", LANG="C.UTF-8", USER="sandbox")
    sys.argv[:] = ["solution.py"]


_kept: list[types.ModuleType] = []


def run(jail: Jail, cpu_seconds: float, memory: int, value_bytes: int, channel: int, output: int) -> None:
    """Be the candidate. Never returns."""
    os.dup2(output, 1)
    os.dup2(channel, 3)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    jail.close(cpu_seconds, memory)
    gc.enable()
    frames = Channel(3, value_bytes)
    frames.send(wire.HELLO)
    kind, job = frames.receive()
    try:
        if kind == wire.PROGRAM:
            run_program(frames, *job)
        else:
            answer_calls(frames, job)
    except MemoryError:
        frames.send(wire.MEMORY)
    os._exit(1)


def load(frames: Channel, name: str, source: str) -> Callable[[], None] | None:
    """Return what executes the source as a module; None where it is no Python."""
    module = types.ModuleType(name)
    module.__dict__.update(__builtins__=builtins, __file__="solution.py")
    sys.modules[name] = sys.modules["__main__"] = module
    try:
        code = compile(source, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
        frames.send_error(wire.SYNTAX, error)
        return None
    lines = source.splitlines(keepends=True)
    sys.modules["linecache"].cache["solution.py"] = (len(source), None, lines, "solution.py")  # for inspect.getsource
    return lambda: exec(code, module.__dict__)  # noqa: S102 (this is what the jail is for)


def answer_calls(frames: Channel, source: str) -> None:
    """Execute the source, then call its functions."""
    execute = load(frames, "solution", source)
    if execute is None:
        return
    module = sys.modules["solution"]
    try:
        execute()
        flush()
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 (whatever the source raises, SystemExit too)
        frames.send_error(wire.RAISED, error)
        return
    frames.send(wire.DONE)
    while True:
        _, (name, args, kwargs) = frames.receive()
        try:
            if name not in module.__dict__:
                raise NameError(f"name {name!r} is not defined")
            value = module.__dict__[name](*args, **kwargs)
            flush()
            frames.send_value(value)
        except MemoryError:
            raise
        except codec.Unencodable as error:
            frames.send_text(wire.RAISED, "Unencodable", str(error))
        except BaseException as error:  # noqa: BLE001 (whatever the function raises is its answer, SystemExit too)
            flush()
            frames.send_error(wire.RAISED, error)
        value = args = kwargs = None


def run_program(frames: Channel, source: str, stdin: str) -> None:
    """Execute the source as a program does: with standard input, until its threads have ended. Never returns."""
    fd = os.open("stdin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink("stdin")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(stdin.encode("utf-8", "surrogatepass"))
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8", "surrogateescape")
    sys.__stdin__ = sys.stdin  # type: ignore[misc]
    execute = load(frames, "__main__", source)
    if execute is None:
        return
    code = 0
    try:
        execute()
    except SystemExit as error:
        code = 0 if error.code is None else error.code & 0xFF if isinstance(error.code, int) else 1
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 (as a program's)
        frames.send_error(wire.RAISED, error)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    flush()
    os._exit(code)


def flush() -> None:
    """Write what was printed, so that it is there before the answer is."""
    stream = sys.stdout
    if stream is not None and not getattr(stream, "closed", False):
        stream.flush()
