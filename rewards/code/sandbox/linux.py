"""System calls that Python 3.11 has no function for. Runs inside the jail; standard library only."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import threading
from ctypes import c_char_p, c_int, c_long, c_uint32, c_ulong, c_void_p
from functools import cache

_libc = ctypes.CDLL(None, use_errno=True)
_locked = ctypes.PyDLL(None, use_errno=True)  # its calls keep the interpreter's lock

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV = 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x200000, 0x1000000
_NR_CLONE = {"x86_64": 56, "aarch64": 220}
_NR_CAPSET = {"x86_64": 126, "aarch64": 91}
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_libc.mount.argtypes = [c_char_p, c_char_p, c_char_p, c_ulong, c_char_p]
_locked.syscall.restype = c_long
_libc.prctl.argtypes = [c_int, c_ulong, c_ulong, c_ulong, c_ulong]
_libc.syscall.restype = c_long
MACHINE = platform.machine()


def syscall(number: int, *arguments: int | ctypes.Array | bytes | None) -> int:
    """Call the kernel.

    Raises:
        OSError: What it refused with.
    """
    converted = [c_long(a) if isinstance(a, int) else c_void_p(a) if a is None else a for a in arguments]
    return check(_libc.syscall(c_long(number), *converted))


def check(result: int) -> int:
    """Return a result that is not negative.

    Raises:
        OSError: From errno.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fork(namespaces: int) -> int:
    """Fork, the child in new namespaces: one process where `unshare` needs two, as only its children change.

    The C library keeps the number of each thread; the kernel writes the child's there, as for the library's own fork.

    Raises:
        OSError: If the kernel refuses.
    """
    if MACHINE not in _NR_CLONE:
        return os.fork()
    flags = namespaces | _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID | signal.SIGCHLD
    where = _thread_number()
    places = (0, where, 0) if MACHINE == "x86_64" else (0, 0, where)
    _locked.PyOS_BeforeFork()
    pid = _locked.syscall(*(c_long(n) for n in (_NR_CLONE[MACHINE], flags, 0, *places)))
    if pid == 0:
        _locked.PyOS_AfterFork_Child()
    else:
        _locked.PyOS_AfterFork_Parent()
    return check(pid)


@cache
def _thread_number() -> int:
    """Return the address at which the C library keeps this thread's number, in its record of the thread."""
    record = threading.get_ident()
    words = (c_uint32 * 512).from_address(record)
    found = [index for index, word in enumerate(words) if word == threading.get_native_id()]
    if len(found) != 1:
        raise OSError(0, f"the C library's record of a thread has its number {len(found)} times")
    return record + 4 * found[0]


def mount_tmpfs(where: str, options: str) -> None:
    """Mount an empty file system in memory."""
    check(_libc.mount(b"tmpfs", where.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()))


def prctl(option: int, value: int) -> None:
    """Call prctl with one value."""
    check(_libc.prctl(option, value, 0, 0, 0))


def drop_capabilities() -> None:
    """Give up all capabilities of this thread: effective, permitted and inheritable."""
    header = (c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    syscall(_NR_CAPSET[MACHINE], header, (c_uint32 * 6)())
