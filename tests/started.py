"""Processes that start with the packages loaded, for tests of what a process does: torch and its kin take seconds each.

`start(words)` stands for `python *words` and is used like `subprocess.Popen`. The process is forked from one that has
imported the packages and done nothing else, so its descriptors, signals, environment, exit code and end are its own.
What a program imports, and what the environment says to libraries while they load, needs a real start.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOADED = (
    "torch", "torch.distributed.fsdp", "transformers.models.llama.modeling_llama", "peft", "agents.cli.train",
    "agents.cli.training_run", "agents.cli.evaluate", "agents.grpo.agent", "llm_envs.tasks",
)  # fmt: skip


class Started:
    """A running program: what the tests use of `subprocess.Popen`, with text in its pipes.

    Args:
        words: What would follow `python`: `-m` and a module, or a file; and arguments.
        cwd: Its working directory.
        env: Its environment.
        ignored: Signals that it ignores from its start on, as under nohup.
    """

    def __init__(
        self,
        words: Sequence[object],
        cwd: str | Path | None = None,
        env: dict[str, str] | None = None,
        ignored: Sequence[int] = (),
    ) -> None:
        job = {
            "words": list(map(str, words)),
            "cwd": str(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
            "ignored": list(ignored),
        }
        pipes = [os.pipe() for _ in range(3)]
        theirs = [writing for _, writing in pipes]
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.connect(_server())
            socket.send_fds(control, [b"1"], theirs)
            control.sendall(json.dumps(job).encode())
        for writing in theirs:
            os.close(writing)
        self.stdout, self.stderr, self._status = (os.fdopen(reading, encoding="utf-8") for reading, _ in pipes)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a started process", timeout or 0)
            self.returncode = int(self._status.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it wrote to both outputs."""
        found: dict[str, str] = {}
        readers = [
            threading.Thread(target=lambda name=name: found.update({name: getattr(self, name).read()}), daemon=True)
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        for reader in readers:
            reader.join()
        return found["stdout"], found["stderr"]

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)


def start(*words: object, **options) -> Started:
    """Start `python *words`; see `Started`."""
    return Started(words, **options)


def run(*words: object, timeout: float = 300, **options) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of `python *words`, with its output as text."""
    process = Started(words, **options)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def run_ranks(*words: object, size: int = 2, **options) -> list[subprocess.CompletedProcess[str]]:
    """Run a program in processes that are to each other what those that torchrun starts are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
        "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    processes = [
        Started(words, env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        subprocess.CompletedProcess(words, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


# -- the process that all are forked from ----------------------------------------------------------------------------


@cache
def _server() -> str:
    """Start it, and return the address where it listens. It ends with this process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")  # the system gives it a name
    listener.listen()
    lifeline, theirs = socket.socketpair()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    numbers = listener.fileno(), theirs.fileno()
    command = [sys.executable, "-P", __file__, *map(str, numbers)]
    subprocess.Popen(command, env=environment, pass_fds=numbers, stdin=subprocess.DEVNULL, start_new_session=True)
    _kept.append(lifeline)
    address = listener.getsockname()
    listener.close()
    theirs.close()
    return address


_kept: list[socket.socket] = []


def _serve(listener: socket.socket, lifeline: socket.socket) -> dict:
    """Fork a process per job. Returns the job in the forked one; ends this one when the tests have gone."""
    for name in LOADED:
        import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a package has started a thread, and a process with threads cannot be forked")
    running: dict[int, tuple[int, int]] = {}  # descriptor of a process to its number and where its end is told
    while True:
        ready, _, _ = select.select([listener, lifeline, *running], [], [])
        if lifeline in ready:
            os._exit(0)
        for watch in set(ready) & set(running):
            pid, status = running.pop(watch)
            _, code = os.waitpid(pid, 0)
            os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
            os.close(watch)
            os.close(status)
        if listener in ready:
            control, _ = listener.accept()
            with control:
                _, (out, err, status), _, _ = socket.recv_fds(control, 1, 3)
                with control.makefile("rb") as file:
                    job = json.load(file)
            pid = os.fork()
            if pid == 0:
                os.dup2(out, 1)
                os.dup2(err, 2)
                listener.close()
                lifeline.close()
                for fd in (out, err, status, *running, *(status for _, status in running.values())):
                    os.close(fd)
                return job
            os.write(status, f"{pid}\n".encode())
            os.close(out)
            os.close(err)
            running[os.pidfd_open(pid)] = pid, status


def _become(job: dict) -> None:
    """Run a job's program in this process."""
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    for number in job["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    is_module = job["words"][0] == "-m"
    program, *arguments = job["words"][is_module:]
    path = [os.getcwd() if is_module else os.path.dirname(program)]
    sys.path[:0] = [*path, *filter(None, job["env"].get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [program, *arguments]
    if is_module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    _become(_serve(*(socket.socket(fileno=int(number)) for number in sys.argv[1:])))
