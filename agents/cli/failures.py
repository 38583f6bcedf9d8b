"""What the command line says of an error: one line, and for what a reward raised a traceback in a file."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import traceback
from pathlib import Path

import gymnasium

from agents.checkpoint import CheckpointError
from agents.cli.common import CheckFailed, UsageError
from agents.engines.vllm_server import ServerError
from agents.grpo.micro_batches import UpdateOutOfMemory
from agents.hardware import DeviceNotFound
from agents.policies import PolicyNotFound, PromptTooLong, UnsuitableTokenizer
from agents.run_lock import RunInUse
from llm_envs.scoring import RAISED_BY_REWARD

_MISTAKES = (
    UsageError,
    CheckpointError,
    DeviceNotFound,
    PolicyNotFound,
    PromptTooLong,
    UnsuitableTokenizer,
    RunInUse,
    gymnasium.error.Error,
    ImportError,
    OSError,  # a folder that cannot be written, a disk that is full
)
_NO_RIGHT = "you may not do that there: name another place, or have its rights changed"
_FULL = "make room; a run goes on from its last checkpoint with llm-envs train --resume --run-dir RUN"
_REMEDIES = {
    errno.ENOENT: "check the spelling",
    errno.EEXIST: "a file is where a folder is wanted: name another folder",
    errno.ENOTDIR: "a file is where a folder is wanted: name another folder",
    errno.EISDIR: "a folder is where a file is wanted: name the file",
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
}
"""What to do about what the operating system refuses."""
_SAVED = "The traceback is in "


def exit_code(error: Exception) -> int | None:
    """The exit code of an error of which one line says enough; None for a fault of ours.

    It is 2 for a mistake of the person at the keyboard, and 1 where the work itself failed.
    """
    if isinstance(error, CheckFailed | FloatingPointError | ServerError | UpdateOutOfMemory):
        return 1
    if _is_of_reward(error) or _is_lost_process(error):
        return 1
    return 2 if isinstance(error, _MISTAKES) else None


def _is_of_reward(error: Exception) -> bool:
    return any(note.startswith(RAISED_BY_REWARD) for note in _notes(error))


def _is_lost_process(error: Exception) -> bool:
    """Whether another process of the run has ended in the middle of what all of them do."""
    return isinstance(error, RuntimeError) and re.search(r"Connection (closed|reset) by peer", str(error)) is not None


def save_traceback(error: Exception, folder: Path | None = None) -> None:
    """Write the traceback of what a reward raised to a file, and note the place with the error, unless it was done.

    Args:
        error: The error; other errors need no file and get none.
        folder: Gets `traceback.txt`; by default a file of its own is made in the folder for temporary files.
    """
    if not _is_of_reward(error) or any(note.startswith(_SAVED) for note in _notes(error)):
        return
    text = "".join(traceback.format_exception(error))
    if folder is None:
        handle, name = tempfile.mkstemp(prefix="llm-envs-traceback-", suffix=".txt")
        os.close(handle)
        file = Path(name)
    else:
        file = folder / "traceback.txt"
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
    error.add_note(f"{_SAVED}{file}")


def one_line(error: Exception) -> str:
    """The message of an error; for what a reward raised, the type and the notes too."""
    if _is_lost_process(error):
        return "another process of this run has ended; its message says why"
    if not _is_of_reward(error):
        return _of_system(error) if isinstance(error, OSError) else str(error)
    parts = [f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, *_notes(error)]
    return ". ".join(" ".join(part.split()).rstrip(".") for part in parts)


def _of_system(error: OSError) -> str:
    """What the operating system refused, of which file, and what to do; the message of any other such error."""
    if error.errno is None or error.errno not in _REMEDIES:
        return str(error)
    place = "" if error.filename is None else f": {str(error.filename)!r}"
    return f"{error.strerror}{place}; {_REMEDIES[error.errno]}"


def _notes(error: Exception) -> list[str]:
    return getattr(error, "__notes__", [])
