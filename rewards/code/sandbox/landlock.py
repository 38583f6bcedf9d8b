"""Landlock: files may be read everywhere, written in one folder and in devices. Runs inside the jail."""

from __future__ import annotations

import os
import struct
from ctypes import create_string_buffer

from rewards.code.sandbox import linux

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on all architectures
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READ = _READ_FILE | _READ_DIR
# writing, removing, making: all rights up to each version of the interface
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    try:
        return linux.syscall(_CREATE, None, 0, 1)
    except OSError:
        return 0


def restrict(abi: int, scratch: str) -> None:
    """Let this process and its threads execute nothing, read all, and write only below `scratch` and to devices."""
    rights = _RIGHTS[min(abi, 5)]
    # network: no bind, no connect (version 4); scope: no abstract sockets, no signals to the outside (version 6)
    attributes = struct.pack("=QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = linux.syscall(_CREATE, create_string_buffer(attributes, 24), size, 0)
    try:
        # of devices there are few, and none keeps what is written to it
        for where, allowed in (("/", _READ), ("/dev", _READ | _WRITE_FILE), (scratch, rights & ~_EXECUTE)):
            path = os.open(where, os.O_PATH | os.O_CLOEXEC)
            try:
                # struct landlock_path_beneath_attr is packed
                linux.syscall(_ADD, ruleset, 1, create_string_buffer(struct.pack("=Qi", allowed, path), 12), 0)
            finally:
                os.close(path)
        linux.syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
