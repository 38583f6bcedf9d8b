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
import linecache
import os
import random
import re
import resource
import signal
import socket
import struct
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rewards.code.sandbox import codec, landlock, linux, seccomp, wire

UID = 1000
CHANNEL, LIFELINE = 3, 4
"""Descriptors of a candidate; the second one is closed before its source runs."""
SPARE = 1000
"""The channel again, or the largest possible descriptor. Some programs begin by closing what may be open."""
FILE = "solution.py"
NAMESPACES = linux.CLONE_NEWUSER | linux.CLONE_NEWPID | linux.CLONE_NEWNS
MAX_FILES, MAX_THREADS, MAX_SIGNALS, STACK = 128, 64, 256, 64 * 2**20
_FORBIDDEN = (errno.EPERM, errno.EACCES, errno.EROFS)


@dataclass(frozen=True)
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
        devices: Where devices are mounted, with the flags of each mount.
    """

    scratch: str
    work: str
    proc: str
    namespaces: int
    landlock: int
    filter: seccomp.Filter | None
    present: int = 0
    devices: tuple[tuple[str, int], ...] = ()

    def layers(self) -> dict[str, bool]:
        """Return which layers there are, by name."""
        return {"namespaces": self.namespaces != 0, "landlock": self.landlock > 0, "seccomp": self.filter is not None}

    def add_namespaces(self, calls: linux.SystemCalls, scratch_bytes: int, fd: int) -> None:
        """Be a user of one's own: an empty scratch that also hides /proc and this code, devices with fixed inodes.

        `fd` is the lowest descriptor that is free then.
        """
        texts = {"setgroups": "deny", "uid_map": f"{UID} {os.getuid()} 1", "gid_map": f"{UID} {os.getgid()} 1"}
        texts["oom_score_adj"] = "1000"  # where the machine runs out of memory, this is killed and not the program
        for name, text in texts.items():
            calls.add("openat", linux.AT_FDCWD, f"{self.proc}/self/{name}".encode(), os.O_WRONLY, 0, result=fd)
            calls.add("write", fd, text.encode(), len(text), result=len(text))
            calls.add("close", fd)
        for path, present in self.devices:
            # it can be written to, but its times, mode and attributes, which are the host's, cannot be changed
            flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | present
            calls.add("mount", 0, path.encode(), 0, flags, 0)
        options = f"size={scratch_bytes},nr_inodes=4096,mode=0700,uid={UID},gid={UID}"
        flags = linux.MS_NOSUID | linux.MS_NODEV
        calls.add("mount", b"tmpfs", self.scratch.encode(), b"tmpfs", flags, options.encode())

    def closing(self, cpu_seconds: float, memory: int, scratch_bytes: int, folder: str = "") -> linux.SystemCalls:
        """Prepare what limits for ever what a process can do, and then closes its descriptor `LIFELINE`.

        Args:
            cpu_seconds: CPU time.
            memory: Bytes of address space beyond those present.
            scratch_bytes: Size of scratch.
            folder: Scratch, where there are no namespaces.
        """
        calls = linux.SystemCalls()
        fd, scratch = LIFELINE + 1, folder or self.scratch
        if self.namespaces:
            self.add_namespaces(calls, scratch_bytes, fd)
        calls.add("prctl", linux.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        calls.add("setsid")
        calls.add("chdir", scratch.encode())
        calls.add("umask", 0o077)
        # the zygote's standard error is one file: what one candidate wrote there another could read, or find full
        calls.add("openat", linux.AT_FDCWD, b"/dev/null", os.O_RDWR, 0, result=fd)
        calls.add("dup3", fd, 0, 0)
        calls.add("dup3", fd, 2, 0)
        calls.add("close", fd)
        cpu = int(cpu_seconds) + 2  # the zygote is exact; this holds where it is not
        for limit, value in (
            (resource.RLIMIT_CPU, cpu),
            (resource.RLIMIT_AS, self.present + memory),
            (resource.RLIMIT_FSIZE, memory),
            (resource.RLIMIT_NOFILE, MAX_FILES),
            (resource.RLIMIT_NPROC, MAX_THREADS),
            (resource.RLIMIT_SIGPENDING, MAX_SIGNALS),  # also timers; beyond one's own limit the user's is used up
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            hard = resource.getrlimit(limit)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            calls.add("prlimit64", 0, limit, struct.pack("=QQ", value, value), 0)
        # a stack is part of the address space: programs may raise its limit, and some do
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        soft = STACK if hard == resource.RLIM_INFINITY else min(STACK, hard)
        calls.add("prlimit64", 0, resource.RLIMIT_STACK, struct.pack("=Qq", soft, hard), 0)
        if self.landlock:
            landlock.add_restriction(calls, self.landlock, scratch, fd)
        # a core that is piped to a program of the host knows no limit; also hides /proc/PID from others of the user
        calls.add("prctl", linux.PR_SET_DUMPABLE, 0, 0, 0, 0)
        no_capabilities = struct.pack("=II", linux.LINUX_CAPABILITY_VERSION_3, 0), bytes(24)
        calls.add("capset", *no_capabilities)  # effective, permitted and inheritable
        if self.filter is not None:
            self.filter.add_to(calls)
        calls.add("close", LIFELINE)
        return calls


class NoMore(BaseException):
    """The program has closed the channel."""


class Channel:
    """Messages from and to the program."""

    def __init__(self, fd: int, value_bytes: int) -> None:
        self._fd = fd
        self._value_bytes = value_bytes
        self._number = 0

    def receive(self) -> tuple[bytes, Any]:
        """Return the next message's kind and value.

        Raises:
            NoMore: If there is none.
        """
        kind, self._number, length = wire.HEADER.unpack(self._exactly(wire.HEADER.size))
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
        raise NoMore

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a message."""
        data = wire.HEADER.pack(kind, self._number, len(payload)) + payload
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
    job = codec.encode(("warm", (1,), {}))
    modules = dict(sys.modules)
    harmless = linux.SystemCalls()
    for _ in range(32):
        harmless.add("getppid")
    for _ in range(20):
        ours, theirs = socket.socketpair()
        theirs.sendall(2 * (wire.HEADER.pack(wire.CALL, 0, len(job)) + job))
        theirs.shutdown(socket.SHUT_WR)
        harmless.make()
        with suppress(NoMore):
            answer_calls(Channel(ours.detach(), 2**20), text)
        with suppress(BlockingIOError):
            theirs.recv(wire.CHUNK, socket.MSG_DONTWAIT)
        theirs.close()
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)
    linecache.clearcache()


