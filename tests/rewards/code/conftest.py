"""A sandbox that is none: it runs the sources of these tests in this process, as far as the checker can tell."""

from __future__ import annotations

import io
import itertools
import threading

import pytest

from rewards.base import Outcome
from rewards.code.sandbox import CandidateError, CandidateRaised, ProgramResult, SandboxFault
from rewards.code.sandbox.codec import Unencodable, decode, encode


class FakeCandidate:
    """A source that was executed. In it, `end(outcome)` ends the program, and `fault()` is a fault of the sandbox."""

    def __init__(self, sandbox, source):
        self.sandbox = sandbox
        self.closed = False
        self.names = {"end": self.end, "fault": self.fault, "__name__": "candidate"}
        try:
            code = compile(source, "<candidate>", "exec")
        except (SyntaxError, ValueError) as error:
            raise CandidateError(Outcome.SYNTAX_ERROR, str(error)) from None
        self._run(lambda: exec(code, self.names))  # noqa: S102

    def end(self, outcome):
        raise CandidateError(Outcome(outcome))

    def fault(self, times=1):
        if next(self.sandbox.faults) < times:
            raise SandboxFault("the fake broke")

    def _run(self, function):
        try:
            return function()
        except (CandidateError, SandboxFault):
            raise
        except BaseException as error:  # noqa: BLE001
            raise CandidateRaised(type(error).__name__, str(error), isinstance(error, PermissionError)) from None

    def call(self, function, args=(), kwargs=None):
        assert not self.closed
        self.sandbox.calls += 1
        _, args, kwargs = decode(encode((function, tuple(args), dict(kwargs or {}))))
        value = self._run(lambda: self.names[function](*args, **kwargs))
        try:
            return decode(encode(value))
        except Unencodable as error:
            raise CandidateRaised("Unencodable", str(error)) from None

    def close(self):
        self.closed = True
        self.sandbox.closed += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FakeSandbox:
    """Counts what is asked of it."""

    grade = "strong"

    def __init__(self, **options):
        self.options = options
        self.opened = self.closed = self.calls = 0
        self.faults = itertools.count()
        self.threads = set()

    def open(self, source, *, limits=None, prelude=""):
        self.threads.add(threading.get_ident())
        candidate = FakeCandidate(self, source)
        self.opened += 1
        return candidate

    def run_program(self, source, stdin, *, limits=None):
        lines = io.StringIO(stdin)
        out = io.StringIO()
        prelude = {
            "input": lambda: lines.readline().rstrip("\n"),
            "print": lambda *a: out.write(f"{' '.join(map(str, a))}\n"),
        }
        names = {"__name__": "__main__", **prelude}
        try:
            candidate = FakeCandidate.__new__(FakeCandidate)
            candidate.sandbox = self
            names["end"], names["fault"] = candidate.end, candidate.fault
            exec(compile(source, "<program>", "exec"), names)  # noqa: S102
        except SyntaxError as error:
            raise CandidateError(Outcome.SYNTAX_ERROR, str(error)) from None
        except (CandidateError, SandboxFault):
            raise
        except SystemExit as error:
            return ProgramResult(out.getvalue(), error.code or 0)
        except Exception:  # noqa: BLE001
            return ProgramResult(out.getvalue(), 1)
        return ProgramResult(out.getvalue(), 0)

    def close(self):
        pass


@pytest.fixture
def sandbox():
    """A fake sandbox."""
    return FakeSandbox()


@pytest.fixture
def fake_sandboxes(monkeypatch):
    """The reward's sandboxes are fake ones; the list of those that were made."""
    made = []

    def make(**options):
        made.append(FakeSandbox(**options))
        return made[-1]

    monkeypatch.setattr("rewards.code.code_tests_reward.Sandbox", make)
    monkeypatch.setattr("rewards.code.code_tests_reward._sandboxes", {})
    return made
