"""A jail for source that a model wrote: `Sandbox`."""

from rewards.code.sandbox.candidate import Candidate
from rewards.code.sandbox.results import (
    CandidateError,
    CandidateRaised,
    Limits,
    ProgramResult,
    SandboxFault,
    WeakSandbox,
)
from rewards.code.sandbox.sandbox import Sandbox
from rewards.code.sandbox.self_test import Layer, SandboxReport, sandbox_report

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
