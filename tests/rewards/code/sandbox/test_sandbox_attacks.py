"""Source that wants more than it may have. Each attack returns what it got; a held attack gets nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rewards.base import Outcome
from rewards.code.sandbox import CandidateError, CandidateRaised, Limits, Sandbox
from rewards.code.sandbox.codec import encode

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")
LIMITS = Limits(cpu_seconds=2, wall_seconds=3, memory_bytes=256 * 2**20)
SHORT = Limits(cpu_seconds=0.5, wall_seconds=1, memory_bytes=256 * 2**20)  # for what is to reach it


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(limits=LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def nothing_is_left(sandbox):
    """After each attack the same zygote serves an honest candidate, which finds nothing of the attack."""
    with sandbox.open("") as candidate:
        before = candidate._owned, sandbox._zygote
    mounts = Path("/proc/self/mounts").read_text()
    yield
    with sandbox.open(HONEST) as candidate:
        assert candidate.call("f", (20,)) == [6765, [], True]
    assert (None, sandbox._zygote) == before
    assert Path("/proc/self/mounts").read_text() == mounts
    assert "x" not in os.listdir("/dev/shm")  # other programs may use it meanwhile


HONEST = """
import builtins, json, os, math
def f(n):
    a, b = 0, 1
    for _ in range(n): a, b = b, a + b
    left = [name for name in vars(builtins) if name.startswith("evil")] + os.listdir(".")
    return [a, left, json.dumps([math.sqrt(4)]) == "[2.0]" and len([1, 2]) == 2 and "evil" not in os.environ]
