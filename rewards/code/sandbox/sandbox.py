"""`Sandbox`: opens candidates, each in a jailed process of its own."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Literal, Self

from rewards.code.sandbox.candidate import Candidate
from rewards.code.sandbox.launcher import Zygote, ZygoteGone
from rewards.code.sandbox.results import Limits, ProgramResult, SandboxFault


class Sandbox:
    """Runs source that a model wrote, each in a jailed process of its own.

    Nothing starts before the first use. Any thread may use a sandbox; a candidate belongs to one. A forked child of the
    program starts its own processes.

    Args:
        mode: "zygote" forks each candidate from a warm interpreter, "fresh" starts an interpreter in a new jail for
            each. Verdicts are the same.
        limits: What a completion may take where `open` and `run_program` get no others.
        allow_weak: Go on where a layer is missing on this machine.
    """

    def __init__(
        self, *, mode: Literal["zygote", "fresh"] = "zygote", limits: Limits | None = None, allow_weak: bool = False
    ) -> None:
        if mode not in ("zygote", "fresh"):
            raise ValueError(f'mode must be "zygote" or "fresh", not {mode!r}')
        self.mode = mode
        self.limits = Limits() if limits is None else limits
        self.allow_weak = allow_weak
        self._reset()
        _sandboxes.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._finalizer: Any = None
        self._candidates: weakref.WeakSet[Candidate] = weakref.WeakSet()

    def open(self, source: str, *, limits: Limits | None = None, prelude: str = "") -> Candidate:
        """Return a new process that has executed `source` as a module.

        Args:
            source: What a model wrote.
            limits: What it may take; by default the sandbox's.
            prelude: Code of the task that is executed before it in the same module, such as classes that it may use.

        Raises:
            CandidateError: If the source is no Python, or its execution raised or broke a limit.
            WeakSandbox: If a layer is missing on this machine.
            SandboxFault: If the sandbox itself fails.
        """
        candidate = self._new(limits)
        try:
            candidate.run_source(source, prelude)
        except BaseException:
            candidate.close()
            raise
        return candidate

    def run_program(self, source: str, stdin: str, *, limits: Limits | None = None) -> ProgramResult:
        """Run `source` as a program with `stdin` as its standard input.

        Raises:
            CandidateError: If the source is no Python, or it broke a limit or died by a signal.
            WeakSandbox: If a layer is missing on this machine.
            SandboxFault: If the sandbox itself fails.
        """
        most = (self.limits if limits is None else limits).memory_bytes // 8  # it is a file in scratch
        if len(stdin) > most:
            raise ValueError(f"stdin has {len(stdin)} characters; with these limits it may have {most}")
        candidate = self._new(limits)
        try:
            return candidate.run_program(source, stdin)
        finally:
            candidate.close()

    def close(self) -> None:
        """End all processes. A later use starts new ones."""
        with self._lock:
            zygote, self._zygote = self._zygote, None
            if zygote is not None:
                self._finalizer.detach()
                zygote.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def layers(self) -> dict[str, bool]:
        """Which layers the machine has, by name; starts the zygote."""
        return dict(self._get_zygote().layers)

    @property
    def problem(self) -> str:
        """What keeps the machine's jail from being strong, empty if nothing does; starts the zygote."""
        return self._get_zygote().problem

    @property
    def grade(self) -> Literal["strong", "weak"]:
        """How well this machine holds candidates; `sandbox_report` tries it. Starts the zygote."""
        return "weak" if self.problem else "strong"

    def _new(self, limits: Limits | None) -> Candidate:
        limits = self.limits if limits is None else limits
        for attempt in range(2):
            if self.mode == "fresh":
                zygote = Zygote(self.allow_weak, single=True)
                owned: Zygote | None = zygote
            else:
                zygote, owned = self._get_zygote(), None
            try:
                candidate = Candidate(zygote, limits, owned, self)
                self._candidates.add(candidate)
                return candidate
            except ZygoteGone as error:
                self._drop(zygote)
                if attempt:
                    raise SandboxFault(f"the zygote died, and the one that replaced it died as well: {error}") from None
            except BaseException:
                if owned is not None:
                    owned.close()
                raise
        raise AssertionError("not reached")

    def _get_zygote(self) -> Zygote:
        with self._lock:
            if self._zygote is None:
                zygote = Zygote(self.allow_weak)
                self._finalizer = weakref.finalize(self, zygote.close)  # also at the interpreter's exit
                self._zygote = zygote
            return self._zygote

    def _drop(self, zygote: Zygote) -> None:
        zygote.close()
        with self._lock:
            if self._zygote is zygote:
                self._zygote = None
                self._finalizer.detach()

    def abandon(self) -> None:
        """Leave the processes to the program that this one was forked from."""
        for candidate in list(self._candidates):
            candidate.abandon()
        if self._zygote is not None:
            self._finalizer.detach()
            self._zygote.abandon()
        self._reset()


_sandboxes: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _after_fork() -> None:
    for sandbox in list(_sandboxes):
        sandbox.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
