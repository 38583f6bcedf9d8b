"""The filter of system calls, interpreted as the kernel does, for both machines."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from rewards.code.sandbox import linux, seccomp

ALLOW, NOTHING, KILL = 0x7FFF0000, 0x00050000, 0x80000000
DENY, ABSENT, AGAIN, NO_TERMINAL = (
    0x00050000 | code for code in (errno.EPERM, errno.ENOSYS, errno.EAGAIN, errno.ENOTTY)
)
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define\s+__NR_(\w+)\s+(\d+)"),
    "aarch64": ("/usr/include/asm-generic/unistd.h", r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)"),
}
MACHINES = tuple(HEADERS)


@pytest.fixture(params=MACHINES)
def machine(request, monkeypatch):
    monkeypatch.setattr(linux, "MACHINE", request.param)
    return request.param


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do (linux/filter.h: classic BPF on struct seccomp_data)."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    code = [struct.unpack("<HBBI", program[i : i + 8]) for i in range(0, len(program), 8)]
    at = value = 0
    for _ in range(len(code)):
        kind, yes, no, k = code[at]
        at += 1
        if kind == 0x20:
            value = struct.unpack_from("<I", data, k)[0]
        elif kind == 0x05:
            at += k
        elif kind == 0x54:
            value &= k
        elif kind == 0x06:
            return k
        else:
            at += yes if {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[kind] else no
    raise AssertionError("the filter does not end")


def column(machine):
    return MACHINES.index(machine)


def numbers(table, machine):
    """The numbers of a table's calls, by name."""
    return {name: row[column(machine)] for name, row in table.items() if row[column(machine)] is not None}


def test_each_number_has_its_rule(machine):
    program = seccomp.program()
    arch = seccomp._ARCHITECTURES[machine]
    rules = {
        **dict.fromkeys(numbers(seccomp._DENIED, machine).values(), DENY),
        **dict.fromkeys(numbers(seccomp._WITHOUT_EFFECT, machine).values(), NOTHING),
        **dict.fromkeys(numbers(seccomp._MISSING, machine).values(), ABSENT),
    }
    by_arguments = set(numbers(seccomp._BY_ARGUMENTS, machine).values())
    assert not by_arguments & set(rules)
    for number in range(seccomp._NEWEST + 100):
        if number not in by_arguments:
            expected = ABSENT if number > seccomp._NEWEST else rules.get(number, ALLOW)
            assert run(program, arch, number) == expected, number


