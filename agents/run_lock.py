"""One process at a time in a run folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks; there, nothing is refused
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Errors of file systems that have no locks; there, nothing is refused."""
_held: set[Path] = set()
"""Folders that this process has locked: the system's locks are between processes."""


class RunInUse(RuntimeError):
    """Another process works in the folder."""


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for this lock out of a folder, which is made if it is missing.

    The system holds the lock and lets go of it when the process ends, by `kill -9` too; a forked child does not inherit
    it. The file `.lock` says who has it and is removed at the end; one that was left behind locks nothing.

    Args:
        folder: The run folder.

    Raises:
        RunInUse: Another process has the lock; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if folder in _held:
        raise RunInUse(f"this process already works in {folder}")
    file = _locked_file(folder / LOCK_FILE)
    _held.add(folder)
    try:
        owner = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        file.truncate(0)
        file.write(json.dumps(owner))
        file.flush()
        yield
    finally:
        _held.discard(folder)
        with contextlib.suppress(FileNotFoundError):  # somebody has deleted the folder
            (folder / LOCK_FILE).unlink()
        file.close()


def _locked_file(path: Path) -> IO[str]:
    """Open the file and lock it.

    Raises:
        RunInUse: Another process has the lock.
    """
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise RunInUse(f"{path.parent} is in use by {_owner(file)}; wait until it ends, or end it") from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        with contextlib.suppress(FileNotFoundError):
            # not opened again to compare: closing any file object of it would unlock it
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()  # who had the lock has removed the file meanwhile: this one is nobody's


def _owner(file: IO[str]) -> str:
    """Who wrote the file."""
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):  # it has not been written yet
        return "another process"
