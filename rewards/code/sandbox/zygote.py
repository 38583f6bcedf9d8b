"""The first process inside the jail: it imports what candidates need and forks one process per completion.

```
    program --- control socket --- zygote --- forks --- candidate
       | |____________ lifeline ______|                     |
       |_________________ channel and output _______________|
```

The zygote never sees source, arguments or values, never runs code of a candidate and keeps nothing of one. It kills a
candidate when its lifeline closes or its CPU time is up, and says how it ended. Everything dies with the zygote, and
the zygote with the program.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from rewards.code.sandbox import child, landlock, linux, seccomp, wire

PRELOAD = (
    "abc array ast atexit bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime "
    "decimal enum fractions functools heapq inspect io itertools json linecache math numbers operator os random re "
    "statistics string struct sys textwrap threading time traceback types typing warnings weakref"
)
_DESCRIPTORS = struct.Struct("3i")
_ROOM = socket.CMSG_SPACE(_DESCRIPTORS.size)
MAX_CLOSINGS = 100
"""Of so many kinds of limits, what a candidate does first is kept."""


def main(setup: dict[str, Any]) -> NoReturn:
    """Serve requests until the control socket closes or the program has gone.

    Args:
        setup: `control` (the socket's number), `program` (a descriptor that becomes readable when the program dies),
            `uid` (whom to become, where this is root), `scratch` (the folder that completions may write in),
            `landlock` (the newest version of its interface to use), `single` (whether there is one completion only),
            `remove` (a folder to remove at the end, or "").
    """
    control = socket.socket(fileno=setup["control"])
    for fd in (setup["control"], setup["program"]):
        os.set_inheritable(fd, False)
    try:
        for name in PRELOAD.split():
            importlib.import_module(name)
        become(setup["uid"])
        jail = prepare(setup["scratch"], min(landlock.version(), setup["landlock"]))
        control.send(json.dumps({"layers": jail.layers()}).encode())
    except BaseException as error:  # noqa: BLE001 (the program must hear of every failure)
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child.tidy(jail)
    if not setup["single"]:
        child.warm()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        Server(control, setup["program"], jail).run()
    finally:
        if setup["remove"]:
            remove(setup["remove"])
        os._exit(0)


def become(uid: int) -> None:
    """Stop being root."""
    if uid and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or /proc/self would still be root's
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    # Of a huge page that was unmapped but for 4 KiB, all 2 MiB stay: no limit of address space would hold.
    linux.prctl(linux.PR_SET_THP_DISABLE, 1)
    if sys.stdlib_module_names and not os.access(os.__file__, os.R_OK):
        raise PermissionError(f"the user {os.getuid()} may not read the Python installation ({os.__file__})")


def prepare(scratch: str, landlock_version: int) -> child.Jail:
    """Find out in a forked process which layers there are."""
    proc = scratch + "/proc" if os.path.isdir(scratch + "/proc") else "/proc"
    with open(proc + "/self/statm", encoding="ascii") as file:
        present = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    filter_ = seccomp.Filter() if seccomp.supported() else None
    work = scratch + "/work" if os.path.isdir(scratch + "/work") else scratch
    jail = child.Jail(scratch, work, proc, child.NAMESPACES, landlock_version, filter_, present, mounted_devices())
    calls = linux.SystemCalls()
    jail.add_namespaces(calls, 2**20, _free_descriptor())
    try:
        pid = linux.Fork(jail.namespaces)()
        if pid == 0:
            try:
                calls.make()
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(pid, 0)[1] != 0:
            raise PermissionError("they cannot be set up")
    except OSError as error:
        os.write(2, f"no namespaces for each completion: {error}\n".encode())
        jail = replace(jail, namespaces=0)
    return jail


def mounted_devices() -> tuple[tuple[str, int], ...]:
    """Return the devices in /dev that are mounts of their own, each with the flags that a new mount must keep."""
    kept = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC  # statvfs has them under the same numbers
    folder = os.stat("/dev").st_dev
    found = [(entry.path, entry.stat(follow_symlinks=False)) for entry in os.scandir("/dev")]
    paths = [path for path, status in found if stat.S_ISCHR(status.st_mode) and status.st_dev != folder]
    return tuple((path, os.statvfs(path).f_flag & kept) for path in paths)


def _free_descriptor() -> int:
    fd = os.open("/", os.O_PATH)
    os.close(fd)
    return fd


class Completion:
    """A candidate's process, seen from the zygote.

    Attributes:
        pid: Its number.
        watch: A descriptor that becomes readable when it has ended.
        lifeline: Where its program asks and is answered.
        cpu_seconds: CPU time that it may take.
        look: When to look at its CPU time, on the monotonic clock.
        folder: Its scratch, where there are no namespaces; to be removed.
        kind: How it ended.
        killed: Whether the zygote has killed it.
    """

    __slots__ = ("cpu_seconds", "folder", "killed", "kind", "lifeline", "look", "pid", "watch")

    def __init__(self, pid: int, lifeline: int, cpu_seconds: float, folder: str) -> None:
        self.pid = pid
        self.lifeline = lifeline
        self.cpu_seconds = cpu_seconds
        self.folder = folder
        self.watch = os.pidfd_open(pid)
        self.look = time.monotonic() + cpu_seconds
        self.kind = wire.ENDED
        self.killed = False

    def kill(self) -> None:
        """Kill it; the first process of a namespace takes all others with it."""
        if not self.killed:
            self.killed = True
            signal.pidfd_send_signal(self.watch, signal.SIGKILL)

    def look_at_clock(self) -> None:
        """Kill it if its CPU time is up, or say when to look again."""
        left = self.cpu_seconds - time.clock_gettime((~self.pid << 3) | 2)  # the CPU time of that process
        if left <= 0:
            self.kind = wire.CPU_LIMIT
            self.kill()
            self.look = math.inf
        else:
            self.look = time.monotonic() + max(left, 0.01)

    def say_starved(self, proc: str) -> None:
        """Say how long the thread of it that waited most was ready to run and got no core."""
        waited = 0
        tasks = f"{proc}/{self.pid}/task"
        with suppress(OSError, IndexError, ValueError):  # it ends meanwhile, or the kernel does not count
            for task in os.listdir(tasks):
                with open(f"{tasks}/{task}/schedstat", encoding="ascii") as file:
                    waited = max(waited, int(file.read().split()[1]))
        _say(self.lifeline, wire.STATUS.pack(wire.STARVED, 0, waited / 1e9, 0))

    def report(self) -> None:
        """Say how it ended; it has."""
        _, status, usage = os.wait4(self.pid, 0)
        used = usage.ru_utime + usage.ru_stime
        kind = wire.CPU_LIMIT if used >= self.cpu_seconds else self.kind
        _say(self.lifeline, wire.STATUS.pack(kind, os.waitstatus_to_exitcode(status), used, usage.ru_maxrss * 1024))
        os.close(self.watch)
        os.close(self.lifeline)
        if self.folder:
            remove(self.folder)


def remove(folder: str) -> None:
    """Remove a folder with all that is in it."""
    import shutil  # three libraries for archives come with it, and each mapping of memory costs every fork

    shutil.rmtree(folder, ignore_errors=True)


def _say(lifeline: int, message: bytes) -> None:
    with suppress(OSError):  # the program does not listen any more
        os.write(lifeline, message)


class Server:
    """Serves the requests of one program.

    While a candidate lives, each page that the zygote changes is copied: so as little as possible is done here.
    """

    def __init__(self, control: socket.socket, program: int, jail: child.Jail) -> None:
        self.control = control
        self.program = program
        self.jail = jail
        self.fork = linux.Fork(jail.namespaces)
        self.closings: dict[tuple[int, int, int], linux.SystemCalls] = {}  # by kind of limits
        self.completions: dict[int, Completion] = {}  # by both of its descriptors
        self.look = math.inf  # no completion's clock is to be looked at earlier
        self.poll = select.poll()
        # first: what it brings must not get a number that another event of the same poll still means
        self.poll.register(control, select.POLLIN)
        self.poll.register(program, select.POLLIN)

    def run(self) -> None:
        """Serve until the program has gone."""
        control = self.control.fileno()
        while True:
            wait = None if self.look == math.inf else max(0.0, (self.look - time.monotonic()) * 1000 + 1)
            for fd, _ in self.poll.poll(wait):
                if fd == control:
                    if not self.serve():
                        return
                elif fd == self.program:
                    return
                elif fd in self.completions:
                    self.hear(fd, self.completions[fd])
            if self.look <= time.monotonic():
                self.look_at_clocks()

    def hear(self, fd: int, one: Completion) -> None:
        """See to a candidate that has ended, or whose program asks."""
        if fd == one.watch:
            del self.completions[fd]
            self.poll.unregister(fd)
            if self.completions.pop(one.lifeline, None) is not None:
                self.poll.unregister(one.lifeline)
            one.report()
        elif self.asked(fd):
            one.say_starved(self.jail.proc)
        else:
            del self.completions[fd]
            self.poll.unregister(fd)
            one.kill()

    def look_at_clocks(self) -> None:
        """Kill what has used up its CPU time."""
        now = time.monotonic()
        self.look = math.inf
        for fd, one in self.completions.items():
            if fd == one.watch:
                if one.look <= now:
                    one.look_at_clock()
                self.look = min(self.look, one.look)

    def asked(self, lifeline: int) -> bool:
        """Return whether the program asks something; else it wants the candidate's end, or is gone."""
        try:
            return os.read(lifeline, 16) == wire.STARVED_QUESTION
        except OSError:
            return False

    def serve(self) -> bool:
        """Start a candidate; return whether there was a request."""
        request, ancillary, _, _ = self.control.recvmsg(wire.REQUEST.size, _ROOM)
        if len(request) < wire.REQUEST.size:
            return False
        channel, output, lifeline = _DESCRIPTORS.unpack(ancillary[0][2])
        folder = ""
        try:
            cpu_seconds, memory, value_bytes, scratch_bytes = wire.REQUEST.unpack(request)
            kind = int(cpu_seconds), memory, scratch_bytes  # each run of a program has less time than the one before
            closing = self.closings.get(kind)
            if closing is None:
                if not self.jail.namespaces:
                    folder = f"{self.jail.work}/{os.urandom(8).hex()}"
                    os.mkdir(folder, 0o700)
                closing = self.jail.closing(cpu_seconds, memory, scratch_bytes, folder)
                if self.jail.namespaces and len(self.closings) < MAX_CLOSINGS:
                    self.closings[kind] = closing
            pid = self.fork()
            if pid == 0:
                try:
                    if folder:
                        os.environ.update(HOME=folder, TMPDIR=folder)  # each completion has another
                    child.run(closing, value_bytes, channel, output, lifeline)
                finally:
                    os._exit(1)
            one = Completion(pid, lifeline, cpu_seconds, folder)
        except OSError as error:
            _say(lifeline, wire.STATUS.pack(wire.FAULT, 0, 0.0, 0) + repr(error).encode()[:1000])
            os.close(lifeline)
        else:
            self.look = min(self.look, one.look)
            self.completions[one.watch] = self.completions[lifeline] = one
            self.poll.register(one.watch, select.POLLIN)
            self.poll.register(lifeline, select.POLLIN)
        finally:
            os.close(channel)
            os.close(output)
        return True