def tidy(jail: Jail) -> None:
    """Prepare in the zygote what every candidate finds: each page that a candidate changes is copied for it."""
    global _stdout
    # a pipe as the output will be: whether it can be sought in is asked once
    _, pipe = os.pipe()
    os.dup2(pipe, 1)
    sys.stdout = sys.__stdout__ = standard_stream(1, "w")  # type: ignore[misc]
    _stdout = sys.stdout
    builtins.open = io.open = open_file
    os.open = open_descriptor
    os.supports_dir_fd.add(open_descriptor)
    threading.stack_size = stack_size
    sys.set_int_max_str_digits(0)  # what a long number takes is limited as all else is
    for name in [name for name in sys.modules if name == "__main__" or name.partition(".")[0] == "rewards"]:
        _kept.append(sys.modules.pop(name))
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")  # the module site, which is not loaded, makes them
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    os.environ.clear()
    os.environ.update(HOME=jail.scratch, TMPDIR=jail.scratch, PATH="/usr/bin:/bin", LANG="C.UTF-8", USER="sandbox")
    sys.argv[:] = [FILE]
    random.seed(0)  # for all the same, or a verdict could change from run to run


_kept: list[types.ModuleType] = []
_stdout: Any = None  # as it was before a program could put something in its place


def standard_stream(fd: int, mode: str) -> io.TextIOWrapper:
    """Return standard input or output as the interpreter makes it; templates for fast input ask for `mode`."""
    raw = io.FileIO(fd, mode, closefd=False)
    raw.name = "<stdin>" if mode == "r" else "<stdout>"
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(buffer, "utf-8", "surrogateescape")
    stream.mode = mode  # type: ignore[misc]
    return stream


