"""Compile a C++ source of this package into a library of PyTorch operators, once for a machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

# a compiler takes some ten; one that hangs must not hold up a run for ever
_SECONDS = 300


class CannotBuild(RuntimeError):
    """There is no compiler, or it failed; the message says which and how."""


def built_library(source: Path, flags: list[str]) -> Path:
    """The library made from a source: that of an earlier call, or compiled now, which takes some ten seconds.

    It lies where PyTorch keeps its extensions: `TORCH_EXTENSIONS_DIR`, or else the user's cache (`XDG_CACHE_HOME`).
    Processes that compile at the same time do not wait for each other, and none ever sees half of a file.

    Args:
        source: One file; it may include PyTorch's headers.
        flags: For the compiler, besides those that every library needs. `CXX` names it, by default `c++`.

    Raises:
        CannotBuild: There is no compiler, it failed, or there is nowhere to write.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise CannotBuild(f"there is no C++ compiler {os.environ.get('CXX', 'c++')!r}")
    home = Path(torch.__file__).parent
    include = home / "include"
    command = [
        *(compiler, str(source), "-O3", "-std=c++20", "-fPIC", "-shared", "-fopenmp", *flags),
        *("-isystem", str(include), "-isystem", str(include / "torch" / "csrc" / "api" / "include")),
        *(f"-L{home / 'lib'}", "-ltorch_cpu", "-ltorch", "-lc10"),
    ]
    text = source.read_text(encoding="utf-8")
    key = hashlib.sha256("\0".join([text, torch.__version__, *command]).encode()).hexdigest()
    library = _cache() / f"{source.stem}-{key[:20]}.so"
    if library.exists():
        return library
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            done = subprocess.run(
                [*command, "-o", str(made)],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_SECONDS,
            )
            if done.returncode != 0:
                raise CannotBuild(f"{compiler} failed:\n{done.stderr.strip()[-2000:]}")
            made.replace(library)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{library} cannot be made: {error}") from error
    return library


def _cache() -> Path:
    extensions = os.environ.get("TORCH_EXTENSIONS_DIR")
    if extensions:
        return Path(extensions) / "llm_envs"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm_envs"
