"""Landlock: files may be read everywhere, written in one folder and in devices. Runs inside the jail."""

from __future__ import annotations

import os
import struct

from rewards.code.sandbox import linux

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READ = _READ_FILE | _READ_DIR
# writing, removing, making: all rights up to each version of the interface
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    try:
        return linux.syscall("landlock_create_ruleset", 0, 0, 1)
    except OSError:
        return 0


def add_restriction(calls: linux.SystemCalls, abi: int, scratch: str, fd: int) -> None:
    """Let a process and its threads execute nothing, read all, and write only below `scratch` and to devices.

    Args:
        calls: What to add it to.
        abi: The version of the interface.
        scratch: The folder.
        fd: The lowest descriptor that is free then, and the next one.
    """
    rights = _RIGHTS[min(abi, 5)]
    # network: no bind, no connect (version 4); scope: no abstract sockets, no signals to the outside (version 6)
    attributes = struct.pack("=QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset, path = fd, fd + 1
    calls.add("landlock_create_ruleset", attributes, size, 0, result=ruleset)
    # of devices there are few, and none keeps what is written to it
    for where, allowed in (("/", _READ), ("/dev", _READ | _WRITE_FILE), (scratch, rights & ~_EXECUTE)):
        calls.add("openat", linux.AT_FDCWD, os.fsencode(where), os.O_PATH | os.O_CLOEXEC, 0, result=path)
        # struct landlock_path_beneath_attr is packed
        calls.add("landlock_add_rule", ruleset, 1, struct.pack("=Qi", allowed, path), 0)
        calls.add("close", path)
    calls.add("landlock_restrict_self", ruleset, 0)
    calls.add("close", ruleset)
