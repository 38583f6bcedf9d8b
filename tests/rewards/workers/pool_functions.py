"""Functions that tests/rewards/workers/test_pool.py runs in worker processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

OPEN = os.open(os.devnull, os.O_RDONLY)  # a module may keep files open
state = []


def double(x):
    return 2 * x


def echo(*values):
    return list(values)


def size(text):
    return len(text)


def pid():
    return os.getpid()


def about():
    import resource

    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU)[0],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "used": time.process_time(),
        "threads": threading.active_count(),
        "fds": sorted(int(fd) for fd in os.listdir("/dev/fd") if os.path.exists(f"/dev/fd/{fd}")),
        "open": OPEN,
        "sigint": str(signal.getsignal(signal.SIGINT)),
    }


def spin():
    while True:
        pass


def power():
    return len(str(9**9**9))


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def bomb():
    """Take a gigabyte in small parts: enough for a test, and harmless where the limit is missing."""
    return len(["x" * 2**20 for _ in range(1024)])


def allocate(count):
    return len(bytearray(count))


def segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def cpu_limit():
    os.kill(os.getpid(), signal.SIGXCPU)


def leave(code):
    os._exit(code)


def leave_once(path):
    """Kill the host the first time."""
    if not os.path.exists(path):
        open(path, "w").close()
        kill_host()
    return "second"


def kill_host():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def exit_politely():
    sys.exit(4)


def fail(text):
    raise ValueError(text)


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError


def fail_silently():
    raise SilentError


def recurse():
    return recurse() + 1


def shout(text):
    print(text, flush=True)
    os.write(1, text.encode())
    return sys.stdin.read()


def special(kind):
    return {"nan": float("nan"), "inf": -float("inf"), "set": {1}, "tuple": (1, (2,)), "big": "x" * (17 * 2**20)}[kind]


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def fork_and_return():
    """Both the worker and a copy of it come back."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "worker" if child else "copy"


def write_garbage():
    """Answer in place of the pool, twice."""
    for fd in range(3, 30):
        try:
            os.write(fd, b"\0" * 40)
        except OSError:
            continue
    time.sleep(60)


def forge():
    """Answer well-formed, under another job's number."""
    from rewards.workers.host import ANSWER, DONE

    for fd in range(3, 30):
        try:
            os.write(fd, ANSWER.pack(999, DONE, 6) + b'"mine"')
        except OSError:
            continue
    time.sleep(60)


def talk_later():
    """Answer well, and leave something that talks when nobody asked."""
    if os.fork() == 0:
        time.sleep(0.1)
        for fd in range(3, 30):
            try:
                os.write(fd, b"\0" * 40)
            except OSError:
                continue
        os._exit(0)
    return "fine"


def leave_child():
    """Start a process that outlives the job."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    return child


def remember(value):
    state.append(value)
    return len(state)


class Unreadable:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return fail, ("unreadable",)


def use_pool(value):
    """Use a pool inside another process (called by the program's own worker processes)."""
    from rewards.workers.pool import WorkerPool

    with WorkerPool(double, workers=1, deadline=20) as pool:
        return pool.map([(value,), (value + 1,)])[1].value


def put_pool_result(queue, value):
    queue.put(use_pool(value))


class Holder:
    def method(self):
        return 1


def maker():
    def inner():
        return 1

    return inner


def sleep_pid(seconds):
    time.sleep(seconds)
    return os.getpid()


def sleep_and_echo(seconds, value):
    time.sleep(seconds)
    return value


def run(name, *arguments):
    return globals()[name](*arguments)
