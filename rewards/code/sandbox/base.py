"""What the checker needs of a sandbox (interface only)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rewards.base import Outcome


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may take."""

    cpu_seconds: float = 5.0
    wall_seconds: float = 10.0
    memory_bytes: int = 512 * 2**20
    output_bytes: int = 2**20
    value_bytes: int = 2**22


class CandidateError(Exception):
    """The program ended before it answered."""

    def __init__(self, outcome: Outcome, message: str = "") -> None:
        super().__init__(message or outcome.value)
        self.outcome = outcome


class CandidateRaised(Exception):
    """The function raised."""

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.message = message


class SandboxFault(RuntimeError):
    """The sandbox itself failed; no program is to blame."""


class WeakSandbox(RuntimeError):
    """This machine has no strong sandbox."""


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """What a program printed, and its exit code."""

    stdout: str
    exit_code: int


class Candidate:
    """A program in its jail."""

    stdout = ""

    def call(self, function: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Call a function of the program."""
        raise NotImplementedError

    def close(self) -> None:
        """End the program."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Sandbox:
    """Runs programs."""

    def __init__(self, *, mode: str = "zygote", limits: Limits | None = None, allow_weak: bool = False) -> None:
        raise WeakSandbox("the sandbox is not built yet")

    def open(self, source: str, *, limits: Limits | None = None) -> Candidate:
        """Run a program's top level, and keep it for calls."""
        raise NotImplementedError

    def run_program(self, source: str, stdin: str, *, limits: Limits | None = None) -> ProgramResult:
        """Run a program from its standard input to its standard output."""
        raise NotImplementedError

    def close(self) -> None:
        """End all processes."""
