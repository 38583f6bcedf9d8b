"""What completions and the host have in common: nothing of it can be changed, and no memory is outside of limits."""

from __future__ import annotations

import abc
import fcntl
import os
import struct
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, Sandbox, launcher, sandbox_report

HERE = str(Path(__file__).parents[1])
if HERE not in sys.path:
    sys.path.append(HERE)
CHANNELS, HOARDS, SYSTEM = (getattr(import_module("shared_objects"), name) for name in ("CHANNELS", "HOARDS", "SYSTEM"))

pytestmark = [
    pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the programs have that machine's numbers of calls"),
]
MEMORY = 64 * 2**20
MISTAKES = {"NameError", "SyntaxError", "Unencodable", "AttributeError", "TypeError"}
LIMITS = Limits(cpu_seconds=5, wall_seconds=20, memory_bytes=MEMORY)


@pytest.fixture(
    scope="module",
    params=[("zygote", 6), ("zygote", 5), ("zygote", 0), ("fresh", 6), ("fresh", 0)],
    ids=lambda param: f"{param[0]}, Landlock {param[1]}",
)
def sandbox(request):
    """A sandbox in each mode, as on a kernel with each version of Landlock that differs."""
    mode, landlock = request.param
    with pytest.MonkeyPatch.context() as patch, Sandbox(mode=mode, limits=LIMITS) as sandbox:
        patch.setattr(launcher, "NEWEST_LANDLOCK", landlock)
        yield sandbox


def attempt(candidate, name, *args):
    """What a call returned, or the name of what it raised."""
    try:
        return candidate.call(name, args)
    except CandidateRaised as error:
        if error.type_name in MISTAKES:
            pytest.fail(f"the program itself is wrong: {error}")
        return error.type_name
    except CandidateError as error:
        return str(error.outcome)


@pytest.mark.parametrize("name", CHANNELS)
def test_what_one_completion_leaves_no_other_finds(sandbox, name):
    with sandbox.open(CHANNELS[name]) as sender, sandbox.open(CHANNELS[name]) as receiver:
        before = attempt(receiver, "get", None)
        # a name that was looked up once is remembered: another one in each run
        known = attempt(sender, "put", 20 + os.getpid() % 100)
        known = known if isinstance(known, bytes | int) else None
        assert attempt(receiver, "get", known) == before


@pytest.mark.parametrize("name", HOARDS)
def test_memory_beside_the_address_space_has_a_limit(sandbox, name):
    with sandbox.open(HOARDS[name]) as candidate:
        held = attempt(candidate, "hold")
    assert isinstance(held, str) or held <= MEMORY, held


def lock_is_free(path: str) -> bool:
    """Whether the host gets both kinds of locks at once, and sees none of the second kind."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
        except BlockingIOError:
            return False
        answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        return struct.unpack("hhqqi4x", answer)[0] == fcntl.F_UNLCK


@pytest.mark.parametrize("name", [name for name in CHANNELS if "lock" in name])
def test_the_host_sees_no_lock(sandbox, name):
    with sandbox.open(CHANNELS[name]) as candidate:
        attempt(candidate, "put", 255)
        assert all(
            map(lock_is_free, ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", os.__file__, abc.__file__))
        )


CHANGES = """
import os, pathlib, shutil
def f(paths):
    for path in paths:
        for flags in (os.O_RDONLY, os.O_RDWR):
            for change in (
                lambda: os.utime(path), lambda: os.utime(path, (1, 1)), lambda: pathlib.Path(path).touch(),
                lambda: os.chmod(path, 0o600), lambda: os.chown(path, -1, -1),
                lambda: os.chown(path, os.getuid(), os.getgid()),
                lambda: os.setxattr(path, "user.x", b"1"), lambda: os.removexattr(path, "user.x"),
                lambda: os.truncate(path, 0), lambda: os.unlink(path), lambda: os.rename(path, path + "x"),
                lambda: os.link(path, "x"), lambda: shutil.copystat(".", path), lambda: os.utime(os.open(path, flags)),
                lambda: os.fchmod(os.open(path, flags), 0o600), lambda: os.fchown(os.open(path, flags), -1, -1),
                lambda: os.setxattr(os.open(path, flags), "user.x", b"1"), lambda: os.read(os.open(path, flags), 10),
                lambda: os.write(os.open(path, flags), b"x"), lambda: os.listdir(path),
            ):
                try: change()
                except OSError: pass
"""


def test_nothing_of_the_host_is_changed(sandbox):
    library = os.path.dirname(os.__file__)
    paths = ["/", "/usr", "/dev", *(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))]
    paths += [library, os.__file__, f"{library}/json", os.path.realpath(sys.executable), "/etc/ld.so.cache"]

    def state():
        return {path: os.stat(path) for path in paths}

    before = state()
    with sandbox.open(CHANGES) as candidate:
        candidate.call("f", (paths,))
    changed = {
        path: (old, new)
        for path, (old, new) in ((path, (before[path], new)) for path, new in state().items())
        # not the times of access: the host reads, too
        if (old.st_mode, old.st_uid, old.st_gid, old.st_mtime_ns, old.st_ctime_ns, old.st_nlink)
        != (new.st_mode, new.st_uid, new.st_gid, new.st_mtime_ns, new.st_ctime_ns, new.st_nlink)
    }
    assert changed == {}


FOR_EVER = """
def f():
    def prctl(option, value): return libc.prctl(option, value, 0, 0, 0)
    return [prctl(42, 0), prctl(41, 0), prctl(3, 0), prctl(4, 1), prctl(3, 0)]
"""


def test_there_are_no_huge_pages_and_no_cores_and_both_for_ever(sandbox):
    with sandbox.open(SYSTEM + FOR_EVER) as candidate:
        assert candidate.call("f") == [1, -1, 0, -1, 0]


TOUCHES = """
def f():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10):
        kept.append(mmap.mmap(-1, 2**22, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        kept[-1].madvise(14)
        kept[-1][2**21] = 1
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
"""


def test_a_byte_takes_no_huge_page(sandbox):
    """Of a huge page that is unmapped but for 4 KiB all would stay: 64 MiB of address space held 2 GB."""
    with sandbox.open(SYSTEM + TOUCHES) as candidate:
        assert candidate.call("f") < 2**22


LEAVES_NO_CHILD = """
import ctypes, os, sys
from rewards.code.sandbox import CandidateError, Limits, Sandbox

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # a subreaper: what would be left to process 1 is left to this one
for mode in ("fresh", "zygote"):
    with Sandbox(mode=mode, limits=Limits(wall_seconds=0.5)) as sandbox:
        for source in ("x = 1", "1 / 0", "import os; os._exit(0)", "import time; time.sleep(60)", "("):
            try:
                sandbox.open(source).close()
            except CandidateError:
                pass
        try:
            sandbox.run_program("print(input())", "1")
        except CandidateError:
            pass
        sandbox._new(None)  # one that nobody closes
try:
    print("left", os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("nothing is left")
"""


def test_no_process_is_left_to_process_1():
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[4]), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", LEAVES_NO_CHILD],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("nothing is left\n", "")
