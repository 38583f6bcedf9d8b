from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from agents.hardware import recommended_threads, resolve_device

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("parameters", "policy", "threads"),
    [
        (700_000, "passive", min(2, CORES)),
        (700_000, "PASSIVE", min(2, CORES)),
        (700_000, "active", 1),
        (700_000, None, 1),
        (135_000_000, None, CORES),
    ],
)
def test_threads_go_by_the_models_size_and_by_how_threads_wait(monkeypatch, parameters, policy, threads):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    assert recommended_threads(parameters) == threads


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="'abacus'"):
        resolve_device("abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_gpu_says_so():
    with pytest.raises(ValueError, match="no CUDA device"):
        resolve_device("cuda")


_FAULTS = """
import resource, sys, torch
from agents.hardware import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for i in range(20):  # small allocations between them move the first ones on
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator's setting is glibc's")
def test_freed_memory_is_used_again():
    """In processes of their own: the setting lasts."""
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", _FAULTS, mode], check=True, capture_output=True, text=True).stdout
        )
        for mode in ("keep", "give back")
    }
    assert faults["keep"] < 100
    assert faults["give back"] > 10 * faults["keep"] + 10
