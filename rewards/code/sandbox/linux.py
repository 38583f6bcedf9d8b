"""System calls that Python 3.11 has no function for. Runs inside the jail; standard library only."""

from __future__ import annotations

import ctypes
import os
import platform
from ctypes import c_char_p, c_int, c_long, c_uint32, c_ulong, c_void_p

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV = 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
_NR_CAPSET = {"x86_64": 126, "aarch64": 91}
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_libc.mount.argtypes = [c_char_p, c_char_p, c_char_p, c_ulong, c_char_p]
_libc.unshare.argtypes = [c_int]
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


def unshare(flags: int) -> None:
    """Leave namespaces."""
    check(_libc.unshare(flags))


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
