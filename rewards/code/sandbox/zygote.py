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
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from rewards.code.sandbox import child, landlock, linux, seccomp, wire

PRELOAD = (
    "abc array ast atexit bisect calendar cmath collections collections.abc contextlib copy dataclasses datetime "
    "decimal enum fractions functools heapq inspect io itertools json linecache math numbers operator os random re "
    "statistics string struct sys textwrap threading time traceback types typing warnings weakref"
)


def main(setup: dict[str, Any]) -> NoReturn:
    """Serve requests until the control socket closes or the program has gone.

    Args:
        setup: `control` (the socket's number), `program` (a descriptor that becomes readable when the program dies),
            `uid` (whom to become, where this is root), `scratch` (the folder that completions may write in),
            `remove` (a folder to remove at the end, or "").
    """
    control = socket.socket(fileno=setup["control"])
    for fd in (setup["control"], setup["program"]):
        os.set_inheritable(fd, False)
    try:
        for name in PRELOAD.split():
            importlib.import_module(name)
        become(setup["uid"])
        jail = prepare(setup["scratch"])
        control.send(json.dumps({"layers": jail.layers()}).encode())
    except BaseException as error:  # noqa: BLE001 (whatever it is, the program must hear of it)
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child.warm()
    child.tidy(jail)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        Server(control, setup["program"], jail).run()
    finally:
        if setup["remove"]:
            shutil.rmtree(setup["remove"], ignore_errors=True)
        os._exit(0)


def become(uid: int) -> None:
    """Stop being root."""
    if uid and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or /proc/self would still be root's
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    if sys.stdlib_module_names and not os.access(os.__file__, os.R_OK):
        raise PermissionError(f"the user {os.getuid()} may not read the Python installation ({os.__file__})")


def prepare(scratch: str) -> child.Jail:
    """Find out in a forked process which layers there are."""
    proc = scratch + "/proc" if os.path.isdir(scratch + "/proc") else "/proc"
    with open(proc + "/self/statm", encoding="ascii") as file:
        present = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    filter_ = seccomp.Filter() if seccomp.supported() else None
    work = scratch + "/work" if os.path.isdir(scratch + "/work") else scratch
    jail = child.Jail(scratch, work, proc, child.NAMESPACES, landlock.version(), filter_, present)
    uid, gid = os.getuid(), os.getgid()  # the child is nobody until it has said who it is
    try:
        pid = linux.fork(jail.namespaces)
        if pid == 0:
            try:
                jail.enter_namespaces(uid, gid, 2**20)
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(pid, 0)[1] != 0:
            raise PermissionError("they cannot be set up")
    except OSError as error:
        os.write(2, f"no namespaces for each completion: {error}\n".encode())
        jail.namespaces = 0
    return jail


@dataclass(eq=False)
class Completion:
    """A candidate's process, seen from the zygote."""

    pid: int
    tasks: str
    watch: int
    lifeline: int
    cpu_seconds: float
    look: float
    folder: str = ""
    kind: bytes = wire.ENDED
    killed: bool = False

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

    def say_starved(self) -> None:
        """Say how long the thread of it that waited most was ready to run and got no core."""
        waited = 0
        with suppress(OSError, IndexError, ValueError):  # it ends meanwhile, or the kernel does not count
            for task in os.listdir(self.tasks):
                with open(f"{self.tasks}/{task}/schedstat", encoding="ascii") as file:
                    waited = max(waited, int(file.read().split()[1]))
        with suppress(OSError):
            os.write(self.lifeline, wire.STATUS.pack(wire.STARVED, 0, waited / 1e9, 0))

    def report(self) -> None:
        """Say how it ended; it has."""
        _, status, usage = os.wait4(self.pid, 0)
        used = usage.ru_utime + usage.ru_stime
        kind = wire.CPU_LIMIT if used >= self.cpu_seconds else self.kind
        with suppress(OSError):
            code = os.waitstatus_to_exitcode(status)
            os.write(self.lifeline, wire.STATUS.pack(kind, code, used, usage.ru_maxrss * 1024))
        os.close(self.watch)
        os.close(self.lifeline)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


class Server:
    """Serves the requests of one program."""

    def __init__(self, control: socket.socket, program: int, jail: child.Jail) -> None:
        self.control = control
        self.program = program
        self.jail = jail
        self.uid, self.gid = os.getuid(), os.getgid()
        self.completions: dict[int, Completion] = {}  # by both of its descriptors
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.poll.register(program, select.POLLIN)

    def run(self) -> None:
        """Serve until the program has gone."""
        while True:
            look = min((one.look for one in self.completions.values()), default=math.inf)
            wait = None if look == math.inf else max(0, math.ceil((look - time.monotonic()) * 1000))
            for fd, _ in self.poll.poll(wait):
                if fd == self.program:
                    return
                if fd == self.control.fileno():
                    if not self.serve():
                        return
                    continue
                one = self.completions.get(fd)
                if one is None:
                    continue
                if fd == one.watch:
                    for other in (one.watch, one.lifeline):
                        del self.completions[other]
                        with suppress(KeyError):
                            self.poll.unregister(other)
                    one.report()
                elif self.asked(fd):
                    one.say_starved()
                else:
                    self.poll.unregister(fd)
                    one.kill()
            if look <= time.monotonic():
                for one in list(self.completions.values()):
                    if one.look <= time.monotonic():
                        one.look_at_clock()

    def asked(self, lifeline: int) -> bool:
        """Return whether the program asks something; else it wants the candidate's end, or is gone."""
        try:
            return os.read(lifeline, 16) == wire.STARVED_QUESTION
        except OSError:
            return False

    def serve(self) -> bool:
        """Start a candidate; return whether there was a request."""
        request, fds, _, _ = socket.recv_fds(self.control, wire.REQUEST.size, 3)
        if len(request) < wire.REQUEST.size:
            return False
        channel, output, lifeline = fds
        cpu_seconds, memory, value_bytes, scratch_bytes = wire.REQUEST.unpack(request)
        folder = ""
        try:
            if not self.jail.namespaces:
                folder = tempfile.mkdtemp(dir=self.jail.work)
            pid = linux.fork(self.jail.namespaces)
            if pid == 0:
                try:
                    self.jail.scratch = folder or self.jail.scratch
                    self.jail.enter_namespaces(self.uid, self.gid, scratch_bytes)
                    child.run(self.jail, cpu_seconds, memory, value_bytes, channel, output)
                except Exception as error:  # noqa: BLE001 (the program must hear of it; no candidate has run)
                    os.write(lifeline, wire.STATUS.pack(wire.FAULT, 0, 0.0, 0) + repr(error).encode()[:1000])
                finally:
                    os._exit(1)
            watch = os.pidfd_open(pid)
        except OSError as error:
            with suppress(OSError):
                os.write(lifeline, wire.STATUS.pack(wire.FAULT, 0, 0.0, 0) + repr(error).encode()[:1000])
            os.close(lifeline)
        else:
            one = Completion(
                pid,
                f"{self.jail.proc}/{pid}/task",
                watch,
                lifeline,
                cpu_seconds,
                time.monotonic() + cpu_seconds,
                folder,
            )
            for fd in (watch, lifeline):
                self.completions[fd] = one
                self.poll.register(fd, select.POLLIN)
        finally:
            os.close(channel)
            os.close(output)
        return True
