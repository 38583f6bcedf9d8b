"""The raw system calls of the jail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from rewards.code.sandbox import linux, wire

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these are Linux's")


def test_calls_are_made_each_time_they_are_asked_for():
    calls = linux.SystemCalls()
    reading, writing = os.pipe()
    calls.add("write", writing, b"abc", 3, result=3)
    calls.make()
    calls.make()
    assert os.read(reading, 100) == b"abcabc"
    os.close(reading)
    os.close(writing)


def test_what_the_kernel_refuses_is_an_error_that_names_the_call():
    calls = linux.SystemCalls()
    calls.add("getppid")
    calls.add("openat", linux.AT_FDCWD, b"/there/is/no/such/file", os.O_RDONLY, 0)
    with pytest.raises(FileNotFoundError, match="openat"):
        calls.make()
    with pytest.raises(OSError, match="close") as error:
        linux.syscall("close", 10**6)
    assert error.value.errno == errno.EBADF


def test_another_result_than_expected_is_an_error():
    calls = linux.SystemCalls()
    calls.add("getppid", result=0)
    with pytest.raises(OSError, match="getppid returned"):
        calls.make()


def test_an_unknown_machine_is_refused(monkeypatch):
    monkeypatch.setattr(linux, "MACHINE", "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        linux.number("close")


def test_a_jail_that_cannot_be_closed_is_a_fault_and_no_candidate_runs():
    program = """
import os, sys
from rewards.code.sandbox import child, linux
calls = linux.SystemCalls()
calls.add("chdir", b"/there/is/no/such/folder")
child.run(calls, 1000, os.open("/dev/null", os.O_RDWR), os.dup(1), int(sys.argv[1]))
"""
    reading, writing = os.pipe()
    done = subprocess.run([sys.executable, "-c", program, str(writing)], pass_fds=[writing], timeout=60, check=False)
    os.close(writing)
    status = os.read(reading, 2000)
    os.close(reading)
    assert done.returncode == 1
    assert wire.STATUS.unpack_from(status)[0] == wire.FAULT
    assert b"chdir: No such file" in status
