"""A jail for source that a model wrote: `Sandbox`."""

from rewards.code.sandbox.base import CandidateError, CandidateRaised, Limits, ProgramResult, SandboxFault, WeakSandbox
from rewards.code.sandbox.candidate import Candidate
from rewards.code.sandbox.report import Layer, SandboxReport, sandbox_report
from rewards.code.sandbox.sandbox import Sandbox

__all__ = [
    "Candidate",
    "CandidateError",
    "CandidateRaised",
    "Layer",
    "Limits",
    "ProgramResult",
    "Sandbox",
    "SandboxFault",
    "SandboxReport",
    "WeakSandbox",
    "sandbox_report",
]
