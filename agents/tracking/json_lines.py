"""Reading the JSON lines files of a run, whose last line may be cut."""

from __future__ import annotations

from pathlib import Path


def finished_lines(file: Path) -> list[str]:
    """The lines of a file, without the last one where a killed process has not written its end; none without a file."""
    if not file.exists():
        return []
    return [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
