"""Which device and how many threads a run uses."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import torch

_SMALL_MODEL = 10_000_000
_THREADS_AT_START = torch.get_num_threads()
_last_set: tuple[int, bool] | None = None
"""The number of threads that `use_threads` has set, and whether it was asked for."""


class DeviceNotFound(ValueError):
    """The device that was asked for does not exist here."""


def resolve_device(device: str) -> torch.device:
    """The device that a name stands for; `"auto"` is CUDA where there is a GPU, else the CPU.

    Raises:
        DeviceNotFound: The device does not exist here.
        TypeError: It is no text.
    """
    if not isinstance(device, str):
        raise TypeError(f"device must be a text such as 'auto', 'cpu' or 'cuda', got {device!r}")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise DeviceNotFound(f"unknown device {device!r}; use 'auto', 'cpu' or 'cuda'") from error
    if resolved.type not in ("cpu", "cuda"):
        raise DeviceNotFound(f"device {device!r} is not supported; use 'auto', 'cpu' or 'cuda'")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise DeviceNotFound(f"device {device!r} was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")
    return resolved


def recommended_threads(num_parameters: int) -> int:
    """How many CPU threads to compute with: one per core of this process, but few for a small model.

    Several processes of one run on this host share its cores.

    The matrices of a model of less than ten million parameters are so small that more than two threads mostly wait for
    each other, and two gain only where waiting costs nothing. Measured with builtin/tiny on two cores: with
    `OMP_WAIT_POLICY=passive` (importing `agents` sets it) two threads take 0.65 of the time of one for an update, and
    the same time when a core is taken by other work; threads that spin instead were seen to cost eight times one
    thread.
    """
    cores = _own_cores()
    if num_parameters >= _SMALL_MODEL:
        return cores
    waits_passively = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
    return min(2, cores) if waits_passively else 1


def use_threads(threads: int | None, num_parameters: int) -> int:
    """Let torch compute with this many CPU threads, and the process keep the memory that it frees.

    The command line calls this, and an agent that is made on the CPU where nobody has chosen a number yet
    (`use_default_threads`).

    Args:
        threads: None takes the number in `OMP_NUM_THREADS`, or else `recommended_threads`.
        num_parameters: Of the model.

    Returns:
        The number that torch now has.
    """
    global _last_set
    keep_freed_memory()
    chosen = threads or _threads_in_environment() or recommended_threads(num_parameters)
    torch.set_num_threads(chosen)
    _last_set = (chosen, threads is not None)
    return chosen


def use_default_threads(num_parameters: int) -> None:
    """As `use_threads(None, ...)`, unless somebody has chosen torch's number of threads.

    That is, by an argument of `use_threads`, or by `torch.set_num_threads`: a number that torch would not choose by
    itself. What was chosen here for another model does not count: a large model after a small one gets its own number.
    """
    current = torch.get_num_threads()
    was_asked_for = _last_set == (current, True)
    was_chosen_here = _last_set == (current, False)
    is_torchs_own = current == _THREADS_AT_START and current in _choices_of_torch()
    if was_chosen_here or (is_torchs_own and not was_asked_for):
        use_threads(None, num_parameters)


def _threads_in_environment() -> int | None:
    """OMP_NUM_THREADS, which may also be a list by the level of nesting."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def _choices_of_torch() -> set[int]:
    """The numbers of threads that torch may have without being told: OMP_NUM_THREADS, or one for each core."""
    # cores that share a physical one count once, where the system tells
    physical = {file.read_text() for file in Path("/sys/devices/system/cpu").glob("cpu*/topology/thread_siblings_list")}
    cores = {_available_cores(), os.cpu_count() or 1, len(physical) if physical else _THREADS_AT_START}
    asked = _threads_in_environment()
    return cores if asked is None else {asked} | {min(asked, count) for count in cores}  # MKL takes no more than cores


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _own_cores() -> int:
    """The cores that this process may use, divided by the processes of its host where they share them.

    A launcher says how many there are. Slurm may have bound each to cores of its own, fewer than the job has here.
    """
    cores = _available_cores()
    is_bound = cores < int(os.environ.get("SLURM_CPUS_ON_NODE", 0))
    return cores if is_bound else max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def keep_freed_memory() -> bool:
    """Let this process reuse the memory it frees, instead of giving it back after each large tensor.

    glibc takes tensors of more than 32 MiB, and often smaller ones, from the system and gives them back when they are
    freed; the system then zeroes the pages of the next one. Measured in an update of SmolLM2-135M, in a virtual
    machine: 4 of 16 seconds. The process keeps its largest footprint from then on.

    Returns:
        Whether it took effect; it does not where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # from malloc.h: no block comes from mmap, the heap is not trimmed, and it grows by 64 MiB at a time
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    settings = ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**26))
    return all(mallopt(name, value) == 1 for name, value in settings)
