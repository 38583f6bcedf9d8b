"""What the sandbox holds on this machine: each layer tried from inside, by a candidate that wants out."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

from rewards.code.sandbox.results import CandidateError, CandidateRaised, Limits, SandboxFault, WeakSandbox
from rewards.code.sandbox.sandbox import Sandbox

Grade = Literal["strong", "weak", "none"]

# Each function returns [held, evidence].
_PROBE = """
import ctypes, errno, os, signal, socket, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)


def denied(action, *arguments):
    try:
        result = action(*arguments)
    except OSError as error:
        return [True, errno.errorcode.get(error.errno, str(error.errno))]
    return [False, "it worked: " + repr(result)[:100]]


def system_call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def try_fork(): return denied(fork)
def try_exec(): return denied(os.execv, sys.executable, ["python", "-c", "pass"])
def try_socket(): return denied(socket.socket)
def try_ptrace(): return denied(system_call, 101 if os.uname().machine == "x86_64" else 117, 0, 0, 0, 0)
def try_unshare(): return denied(system_call, 272 if os.uname().machine == "x86_64" else 97, 0x10000000)


def try_threads():
    import threading
    done = []
    thread = threading.Thread(target=done.append, args=(1,))
    thread.start()
    thread.join()
    return [done == [1], "a thread ran" if done else "no thread ran"]


def try_read(paths):
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError:
            continue
        return [False, path + " can be opened"]
    return [True, "none of " + str(len(paths)) + " paths can be opened"]


def try_write(paths):
    new = ["/x", "/usr/x", os.path.dirname(os.__file__) + "/x", "/dev/x"]
    for path in [*paths, "/etc/ld.so.cache", os.__file__, *new]:
        try:
            os.close(os.open(path, os.O_WRONLY | (os.O_CREAT if path in new else 0), 0o600))
        except OSError:
            continue
        return [False, path + " was opened for writing"]
    with open("inside", "w") as file:
        file.write("x")
    return [True, "only scratch can be written"]


def try_processes(pids):
    seen = []
    for pid in [os.getppid(), *pids, *range(2, 100)]:
        if pid in (0, os.getpid()):
            continue
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        except PermissionError:
            pass
        seen.append(pid)
    return [not seen, "processes can be named: " + str(seen[:3]) if seen else "no other process has a number here"]


def try_proc():
    try:
        found = os.listdir("/proc")
    except OSError as error:
        return [True, errno.errorcode.get(error.errno, "")]
    return [False, str(len(found)) + " entries in /proc"]


def try_root():
    with_capabilities = [n for n in range(41) if libc.prctl(47, 2, n, 0, 0) == 1]
    return [os.getuid() != 0 and not with_capabilities, "user " + str(os.getuid())]


def try_environment(names):
    found = sorted(set(names) & set(os.environ))
    return [not found, "it has " + ", ".join(found[:3]) if found else "nothing of the program's"]


def try_descriptors():
    found = []
    for fd in range(2048):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return [found[:4] == [0, 1, 2, 3] and len(found) == 5, "open: " + str(found)]
