"""What a user of the sandbox sees of it beside the sandbox: limits, results and errors."""

from __future__ import annotations

from dataclasses import dataclass, field

from rewards.base import Outcome


@dataclass(frozen=True)
class Limits:
    """What one completion may take, all its calls together.

    Attributes:
        cpu_seconds: CPU time of all its threads, its source's execution included.
        wall_seconds: Time during which the program waits for it. The program's own work between two calls, the start
            of the process, and the time in which it is ready to run and other processes have the cores, do not count.
        memory_bytes: Address space beyond what the interpreter has taken. Files in scratch may hold a quarter more.
        output_bytes: What is kept of its standard output; more is read and forgotten.
        value_bytes: One encoded value.
    """

    cpu_seconds: float = 5.0
    wall_seconds: float = 10.0
    memory_bytes: int = 512 * 2**20
    output_bytes: int = 2**20
    value_bytes: int = 2**24

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1e6:
                raise ValueError(f"{name} must be a number of seconds, more than 0 and at most 1e6, not {value!r}")
        for name in ("memory_bytes", "output_bytes", "value_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31 * 2**20:
                raise ValueError(f"{name} must be a whole number of bytes, at least 1, not {value!r}")
        if self.value_bytes >= 2**32:
            raise ValueError(f"value_bytes must be less than 2**32, not {self.value_bytes!r}")


@dataclass(frozen=True)
class ProgramResult:
    """What a program did that ended by itself.

    Attributes:
        stdout: What it printed, cut at `Limits.output_bytes`; bytes that are no UTF-8 are surrogates.
        exit_code: 0, what it gave to `sys.exit`, or 1 after an exception.
        cpu_seconds: CPU time that it took, its process's start included.
        wall_seconds: Time that counted against its wall limit.
    """

    stdout: str
    exit_code: int
    cpu_seconds: float = field(default=0.0, compare=False)
    wall_seconds: float = field(default=0.0, compare=False)


class CandidateError(Exception):
    """The candidate's process has ended, or its source is no Python. There is nothing more to ask of it.

    Attributes:
        outcome: `TIMEOUT`, `MEMORY`, `CRASHED`, `FORBIDDEN` or `SYNTAX_ERROR`.
    """

    def __init__(self, outcome: Outcome, message: str = "") -> None:
        super().__init__(message or str(outcome))
        self.outcome = outcome


class CandidateRaised(Exception):
    """The candidate's function raised, or returned what is no plain data; its process goes on.

    Attributes:
        type_name: The exception's type; "Unencodable" where the value is no plain data.
        message: Its message, shortened.
        forbidden: Whether it came from something that the jail denies.
    """

    def __init__(self, type_name: str, message: str, forbidden: bool = False) -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message
        self.forbidden = forbidden


class SandboxFault(RuntimeError):
    """The sandbox itself is at fault; it says nothing about the candidate."""


class WeakSandbox(RuntimeError):
    """A layer of the sandbox is missing on this machine."""
