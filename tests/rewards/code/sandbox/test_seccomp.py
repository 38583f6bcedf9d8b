"""The filter of system calls, interpreted as the kernel does, for both machines."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from rewards.code.sandbox import linux, seccomp

ALLOW, DENY, ABSENT, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
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


def test_each_number_has_its_rule(machine):
    program = seccomp.program()
    arch, clone, clone3, *some = seccomp._NUMBERS[machine]
    denied = {numbers[column(machine)] for numbers in seccomp._DENIED.values()} - {None}
    for number in range(seccomp._NEWEST + 100):
        result = run(program, arch, number)
        if number > seccomp._NEWEST or number == clone3:
            assert result == ABSENT, number
        elif number in denied or number in (clone, some[2]):  # of no thread; a socket pair of family 0
            assert result == DENY, number
        else:
            assert result == ALLOW, number


@pytest.mark.parametrize(
    ("call", "arguments", "result"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # what the C library starts a thread with
        ("clone", (17,), DENY),
        ("clone", (0x10000 | 0x10000000,), DENY),
        ("clone", (0x10000 | 0x80,), DENY),  # time namespace
        ("fcntl", (0, 1), ALLOW),
        ("fcntl", (0, 4), ALLOW),  # F_SETFL
        ("fcntl", (0, 8), DENY),  # whom a descriptor signals, and with what
        ("fcntl", (0, 10), DENY),
        ("fcntl", (0, 15), DENY),
        ("fcntl", (0, 1024), DENY),
        ("fcntl", (0, 1026), DENY),
        ("prctl", (15,), ALLOW),
        ("prctl", (1,), DENY),
        ("prctl", (22,), DENY),
        ("socketpair", (1,), ALLOW),
        ("socketpair", (2,), DENY),
    ],
)
def test_arguments(machine, call, arguments, result):
    arch, clone, _, fcntl, prctl, socketpair = seccomp._NUMBERS[machine]
    number = {"clone": clone, "fcntl": fcntl, "prctl": prctl, "socketpair": socketpair}[call]
    assert run(seccomp.program(), arch, number, *arguments) == result


def test_another_architecture_is_killed(machine):
    program = seccomp.program()
    arch = seccomp._NUMBERS[machine][0]
    for other in (0x40000003, 0xC000003E, 0xC00000B7, 0):
        assert (run(program, other, 39) == KILL) == (other != arch)
    assert run(program, arch, 0x40000000 + 57) == ABSENT  # x32


def test_numbers_are_those_of_the_kernel(machine):
    file, pattern = HEADERS[machine]
    if not Path(file).is_file():
        pytest.skip(f"{file} is not installed")
    kernel = {name: int(number) for name, number in re.findall(pattern, Path(file).read_text("utf-8"))}
    ours = {name: numbers[column(machine)] for name, numbers in (seccomp._DENIED | linux._NUMBERS).items()}
    assert {name: kernel.get(name) for name in ours} == ours
    _, *numbers = seccomp._NUMBERS[machine]
    assert [kernel[name] for name in ("clone", "clone3", "fcntl", "prctl", "socketpair")] == numbers
