"""Which device and how many threads a run uses."""

from __future__ import annotations

import os

import torch

_SMALL_MODEL = 10_000_000


def resolve_device(device: str) -> torch.device:
    """The device that a name stands for; `"auto"` is CUDA where there is a GPU, else the CPU.

    Raises:
        ValueError: The device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu' or 'cuda'") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")
    return resolved


def recommended_threads(num_parameters: int) -> int:
    """How many CPU threads to compute with.

    One for models of less than ten million parameters: their matrices are so small that threads spend their time
    waiting for each other (on a busy two-core machine two threads were measured eight times slower). Else one per core
    that this process may use.
    """
    if num_parameters < _SMALL_MODEL:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
