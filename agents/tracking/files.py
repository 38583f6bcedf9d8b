"""Files that are whole or not there, whenever the process that writes them is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

NEW = ".new"
"""Ends the name of what is being written; a later write replaces what a killed process left."""


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Write to the path that this gives; the written file replaces `file` when the block ends without an error.

    Args:
        file: Keeps its old content until then. Missing folders above it are made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(file.name + NEW)
    try:
        yield fresh
        sync(fresh)
        os.replace(fresh, file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_text(file: Path, text: str) -> None:
    """As `Path.write_text`, in UTF-8: the file has its old content or all of the new one."""
    with replacing(file) as fresh:
        fresh.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Let the content of a file, or the names in a folder, reach the disk, so that they survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
