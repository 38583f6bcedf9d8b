"""Where programs run (interface only)."""

from rewards.code.sandbox.base import (
    Candidate,
    CandidateError,
    CandidateRaised,
    Limits,
    ProgramResult,
    Sandbox,
    SandboxFault,
    WeakSandbox,
)

__all__ = [
    "Candidate",
    "CandidateError",
    "CandidateRaised",
    "Limits",
    "ProgramResult",
    "Sandbox",
    "SandboxFault",
    "WeakSandbox",
]
