"""What an audit says: a row for each property, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

EXAMPLE_CHARACTERS = 100
"""How much of a completion a row shows."""


class AuditFailed(ValueError):
    """A task's reward does not hold; the message is the audit's report."""


class Verdict(StrEnum):
    """What became of one property of a task."""

    PASS = "pass"
    WARN = "warn"
    """Nothing is certainly wrong, but the author should know."""
    FAIL = "fail"
    SKIP = "skip"
    """The property does not apply, or could not be tried; the detail says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One property of a task.

    Attributes:
        name: What was tried.
        verdict: What became of it.
        detail: Counts and figures.
        example: A completion (or prompt) that shows it; the offending one where there is one.
    """

    name: str
    verdict: Verdict
    detail: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The audit of one task; `print` shows it as text.

    Attributes:
        task: The task's id.
        kwargs: The arguments it was audited with.
        problems: How many problems were attacked.
        seed: Names them.
        rows: One for each property, in the order of docs/audit.md.
    """

    task: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    problems: int = 0
    seed: int = 0
    rows: tuple[Row, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows that failed."""
        return tuple(row for row in self.rows if row.verdict is Verdict.FAIL)

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            KeyError: There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {[row.name for row in self.rows]}")

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "task": self.task,
            "kwargs": {name: repr(value) for name, value in self.kwargs.items()},
            "problems": self.problems,
            "seed": self.seed,
            "passed": self.passed,
            "rows": [asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows) if self.rows else 0
        lines = [f"{self.task} {dict(self.kwargs) or ''}".rstrip() + f": {'passed' if self.passed else 'FAILED'}"]
        for row in self.rows:
            lines.append(
                f"{row.verdict:<4}  {row.name:<{width}}  {row.detail}" + f": {row.example}" * bool(row.example)
            )
        return "\n".join(lines)


def shown(text: str) -> str:
    """A text as a row shows it: one line, ASCII, cut in the middle where it is long."""
    if len(text) > EXAMPLE_CHARACTERS:
        half = EXAMPLE_CHARACTERS // 2
        return f"{text[:half]!a} ... {text[-half // 2 :]!a} ({len(text):,} characters)"
    return ascii(text)
