from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from agents import hardware
from agents.hardware import recommended_threads, resolve_device, use_default_threads, use_threads

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


@pytest.mark.parametrize(
    ("on_host", "variables", "threads"),
    [
        (8, {"LOCAL_WORLD_SIZE": "4"}, 2),
        (8, {"LOCAL_WORLD_SIZE": "3"}, 2),
        (2, {"LOCAL_WORLD_SIZE": "8"}, 1),
        (8, {"LOCAL_WORLD_SIZE": "1"}, 8),
        (8, {"LOCAL_WORLD_SIZE": "4", "SLURM_CPUS_ON_NODE": "8"}, 2),
        (2, {"LOCAL_WORLD_SIZE": "4", "SLURM_CPUS_ON_NODE": "8"}, 2),  # each was bound to cores of its own
    ],
)
def test_processes_of_one_host_share_its_cores(monkeypatch, on_host, variables, threads):
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hardware, "_available_cores", lambda: on_host)
    assert recommended_threads(135_000_000) == threads


@pytest.fixture
def three_cores(monkeypatch):
    """A machine whose torch has chosen three threads by itself; its own number is put back afterwards."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(hardware, "_available_cores", lambda: 3)
    monkeypatch.setattr(hardware, "_last_set", None)
    monkeypatch.setattr(hardware, "_THREADS_AT_START", 3)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


SMALL, LARGE = 700_000, 135_000_000


def test_each_model_gets_its_own_number_until_somebody_chooses_one(three_cores):
    found = []
    for model in (SMALL, LARGE, SMALL):
        use_default_threads(model)
        found.append(torch.get_num_threads())
    assert found == [2, 3, 2]
    torch.set_num_threads(7)
    use_default_threads(LARGE)
    assert torch.get_num_threads() == 7


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_a_number_that_was_asked_for_stays(three_cores, threads):
    """One of torch's own choices as well: `--threads 3` on three cores."""
    assert use_threads(threads, SMALL) == threads
    for model in (SMALL, LARGE):
        use_default_threads(model)
        assert torch.get_num_threads() == threads


def test_a_number_set_before_the_package_is_loaded_stays():
    code = (
        "import torch; torch.set_num_threads(97)\n"
        "from agents.hardware import use_default_threads\n"
        "use_default_threads(1000); print(torch.get_num_threads())"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=clean)
    assert found.stdout == "97\n"


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
