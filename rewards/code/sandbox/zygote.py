"""The first process inside the jail: it imports what candidates need and forks one supervisor per completion.

```
    program --- control socket --- zygote --- forks --- supervisor --- forks --- candidate
        |_____________________________ lifeline ____________|                        |
        |_____________________________ channel and output ___________________________|
```

The zygote never sees source, arguments or values, never runs code of a candidate and keeps no state between
completions. The supervisor makes the namespaces of one completion, kills the candidate when the lifeline closes or its
CPU time is up, and says how it ended. Everything dies with the zygote, and the zygote with the program.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from rewards.code.sandbox import child, landlock, linux, seccomp, wire

PRELOAD = (
    "abc array ast asyncio base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses "
    "datetime decimal difflib enum fractions functools hashlib heapq inspect io itertools json linecache locale math "
    "numbers operator os pprint queue random re statistics string struct sys tempfile textwrap threading time traceback "
    "types typing unicodedata uuid warnings weakref zlib"
)


def main(setup: dict[str, Any]) -> NoReturn:
    """Serve requests until the control socket closes or the program has gone.

    Args:
        setup: `control` (the socket's number), `program` (a descriptor that becomes readable when the program dies),
            `uid` (whom to become, where this is root), `scratch` (the folder that completions may write in).
    """
    control = socket.socket(fileno=setup["control"])
    for fd in (setup["control"], setup["program"]):
        os.set_inheritable(fd, False)
    try:
        for name in PRELOAD.split():
            importlib.import_module(name)
        import encodings.idna  # noqa: F401 (what is slow to import later)

        become(setup["uid"])
        jail = prepare(setup["scratch"])
        control.send(json.dumps({"layers": jail.layers()}).encode())
    except BaseException as error:  # noqa: BLE001 (whatever it is, the program must hear of it)
        control.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the supervisors
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        serve(control, setup["program"], jail)
    finally:
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
    jail = child.Jail(
        scratch=scratch,
        namespaces=True,
        landlock=landlock.version(),
        filter=seccomp.Filter() if seccomp.supported() else None,
    )
    pid = os.fork()
    if pid == 0:
        try:
            jail.enter_namespaces(2**20)
            if os.fork() == 0:
                os._exit(0)
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        except OSError as error:
            os.write(2, f"no namespaces for each completion: {error}\n".encode())
        finally:
            os._exit(1)
    jail.namespaces = os.waitpid(pid, 0)[1] == 0
    proc = scratch + "/proc" if os.path.isdir(scratch + "/proc") else "/proc"
    with open(proc + "/self/statm", encoding="ascii") as file:
        jail.present = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return jail


def serve(control: socket.socket, program: int, jail: child.Jail) -> None:
    """Fork a supervisor for each request."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(program, select.POLLIN)
    while True:
        events = dict(poll.poll())
        if program in events:
            return
        request, fds, _, _ = socket.recv_fds(control, wire.REQUEST.size, 3)
        if len(request) < wire.REQUEST.size:
            return
        try:
            if os.fork() == 0:
                with suppress(BaseException):
                    control.close()
                    os.close(program)
                    supervise(jail, wire.REQUEST.unpack(request), *fds)
                os._exit(1)
        except OSError:
            pass  # the program sees its lifeline close without a word
        finally:
            for fd in fds:
                os.close(fd)


def supervise(jail: child.Jail, limits: tuple[float, int, int, int], channel: int, output: int, lifeline: int) -> None:
    """Start the candidate of one completion, watch it, and report its end on the lifeline."""
    cpu_seconds, memory, value_bytes, scratch_bytes = limits
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        jail.enter_namespaces(scratch_bytes)
        pid = os.fork()
        if pid == 0:
            try:
                child.run(jail, cpu_seconds, memory, value_bytes, channel, output)
            finally:
                os._exit(1)
        watch = os.pidfd_open(pid)
    except OSError as error:
        os.write(lifeline, wire.STATUS.pack(wire.FAULT, 0, 0.0, 0) + str(error).encode())
        return
    os.close(channel)
    os.close(output)
    kind = wire.ENDED
    clock = (~pid << 3) | 2  # the CPU time of that process
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.register(watch, select.POLLIN)
    left = cpu_seconds
    while not poll.poll(max(left, 0.01) * 1000):
        left = cpu_seconds - time.clock_gettime(clock)
        if left <= 0:
            kind = wire.CPU_LIMIT
            break
    # the first process of a namespace takes all others with it
    signal.pidfd_send_signal(watch, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    used = usage.ru_utime + usage.ru_stime
    if used >= cpu_seconds:
        kind = wire.CPU_LIMIT
    code = os.waitstatus_to_exitcode(status)
    os.write(lifeline, wire.STATUS.pack(kind, code, used, usage.ru_maxrss * 1024))
