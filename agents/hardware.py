"""Which device and how many threads a run uses."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

_SMALL_MODEL = 10_000_000
_THREADS_AT_START = torch.get_num_threads()


class DeviceNotFound(ValueError):
    """The device that was asked for does not exist here."""


def resolve_device(device: str) -> torch.device:
    """The device that a name stands for; `"auto"` is CUDA where there is a GPU, else the CPU.

    Raises:
        DeviceNotFound: The device does not exist here.
    """
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
    """How many CPU threads to compute with: one per core that this process may use, but few for a small model.

    The matrices of a model of less than ten million parameters are so small that more than two threads mostly wait for
    each other, and two gain only where waiting costs nothing. Measured with builtin/tiny on two cores: with
    `OMP_WAIT_POLICY=passive` (importing `agents` sets it) two threads take 0.65 of the time of one for an update, and
    the same time when a core is taken by other work; threads that spin instead were seen to cost eight times one
    thread.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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
    keep_freed_memory()
    if threads is None and (given := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]).isdigit():
        threads = int(given)
    if threads is None:
        threads = recommended_threads(num_parameters)
    torch.set_num_threads(threads)
    return threads


def use_default_threads(num_parameters: int) -> None:
    """As `use_threads(None, ...)`, unless torch's number of threads was set since this module was loaded."""
    if torch.get_num_threads() == _THREADS_AT_START:
        use_threads(None, num_parameters)


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
