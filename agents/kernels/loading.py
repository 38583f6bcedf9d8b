"""Make C++ operators available to a process, or say once why they are not."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from agents.kernels.build import built_library

_log = logging.getLogger(__name__)

_VECTOR_FLAGS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
    "AVX2": ["-mavx2", "-mfma", "-mf16c"],
}


def vector_flags() -> list[str] | None:
    """The flags that compile `at::vec::Vectorized` for this CPU, as PyTorch uses it; None: neither AVX-512 nor AVX2."""
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in _VECTOR_FLAGS:
        return None
    return [*_VECTOR_FLAGS[capability], f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"]


def load_operators(name: str, source: Path, flags: list[str], variable: str, check: Callable[[], None]) -> bool:
    """Compile operators if need be, load and check them; returns whether they can be used.

    Args:
        name: For the log.
        source: See `built_library`.
        flags: See `built_library`.
        variable: Of the environment; 0 turns the operators off.
        check: Called when they are loaded, raises a `RuntimeError` if they do not work. Whatever the caller computes
            in, it is called without gradient and autocast.
    """
    if os.environ.get(variable) == "0":
        return False
    try:
        begin = time.perf_counter()
        torch.ops.load_library(built_library(source, flags))
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
            check()
    except (RuntimeError, OSError) as error:
        _log.warning("%s: not available, PyTorch's operators are used instead: %s", name, error)
        return False
    _log.info("%s: ready in %.1f s", name, time.perf_counter() - begin)
    return True