_STREAM = re.compile(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/([0-9]{1,4})")
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_open_file, _open_descriptor = io.open, os.open


def descriptor_of(path: Any) -> int | None:
    """Return a new descriptor of the stream that a path like `/dev/stdin` means: no /proc is here to point to."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    match = _STREAM.fullmatch(path) if isinstance(path, str) else None
    return None if match is None else os.dup(_STREAMS[match[1]] if match[1] else int(match[2]))


def open_file(file: Any, *args: Any, **kwargs: Any) -> Any:
    """Open a file, as the built-in `open` does."""
    fd = descriptor_of(file)
    try:
        return _open_file(file if fd is None else fd, *args, **kwargs)
    except FileNotFoundError:
        own = sys.modules["__main__"].__file__ or FILE
        if os.path.basename(file) != FILE or os.path.exists(own):
            raise
    with _open_file(own, "x", encoding="utf-8", errors="surrogatepass", newline="") as source:
        source.writelines(linecache.getlines(FILE))
    return _open_file(file, *args, **kwargs)


def open_descriptor(path: Any, *args: Any, **kwargs: Any) -> int:
    """Open a file and return its descriptor, as `os.open` does."""
    fd = descriptor_of(path)
    return _open_descriptor(path, *args, **kwargs) if fd is None else fd


open_file.__name__ = open_file.__qualname__ = open_descriptor.__name__ = open_descriptor.__qualname__ = "open"
_stack_size = threading.stack_size


def stack_size(size: int = 0) -> int:
    """Set the stack of new threads, as `threading.stack_size` does, to a quarter of the memory at most.

    Programs ask for half a GiB and use a small part of it; only the address space is limited here.
    """
    most = resource.getrlimit(resource.RLIMIT_AS)[0] // 4
    return _stack_size(min(size, most & -4096) if most > 0 else size)


def run(closing: linux.SystemCalls, value_bytes: int, channel: int, output: int, lifeline: int) -> None:
    """Be the candidate. Never returns."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    spare = SPARE if most == resource.RLIM_INFINITY else min(SPARE, most - 1)
    os.dup2(output, 1)
    os.dup2(channel, spare)
    os.dup2(channel, CHANNEL)
    os.dup2(lifeline, LIFELINE)
    os.closerange(LIFELINE + 1, spare)
    os.closerange(spare + 1, 2**31 - 1)
    try:
        closing.make()
    except OSError as error:  # no candidate has run; the program must hear of it
        os.write(LIFELINE, wire.STATUS.pack(wire.FAULT, 0, 0.0, 0) + repr(error).encode()[:1000])
        os._exit(1)
    gc.enable()
    messages = Channel(spare, value_bytes)
    try:
        messages.send(wire.HELLO)
        kind, job = messages.receive()
        if kind == wire.PROGRAM:
            run_program(messages, *job)
        else:
            answer_calls(messages, *job)
    except MemoryError:
        messages.send(wire.MEMORY)
    except NoMore:
        os._exit(0)
    os._exit(1)


def load(messages: Channel, name: str, source: str) -> Callable[[], None] | None:
    """Return what executes the source as a module; None where it is no Python."""
    module = types.ModuleType(name)
    module.__dict__.update(__builtins__=builtins, __file__=os.path.abspath(FILE))
    sys.modules[name] = sys.modules["__main__"] = module
    source = source.removeprefix("\ufeff")  # a file may begin with it
    try:
        code = compile(source, FILE, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
        messages.send_error(wire.SYNTAX, error)
        return None
    lines = source.splitlines(keepends=True)
    for file in (FILE, os.path.abspath(FILE)):  # for inspect.getsource
        linecache.cache[file] = (len(source), None, lines, file)
    return lambda: exec(code, module.__dict__)  # noqa: S102 (this is what the jail is for)


def answer_calls(messages: Channel, source: str, prelude: str = "") -> None:
    """Execute the source, behind the prelude in the same module, then call its functions."""
    execute = load(messages, "solution", source)
    if execute is None:
        return
    module = sys.modules["solution"]
    try:
        if prelude:
            exec(compile(prelude, "<tests>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 (as the source)
        execute()
        flush(sys.stdout)
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 (the source may raise anything, SystemExit too)
        messages.send_error(wire.RAISED, error)
        return
    messages.send(wire.DONE)
    held = None  # the object that was made last
    while True:
        _, (name, args, kwargs) = messages.receive()
        try:
            value = resolve(module.__dict__, name, held)(*args, **kwargs)
            flush(sys.stdout)
            if name.endswith("()"):
                held, value = value, None
            messages.send_value(value)
        except MemoryError:
            raise
        except codec.Unencodable as error:
            messages.send_text(wire.RAISED, "Unencodable", str(error))
        except BaseException as error:  # noqa: BLE001 (what the function raises is its answer, SystemExit too)
            flush(sys.stdout)
            messages.send_error(wire.RAISED, error)
        value = args = kwargs = None


def resolve(names: dict[str, Any], name: str, held: Any) -> Any:
    """Return what is called: `f`, `A().f` of a new object, `A()`, whose object is held, or `.f` of the one held."""
    owner, dot, method = name.partition(".")
    if dot and not owner:
        return getattr(held, method)
    owner = owner.removesuffix("()")
    if owner not in names:
        raise NameError(f"name {owner!r} is not defined")
    return getattr(names[owner](), method) if dot else names[owner]


def run_program(messages: Channel, source: str, stdin: str) -> None:
    """Execute the source as a program does: with standard input, until its threads have ended. Never returns."""
    fd = os.open("stdin", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink("stdin")
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(stdin.encode("utf-8", "surrogatepass"))
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)
    sys.stdin = sys.__stdin__ = standard_stream(0, "r")  # type: ignore[misc]
    execute = load(messages, "__main__", source)
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
        messages.send_error(wire.RAISED, error)
        code = 1
    execute = None
    end_program()
    os._exit(code)


def end_program() -> None:
    """Do what the interpreter does at its end: threads, `atexit`, and `__del__` of all that only the program held."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    flush(sys.stdout)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    sys.modules.pop("__main__", None)
    flush_files()  # the collection may close what a file writes to before the file itself
    gc.collect()
    with suppress(Exception):  # by its type: a program may have replaced its method
        io.TextIOWrapper.flush(_stdout)


def flush_files() -> None:
    """Write what is left in the buffers of the program's open files."""
    for something in gc.get_objects():
        if issubclass(type(something), io.TextIOWrapper | io.BufferedWriter):
            flush(something)


def flush(stream: Any) -> None:
    """Write what was printed. What the program put in the place of a stream may be no stream, and need not work."""
    with suppress(Exception):
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