"""
_HARMLESS = {"HOME", "TMPDIR", "PATH", "LANG", "USER"}


@dataclass(frozen=True)
class Layer:
    """One thing that the sandbox should hold.

    Attributes:
        name: What it is.
        active: Whether it held when it was tried.
        evidence: What happened.
        needed: Whether the grade "strong" needs it.
    """

    name: str
    active: bool
    evidence: str
    needed: bool = True


@dataclass(frozen=True)
class SandboxReport:
    """What the sandbox holds on this machine.

    Attributes:
        layers: What was tried.
        grade: "strong" if all that is needed held, "none" if nothing can run here, else "weak".
    """

    layers: tuple[Layer, ...]
    grade: Grade

    def __str__(self) -> str:
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines = [
            f"{layer.name:<{width}}  {'active' if layer.active else 'missing':<7}  {layer.evidence}"
            for layer in self.layers
        ]
        return "\n".join([*lines, f"grade: {self.grade}"])


def sandbox_report(sandbox: Sandbox | None = None) -> SandboxReport:
    """Try every layer from inside, and say what held.

    Args:
        sandbox: Which one to try; by default a new one that goes on without a layer.
    """
    own = sandbox is None
    sandbox = Sandbox(allow_weak=True) if sandbox is None else sandbox
    try:
        return _report(sandbox)
    except (WeakSandbox, SandboxFault) as error:
        return SandboxReport((Layer("sandbox", False, str(error)),), "none")
    finally:
        if own:
            sandbox.close()


def _report(sandbox: Sandbox) -> SandboxReport:
    inside = sandbox.layers
    layers = [Layer("bubblewrap", inside["bubblewrap"], sandbox.problem or "its jail was made")]
    names = sorted(set(os.environ) - _HARMLESS)
    with tempfile.NamedTemporaryFile() as file:
        paths = [
            "/etc/passwd",
            "/etc/hostname",
            "/proc/self/environ",
            "/proc/1/environ",
            "/dev/mem",
            __file__,
            file.name,
        ]
        layers += [
            _try(sandbox, "no other processes", "try_fork"),
            _try(sandbox, "no other programs", "try_exec"),
            _try(sandbox, "threads", "try_threads"),
            _try(sandbox, "no network", "try_socket"),
            _try(sandbox, "no tracing", "try_ptrace"),
            _try(sandbox, "no new namespaces", "try_unshare"),
            _try(sandbox, "no files to read", "try_read", paths),
            _try(sandbox, "no files to write", "try_write", [file.name, __file__]),
            _try(sandbox, "nobody to signal", "try_processes", [os.getpid()]),
            _try(sandbox, "no /proc", "try_proc"),
            _try(sandbox, "no rights", "try_root"),
            _try(sandbox, "no environment", "try_environment", names),
            _try(sandbox, "no descriptors", "try_descriptors"),
        ]
    layers += [
        _end(sandbox, "memory limit", "x = bytearray(2**30)", "memory", Limits(memory_bytes=64 * 2**20)),
        _end(sandbox, "CPU limit", "while True: pass", "timeout", Limits(cpu_seconds=0.1)),
        _end(sandbox, "wall limit", "import time; time.sleep(60)", "timeout", Limits(wall_seconds=0.1)),
        _empty(sandbox),
        Layer("seccomp", inside["seccomp"], "installed" if inside["seccomp"] else "not on this machine"),
        Layer("own namespaces", inside["namespaces"], "for each completion" if inside["namespaces"] else "refused"),
        Layer("Landlock", inside["landlock"], "in the kernel" if inside["landlock"] else "not in this kernel", False),
    ]
    strong = all(layer.active for layer in layers if layer.needed)
    return SandboxReport(tuple(layers), "strong" if strong else "weak")


def _try(sandbox: Sandbox, name: str, function: str, *arguments: Any) -> Layer:
    # a candidate for each: one that got through may have changed the next
    try:
        with sandbox.open(_PROBE) as candidate:
            held, evidence = candidate.call(function, arguments)
    except (CandidateError, CandidateRaised, ValueError, TypeError) as error:
        return Layer(name, False, f"the test itself failed: {error}")
    return Layer(name, bool(held), str(evidence))


def _end(sandbox: Sandbox, name: str, source: str, outcome: str, limits: Limits) -> Layer:
    try:
        sandbox.open(source, limits=limits).close()
    except CandidateError as error:
        return Layer(name, error.outcome == outcome, str(error))
    return Layer(name, False, "it was not reached")


def _empty(sandbox: Sandbox) -> Layer:
    """Whether a completion finds what another one left."""
    name = "nothing is left"
    try:
        with sandbox.open("with open('left', 'w') as file: file.write('x')"):
            pass
        with sandbox.open("import os\ndef f(): return os.listdir('.')") as candidate:
            found = candidate.call("f")
    except (CandidateError, CandidateRaised) as error:
        return Layer(name, False, f"the test itself failed: {error}")
    return Layer(name, found == [], f"scratch has {found}" if found else "scratch is empty again")
