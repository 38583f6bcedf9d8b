"""A jail for source that a model wrote: `Sandbox`."""

from rewards.code.sandbox.base import CandidateError, CandidateRaised, Limits, ProgramResult, SandboxFault, WeakSandbox
from rewards.code.sandbox.sandbox import Candidate, Sandbox

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