def test_no_call_has_two_rules(machine):
    tables = (seccomp._DENIED, seccomp._WITHOUT_EFFECT, seccomp._MISSING, seccomp._BY_ARGUMENTS)
    found = [number for table in tables for number in numbers(table, machine).values()]
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("call", "arguments", "result"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # what the C library starts a thread with
        ("clone", (17,), DENY),
        ("clone", (0x3D0F00 & ~0x400,), DENY),  # a thread with descriptors of its own
        ("clone", (0x400 | 17,), DENY),  # a process that shares them
        ("close_range", (3, 1000, 0), ALLOW),
        ("close_range", (3, 1000, 4), ALLOW),  # CLOSE_RANGE_CLOEXEC
        ("close_range", (3, 1000, 2), DENY),  # CLOSE_RANGE_UNSHARE
        ("close_range", (3, 1000, 6), DENY),
        ("clone", (0x10000 | 0x10000000,), DENY),
        ("clone", (0x10000 | 0x80,), DENY),  # time namespace
        ("clone", (0x3D0F00 | 0x1000,), DENY),  # CLONE_PIDFD
        ("fcntl", (0, 1), ALLOW),
        ("fcntl", (0, 4), ALLOW),  # F_SETFL
        ("fcntl", (0, 8), DENY),  # whom a descriptor signals, and with what
        ("fcntl", (0, 10), DENY),
        ("fcntl", (0, 15), DENY),
        ("fcntl", (0, 1024), DENY),
        ("fcntl", (0, 1026), DENY),
        ("fcntl", (0, 1031), DENY),  # F_SETPIPE_SZ
        ("fcntl", (0, 1032), ALLOW),
        ("fcntl", (0, 1036), DENY),  # hints of an inode
        ("fcntl", (0, 1038), DENY),
        ("fcntl", (0, 5), ALLOW),  # F_GETLK
        ("fcntl", (0, 6), NOTHING),  # locks
        ("fcntl", (0, 7), NOTHING),
        ("fcntl", (0, 37), NOTHING),
        ("fcntl", (0, 38), NOTHING),
        ("ioctl", (0, 0x5401), ALLOW),  # is it a terminal?
        ("ioctl", (0, 0x5421), ALLOW),  # FIONBIO
        ("ioctl", (0, 0x5412), NO_TERMINAL),  # TIOCSTI
        ("ioctl", (0, 0x8901), NO_TERMINAL),  # FIOSETOWN
        ("ioctl", (0, 0x80045200), NO_TERMINAL),  # RNDGETENTCNT
        ("futex", (0, 128), ALLOW),
        ("futex", (0, 128 | 9 | 256), ALLOW),
        ("futex", (0, 1), ALLOW),  # nobody waits
        ("futex", (0, 0), AGAIN),
        ("futex", (0, 9), AGAIN),
        ("futex", (0, 9 | 256), AGAIN),
        ("futex", (0, 11), AGAIN),
        ("mmap", (0, 4096, 3, 0x22), ALLOW),
        ("mmap", (0, 4096, 3, 0x40022), DENY),  # MAP_HUGETLB
        ("madvise", (0, 4096, 4), ALLOW),
        ("madvise", (0, 4096, 14), NOTHING),  # MADV_HUGEPAGE
        ("madvise", (0, 4096, 21), NOTHING),  # MADV_PAGEOUT
        ("madvise", (0, 4096, 25), DENY),  # MADV_COLLAPSE
        ("preadv2", (0, 0, 0, 0, 0, 0), ALLOW),
        ("preadv2", (0, 0, 0, 0, 0, 8), DENY),  # RWF_NOWAIT
        ("pwritev2", (0, 0, 0, 0, 0, 8), DENY),
        ("sendto", (3, 1, 1, 0, 0, 0), ALLOW),
        ("sendto", (3, 1, 1, 0, 0x1000, 9), DENY),
        ("sendto", (3, 1, 1, 0, 1 << 40, 9), DENY),
        ("getsockopt", (3, 1, 3), ALLOW),
        ("getsockopt", (3, 1, 4), ALLOW),  # SO_ERROR
        ("getsockopt", (3, 1, 39), ALLOW),  # SO_DOMAIN
        ("getsockopt", (3, 1, 57), DENY),  # SO_COOKIE
        ("getsockopt", (3, 1, 71), DENY),  # SO_NETNS_COOKIE
        ("getsockopt", (3, 1, 77), DENY),  # SO_PEERPIDFD
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), DENY),
        ("prctl", (22,), DENY),
        ("prctl", (4,), DENY),  # PR_SET_DUMPABLE
        ("prctl", (41,), DENY),  # PR_SET_THP_DISABLE
        ("prctl", (78,), DENY),  # PR_FUTEX_HASH
        ("prctl", (0x53564D41,), ALLOW),  # names of memory
        ("socketpair", (1,), ALLOW),
        ("socketpair", (2,), DENY),
    ],
)
def test_arguments(machine, call, arguments, result):
    number = seccomp._BY_ARGUMENTS[call][column(machine)]
    assert run(seccomp.program(), seccomp._ARCHITECTURES[machine], number, *arguments) == result


def test_another_architecture_is_killed(machine):
    program = seccomp.program()
    arch = seccomp._ARCHITECTURES[machine]
    for other in (0x40000003, 0xC000003E, 0xC00000B7, 0):
        assert (run(program, other, 39) == KILL) == (other != arch)
    assert run(program, arch, 0x40000000 + 57) == ABSENT  # x32


def test_numbers_are_those_of_the_kernel(machine):
    file, pattern = HEADERS[machine]
    if not Path(file).is_file():
        pytest.skip(f"{file} is not installed")
    kernel = {name: int(number) for name, number in re.findall(pattern, Path(file).read_text("utf-8"))}
    tables = (seccomp._DENIED, seccomp._WITHOUT_EFFECT, seccomp._MISSING, seccomp._BY_ARGUMENTS, linux._NUMBERS)
    ours = {name: row[column(machine)] for table in tables for name, row in table.items()}
    newer = {"futex_wake", "futex_wait", "futex_requeue", "cachestat"} - set(kernel)  # than the installed headers
    assert {name: kernel.get(name) for name in set(ours) - newer} == {name: ours[name] for name in set(ours) - newer}