"""

SYSCALL = "import ctypes\nsyscall = ctypes.CDLL(None).syscall\n"
# a function f() that returns something true where it got through; an exception is no success
GETS = {
    "fork": "import os\ndef f():\n    pid = os.fork()\n    if pid == 0: os._exit(0)\n    return True",
    "forkpty": "import os\ndef f(): return os.forkpty()",
    "vfork": SYSCALL + "def f(): return syscall(58) >= 0",
    "clone without a flag": SYSCALL + "def f(): return syscall(56, 17, 0, 0, 0, 0) >= 0",
    "clone with a user namespace": SYSCALL + "def f(): return syscall(56, 0x10010f00, 0, 0, 0, 0) >= 0",
    "clone3": SYSCALL + "def f(): return syscall(435, (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17), 88) >= 0",
    "x32 fork": SYSCALL + "def f(): return syscall(0x40000000 + 57) >= 0",
    "exec": "import os\ndef f(): os.execv('/bin/sh', ['sh'])",
    "spawn": "import os, sys\ndef f(): return os.posix_spawn(sys.executable, ['x'], {}) > 0",
    "system": "import os\ndef f(): return os.system('true') == 0",
    "subprocess": "import subprocess, sys\ndef f(): return subprocess.run([sys.executable, '-c', '']).returncode == 0",
    "multiprocessing": "import multiprocessing as m\ndef f():\n    m.Process(target=int).start(); return True",
    "internet socket": "import socket\ndef f(): return bool(socket.socket())",
    "unix socket": "import socket\ndef f(): return bool(socket.socket(socket.AF_UNIX))",
    "netlink": "import socket\ndef f(): return bool(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))",
    "socket pair of another family": "import socket\ndef f(): return bool(socket.socketpair(socket.AF_INET))",
    "urllib": "import urllib.request\ndef f(): return bool(urllib.request.urlopen('http://1.1.1.1', timeout=2))",
    "password file": "def f(): return open('/etc/passwd').read()",
    "processes": "import os\ndef f(): return [p for p in os.listdir('/proc') if p.isdigit()]",
    "command line of the parent": "def f(): return open('/proc/1/cmdline').read()",
    "own memory file": "def f(): return open('/proc/self/mem', 'rb')",
    "up from the working folder": "import os\ndef f(): return {*os.listdir('..')} & {'home', 'var', 'sys'}",
    "this project": "import os\ndef f(): return os.path.exists(PROJECT)",
    "the code of the jail": "import glob\ndef f(): return glob.glob('/scratch/**/*.py', recursive=True)",
    "import of the project": "def f():\n    import rewards; return True",
    "import of an installed package": "def f():\n    import pip; return True",
    "home": "import os\ndef f(): return os.listdir(os.path.expanduser('~'))",
    "write into the standard library": "import os\ndef f(): return open(os.__file__, 'a')",
    "write into /": "def f(): return open('/x', 'w')",
    "write into /dev": "def f(): return open('/dev/x', 'w')",
    "shared memory": "import os\ndef f():\n    open('/dev/shm/x', 'w').close()\n"
    "    return not os.path.exists('/scratch/x')",
    "System V memory": "import ctypes\ndef f(): return ctypes.CDLL(None).shmget(77, 4096, 0o1666) >= 0",
    "memfd": "import os\ndef f(): return os.memfd_create('x') >= 0",
    "hard link": "import os\ndef f(): os.link(os.__file__, 'x'); return True",
    "device": "import os\ndef f(): os.mknod('d', 0o60600, os.makedev(254, 0)); return open('d', 'rb').read(1)",
    "chroot": "import os\ndef f(): os.chroot('.'); return True",
    "mount": "import ctypes\ndef f(): return ctypes.CDLL(None).mount(b'p', b'.', b'proc', 0, None) == 0",
    "unmount of scratch": "import ctypes\ndef f(): return ctypes.CDLL(None).umount2(b'/scratch', 2) == 0",
    "unshare": "import ctypes\ndef f(): return ctypes.CDLL(None).unshare(0x10000000) == 0",
    "ptrace": "import ctypes\ndef f(): return ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0",
    "signal to the parent": "import os\ndef f(): os.kill(os.getppid() or 2, 0); return True",
    "parent": "import os\ndef f(): return os.getppid()",
    "root": "import os\ndef f(): return os.getuid() == 0 or os.geteuid() == 0",
    "become root": "import os\ndef f(): os.setuid(0); return True",
    "raised limit": "import resource as r\ndef f(): r.setrlimit(r.RLIMIT_AS, (-1, -1)); return True",
    "raised CPU limit": "import resource as r\ndef f(): r.setrlimit(r.RLIMIT_CPU, (999, 999)); return True",
    "core file": "import resource as r\ndef f(): return r.getrlimit(r.RLIMIT_CORE) != (0, 0)",
    "environment": "import os\ndef f(): return {*os.environ} - {'HOME', 'TMPDIR', 'PATH', 'LANG', 'USER'}",
    "descriptors": "import os\ndef f(): return [n for n in range(4, 300) if not os.system and n or _open(n)]\n"
    "def _open(n):\n    try: os.fstat(n); return True\n    except OSError: return False",
    "keys": SYSCALL + "def f(): return syscall(250, 0, -3, 0) >= 0",
    "bpf": SYSCALL + "def f(): return syscall(321, 0, 0, 0) >= 0",
    "io_uring": SYSCALL + "def f(): return syscall(425, 1, (ctypes.c_char * 200)()) >= 0",
    "userfaultfd": SYSCALL + "def f(): return syscall(323, 0) >= 0",
    "perf": SYSCALL + "def f(): return syscall(298, (ctypes.c_char * 200)(), 0, -1, -1, 0) >= 0",
    "lease on a library": "import fcntl, os\ndef f():\n    fcntl.fcntl(os.open(os.__file__, 0), 1024, 0); return True",
    "outlives its parent": "import ctypes\ndef f(): return ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0",
}


MISTAKES = {"NameError", "SyntaxError", "Unencodable", "AttributeError", "TypeError"}  # of the attack itself


def attempt(sandbox, source, limits=LIMITS):
    """What a call of f gave: a value, or what it raised or ended with."""
    try:
        with sandbox.open(source, limits=limits) as candidate:
            candidate.call("f")
            return candidate.call("f")
    except CandidateRaised as error:
        return error
    except CandidateError as error:
        return error.outcome


@pytest.mark.parametrize("name", GETS)
def test_it_gets_nothing(sandbox, name):
    project = str(Path(__file__).parents[4])
    got = attempt(sandbox, f"PROJECT = {project!r}\n{GETS[name]}")
    if isinstance(got, CandidateRaised):
        assert got.type_name not in MISTAKES, str(got)
    elif isinstance(got, Outcome):
        assert got in (Outcome.CRASHED, Outcome.FORBIDDEN)
    else:
        assert not got


MESSAGE = """
import gc, struct
def message(kind, data, number=None):
    channel = next(o for o in gc.get_objects() if type(o).__name__ == "Channel")
    return kind + struct.pack("!QI", channel._number if number is None else number, len(data)) + data
