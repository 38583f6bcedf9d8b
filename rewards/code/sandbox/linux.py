"""System calls that Python 3.11 has no function for. Runs inside the jail; standard library only.

What every candidate does before its source runs is prepared once, as a list of raw calls: a forked process shares all
pages that it does not change, and as Python counts references inside its objects, using one changes it. Each page
that a candidate touches is copied for it, which costs more than most of the calls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import threading
from ctypes import POINTER, c_int, c_long, c_uint32
from functools import cache

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_THP_DISABLE = 1, 4, 38, 41
AT_FDCWD = -100
LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x200000, 0x1000000
MACHINE = platform.machine()
_NUMBERS = {
    # number on x86_64, number on aarch64
    "write": (1, 64),
    "close": (3, 57),
    "clone": (56, 220),
    "getppid": (110, 173),
    "chdir": (80, 49),
    "umask": (95, 166),
    "setsid": (112, 157),
    "capset": (126, 91),
    "prctl": (157, 167),
    "mount": (165, 40),
    "openat": (257, 56),
    "dup3": (292, 24),
    "prlimit64": (302, 261),
    "seccomp": (317, 277),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}

_kernel = ctypes.PyDLL(None)  # its calls keep the interpreter's lock: there is one thread
_kernel.syscall.argtypes = [c_long] * 7
_kernel.syscall.restype = c_long
_place_of_errno = _kernel["__errno_location"]
_place_of_errno.restype = POINTER(c_int)


def number(name: str) -> int:
    """Return the number of a system call.

    Raises:
        OSError: On a machine whose numbers are not known.
    """
    if MACHINE not in ("x86_64", "aarch64"):
        raise OSError(errno.ENOSYS, f"the numbers of system calls on {MACHINE} are not known")
    return _NUMBERS[name][MACHINE == "aarch64"]


class SystemCalls:
    """System calls, prepared once and made in every child."""

    def __init__(self) -> None:
        self._calls: list[tuple[tuple[int, ...], int, str]] = []
        self._buffers: list[ctypes.Array[ctypes.c_char]] = []

    def add(self, name: str, *arguments: int | bytes, result: int = -1) -> None:
        """Add a call.

        Args:
            name: Which.
            *arguments: Numbers, and bytes for a pointer to them.
            result: What it must return; by default anything but an error.
        """
        converted = [self._place_of(argument) if isinstance(argument, bytes) else argument for argument in arguments]
        padding = [0] * (6 - len(converted))  # the function takes as many as any call has
        self._calls.append(((number(name), *converted, *padding), result, name))

    def _place_of(self, data: bytes) -> int:
        self._buffers.append(ctypes.create_string_buffer(data))
        return ctypes.addressof(self._buffers[-1])

    def make(self) -> None:
        """Make the calls.

        Raises:
            OSError: If the kernel refuses one; those before it have been made.
        """
        for arguments, expected, name in self._calls:
            result = _kernel.syscall(*arguments)
            if result < 0:
                raise _error(name)
            if result != expected and expected >= 0:
                raise OSError(errno.EBADF, f"{name} returned {result} and not {expected}")


def syscall(name: str, *arguments: int) -> int:
    """Make one call that takes numbers, and return its result.

    Raises:
        OSError: If the kernel refuses.
    """
    result: int = _kernel.syscall(number(name), *arguments, *[0] * (6 - len(arguments)))
    if result < 0:
        raise _error(name)
    return result


def _error(name: str) -> OSError:
    code = _place_of_errno().contents.value
    return OSError(code, f"{name}: {os.strerror(code)}")


class Fork:
    """Forks, the child in new namespaces: one process where `unshare` needs two, as only its children change.

    The C library keeps the number of each thread; the kernel writes the child's there, as for the library's own fork.
    What Python does around a fork is left out: it mends locks that other threads may have held, and here there is one
    thread. Nor is the module `random` seeded anew.

    Raises:
        OSError: On a machine whose numbers are not known.
    """

    def __init__(self, namespaces: int) -> None:
        flags = namespaces | _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID | signal.SIGCHLD
        where = _thread_number()
        places = (0, where, 0) if MACHINE == "x86_64" else (0, 0, where)
        self._call = (number("clone"), flags, 0, *places, 0)

    def __call__(self) -> int:
        """Fork; return 0 in the child.

        Raises:
            OSError: If the kernel refuses.
        """
        pid: int = _kernel.syscall(*self._call)
        if pid < 0:
            raise _error("clone")
        return pid


@cache
def _thread_number() -> int:
    """Return the address at which the C library keeps this thread's number, in its record of the thread."""
    found = _places_of_number()
    size = threading.stack_size(2**16)
    for _ in range(10):
        if len(found) == 1:
            break
        # a small number, as that of process 1, is there more than once; other threads' records tell which is meant
        thread = threading.Thread(target=lambda: found.intersection_update(_places_of_number()))
        thread.start()
        thread.join()
    threading.stack_size(size)
    if len(found) != 1:
        raise OSError(0, f"the C library's record of a thread has its number {len(found)} times")
    return threading.get_ident() + found.pop()


def _places_of_number() -> set[int]:
    """Return where in the C library's record of this thread its number may be, in bytes from the record's beginning."""
    words = (c_uint32 * 512).from_address(threading.get_ident())
    return {4 * index for index, word in enumerate(words) if word == threading.get_native_id()}


def prctl(option: int, value: int) -> None:
    """Call prctl with one value."""
    syscall("prctl", option, value, 0, 0, 0)