"""
# what ends the candidate
ENDS = {
    "early exit": ("import os\ndef f(): os._exit(0)", Outcome.CRASHED),
    "exit at import": ("import os\nos._exit(0)", Outcome.CRASHED),
    "sys.exit at import": ("import sys\nsys.exit(0)", Outcome.CRASHED),
    "closed channel": ("import os\ndef f(): os.closerange(3, 4096); import time; time.sleep(9)", Outcome.CRASHED),
    "closed everything": ("import os\ndef f(): os.closerange(0, 4096); import time; time.sleep(9)", Outcome.CRASHED),
    "part of a message": ("import os\ndef f(): os.write(3, b'V\\0'); os._exit(0)", Outcome.CRASHED),
    "message of another kind": (
        MESSAGE + "import os\ndef f(): os.write(3, message(b'Z', b'')); os._exit(0)",
        Outcome.CRASHED,
    ),
    "message that is too long": (
        MESSAGE + "import os\ndef f(): os.write(3, message(b'V', b'')[:-4] + b'\\xff\\xff\\xff\\xff'); os._exit(0)",
        Outcome.CRASHED,
    ),
    "value that is none": (MESSAGE + "import os\ndef f(): os.write(3, message(b'V', b'\\xff' * 9))", Outcome.CRASHED),
    "two messages": (
        MESSAGE + "import os\ndef f(): os.write(3, message(b'V', b'N\\0\\0\\0\\0') * 2); os._exit(0)",
        Outcome.CRASHED,
    ),
    "flood of the channel": ("import os\ndef f():\n    while True: os.write(3, b'V' * 60000)", Outcome.CRASHED),
    "flood of output": ("import os\ndef f():\n    while True: os.write(1, b'x' * 60000)", None),
    "answer to another question": (
        MESSAGE + "import os\ndef f(): os.write(3, message(b'V', b'N', 7))",
        Outcome.CRASHED,
    ),
    "answer before the source": (MESSAGE + "import os\nos.write(3, message(b'D', b'') * 2)", Outcome.CRASHED),
    "endless loop": ("def f():\n    while True: pass", Outcome.TIMEOUT),
    "endless loop that catches": (
        "def f():\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        Outcome.TIMEOUT,
    ),
    "ignored signals": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except Exception: pass\n"
        "def f():\n    while True: pass",
        Outcome.TIMEOUT,
    ),
    "sleep": ("import time\ndef f(): time.sleep(99)", Outcome.TIMEOUT),
    "memory": ("def f(): return len([0] * 10**9)", Outcome.MEMORY),
    "threads without end": (
        "import threading, time\ndef f():\n    while True:\n"
        "        try: threading.Thread(target=time.sleep, args=(99,)).start()\n"
        "        except RuntimeError: pass",
        None,
    ),
    "stack": ("import sys\nsys.setrecursionlimit(10**9)\ndef f(): return [f()]", None),
    "stack of C": (
        "def f():\n    x = []\n    for _ in range(10**6): x = [x]\n    return repr(x) and x == x.copy()",
        None,
    ),
    "kill of itself": ("import os\ndef f(): os.kill(0, 9); os.kill(-1, 9); os.kill(1, 9); os._exit(1)", None),
    "abort": ("import os\ndef f(): os.abort()", Outcome.CRASHED),
    "wild pointer": ("import ctypes\ndef f(): ctypes.memset(8, 1, 9)", Outcome.CRASHED),
    "own CPU limit": (
        "import resource as r\ndef f():\n    r.setrlimit(r.RLIMIT_CPU, (1, 1))\n    while True: pass",
        Outcome.CRASHED,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_it_ends(sandbox, name):
    source, outcome = ENDS[name]
    begin = time.monotonic()
    got = attempt(sandbox, source, SHORT if outcome is Outcome.TIMEOUT else LIMITS)
    assert isinstance(got, Outcome | CandidateRaised)
    assert outcome in (None, got)
    assert time.monotonic() - begin < 10


POISON = [
    "import builtins\nbuiltins.evil = 1\nbuiltins.len = lambda x: 0\ndef f(): return 1",
    "import json, math\njson.dumps = math.sqrt = lambda *a, **k: 'evil'\ndef f(): return 1",
    "import os\nos.environ['evil'] = '1'\ndef f(): return 1",
    "open('evil', 'w').write('x')\nimport os\nos.makedirs('a/b/c')\nos.chmod('a', 0)\ndef f(): return 1",
    "import sys\nfor name in list(sys.modules):\n    if name not in ('sys',): del sys.modules[name]\ndef f(): return 1",
    "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\ndef f(): return 1",
    "import atexit, os\natexit.register(open, 'evil', 'w')\ndef f(): return 1",
    "import gc\nfor o in gc.get_objects():\n    if type(o) is dict and 'encode' in o: o['evil'] = 1\ndef f(): return 1",
    "import ctypes, sys\nctypes.c_int.from_address(id(257)).value += 1\ndef f(): return 1",
    "import fcntl, os\nfd = os.open(os.__file__, os.O_RDONLY)\nfcntl.flock(fd, fcntl.LOCK_EX)\ndef f(): return 1",
    "import os\nfor n in range(3000):\n    try: open(str(n), 'w').close()\n    except OSError: pass\ndef f(): return 1",
    "open('big', 'wb').write(bytes(60 * 2**20))\ndef f(): return 1",
]


@pytest.mark.parametrize("source", POISON)
def test_it_does_not_reach_the_next(sandbox, source):
    with sandbox.open(source) as candidate, contextlib.suppress(CandidateError):
        candidate.call("f")
    # the fixture looks at the next


def test_an_answer_before_the_question_is_none(sandbox):
    """Also where it is not seen before the question is sent: as it does not know its number."""
    early = "import os, threading, time\nthreading.Timer(0.2, os.write, (3, message(b'V', b'T'))).start()\n"
    source = MESSAGE + early + "def f(): time.sleep(9)"
    with sandbox.open(source) as candidate, pytest.raises(CandidateError, match="no answer"):
        candidate.call("f")


def test_a_forged_value_is_some_value(sandbox):
    forged = f"os.write(3, message(b'V', {encode(True)!r})); time.sleep(9)"
    source = MESSAGE + "import os, time\ndef f(): " + forged
    with sandbox.open("import os\ndef f(x): return x") as other:
        with sandbox.open(source) as candidate:
            assert candidate.call("f") is True
        assert other.call("f", ("unharmed",)) == "unharmed"


NEIGHBOURS = """
import os
def f():
    found = os.listdir('.')
    for n in range(2, 300):
        try:
            os.kill(n, 0)
            found.append(n)
        except OSError: pass
    return found
"""


def test_it_does_not_see_a_neighbour(sandbox):
    with sandbox.open("open('mine', 'w').write('x')"), sandbox.open(NEIGHBOURS) as candidate:
        assert candidate.call("f") == []


def test_a_late_answer_is_for_nobody(sandbox):
    source = textwrap.dedent("""
        import os, struct, threading, time
        def late():
            time.sleep(0.2)
            os.write(3, b'V' + struct.pack('!I', 5) + b'T\\0\\0\\0\\0')
        def f(): threading.Thread(target=late).start(); return 1
    """)
    with sandbox.open(source) as candidate:
        assert candidate.call("f") == 1
        time.sleep(0.5)
        with pytest.raises(CandidateError, match="is no answer"):
            candidate.call("f")
