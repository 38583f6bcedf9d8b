"""The verdict on one program.

Here are the tests, the expected values and the comparison; the program runs in a sandbox, gets one call at a time and
gives back plain data. Nothing of it is imported, parsed, compiled or unpickled here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rewards.base import Outcome
from rewards.code import nodes
from rewards.code.cases import CheckTests, ClassTests, FunctionTests, ProgramTests, Tests
from rewards.code.check_runner import give_back_runner, take_runner
from rewards.code.equality import same
from rewards.code.sandbox import Candidate, CandidateError, CandidateRaised, Limits, ProgramResult, SandboxFault
from rewards.code.sandbox.codec import Unencodable

_ENDS = (Outcome.TIMEOUT, Outcome.MEMORY, Outcome.CRASHED, Outcome.FORBIDDEN, Outcome.SYNTAX_ERROR, Outcome.TOO_LARGE)
_SHOWN_CHARACTERS = 300
_WORD_OR_SPACE = re.compile(r"\S+|\s+")
_NUMBER = re.compile(r"[+-]?+(?=\.?[0-9])[0-9]*+(?P<part>(?:\.[0-9]*+)?(?:[eE][+-]?+[0-9]++)?)", re.ASCII)
_LEAST_SECONDS = 1e-3  # no program ends in it


class AnySandbox(Protocol):
    """What the checker needs of a `rewards.code.sandbox.Sandbox`."""

    def open(self, source: str, *, limits: Limits | None = None, prelude: str = "") -> Candidate:
        """Run a program's top level, and keep it for calls."""
        ...

    def run_program(self, source: str, stdin: str, *, limits: Limits | None = None) -> ProgramResult:
        """Run a program from its standard input to its standard output."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the tests.

    Attributes:
        passed: How many tests passed.
        total: How many there are.
        outcome: `CORRECT` if all passed, `WRONG` if not, or how the program ended before its last test.
        detail: The first test that did not pass, and why; for people.
    """

    passed: int
    total: int
    outcome: Outcome
    detail: str = ""


def judge(tests: Tests, source: str, sandbox: AnySandbox, limits: Limits, stop_early: bool = False) -> Verdict:
    """Run the tests on a program.

    A test whose call raises has failed, and the next one is tried. Once the program has ended (timeout, memory, ...),
    the tests that remain have failed; those that passed before count. Where a call raised what the sandbox denies and
    a test failed, the outcome is `FORBIDDEN`.

    Args:
        tests: The tests.
        source: The program.
        sandbox: Where it runs.
        limits: What it may take, all its calls, or runs, together. The memory is that of each run.
        stop_early: Whether the first test that fails is the last one. `passed` counts those before it.

    Raises:
        SandboxFault: If the sandbox failed.
        rewards.code.check_runner.CheckerFault: If the checker's own process failed.
        InvalidReference: If the tests' own code is broken.
    """
    run = _Run(tests.total, stop_early)
    try:
        if isinstance(tests, ProgramTests):
            _run_programs(run, tests, source, sandbox, limits)
        else:
            prelude = nodes.PRELUDE if isinstance(tests, FunctionTests) and tests.has_nodes else ""
            with sandbox.open(source, limits=limits, prelude=prelude) as candidate:
                call = _Call(candidate, tests.entry_point, run)
                if isinstance(tests, FunctionTests):
                    _run_cases(run, tests, call)
                elif isinstance(tests, ClassTests):
                    _run_objects(run, tests, call)
                else:
                    _run_checks(run, tests, call)
    except CandidateRaised as error:  # while its top level ran
        run.note("", _raised(error))
    except CandidateError as error:
        if error.outcome not in _ENDS:
            raise SandboxFault(f"the sandbox gave the outcome {error.outcome!r}") from error
        run.note("", str(error))
        return run.verdict(Outcome(error.outcome))
    if run.passed == run.total:
        return run.verdict(Outcome.CORRECT)
    return run.verdict(Outcome.FORBIDDEN if run.forbidden else Outcome.WRONG)


class _Run:
    def __init__(self, total: int, stop_early: bool) -> None:
        self.total = total
        self.stop_early = stop_early
        self.passed = 0
        self.failed = False
        self.detail = ""
        self.forbidden = False

    @property
    def over(self) -> bool:
        """Whether no more tests are wanted."""
        return self.failed and self.stop_early

    def note(self, where: str, why: str | None) -> None:
        """Record a test: passed where there is no `why`."""
        if why is None:
            self.passed += 1
            return
        self.failed = True
        if not self.detail:
            self.detail = f"{where}: {why}"[:_SHOWN_CHARACTERS] if where else why[:_SHOWN_CHARACTERS]

    def verdict(self, outcome: Outcome) -> Verdict:
        return Verdict(self.passed, self.total, outcome, self.detail)


class _Call:
    """Calls a candidate, and records that a call was denied something."""

    def __init__(self, candidate: Candidate, entry_point: str, run: _Run) -> None:
        self.candidate = candidate
        self.entry_point = entry_point
        self.run = run

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], method: str = "") -> Any:
        """Call the entry point, or a method of the object that it made last."""
        try:
            return self.candidate.call(method or self.entry_point, args, dict(kwargs))
        except CandidateRaised as error:
            self.run.forbidden |= error.forbidden
            raise
        except Unencodable as error:  # what test code made of a result, a very large list say
            raise CandidateRaised("TypeError", f"the arguments cannot be sent: {error}") from None


def _run_cases(run: _Run, tests: FunctionTests, call: _Call) -> None:
    for i, case in enumerate(tests.cases):
        if run.over:
            return
        try:
            if tests.has_nodes:
                job = (tests.entry_point, tests.argument_types, tests.return_type, case.args)
                value = call(job, {}, nodes.CALL)
            else:
                value = call(case.args, case.kwargs)
        except CandidateRaised as error:
            run.note(f"cases[{i}]", _raised(error))
            continue
        right = same(case.expected, value, rel_tol=tests.rel_tol, abs_tol=tests.abs_tol, nan_equal=tests.nan_equal)
        # values are not shown: a huge int cannot be written, and what is logged should not help to guess
        run.note(f"cases[{i}]", None if right else f"returned another {type(value).__name__} than expected")


def _run_objects(run: _Run, tests: ClassTests, call: _Call) -> None:
    for i, case in enumerate(tests.cases):
        if run.over:
            return
        why = None
        for k, (method, args, expected) in enumerate(zip(case.methods, case.args, case.expected, strict=True)):
            try:
                value = call(args, {}, f".{method}" if k else f"{method}()")
            except CandidateRaised as error:
                why = _raised(error)
            else:
                if k and not same(
                    expected, value, rel_tol=tests.rel_tol, abs_tol=tests.abs_tol, nan_equal=tests.nan_equal
                ):
                    why = f"returned another {type(value).__name__} than expected"
            if why is not None:
                why = f"call {k}, {method}: {why}"
                break
        run.note(f"cases[{i}]", why)


def _run_checks(run: _Run, tests: CheckTests, call: _Call) -> None:
    runner = take_runner()
    budget = runner.budget()
    try:
        for i, check in enumerate(tests.checks):
            if run.over:
                return
            run.note(f"checks[{i}]", runner.run(tests.setup, check, tests.entry_point, call, budget))
    finally:
        give_back_runner(runner)


def _run_programs(run: _Run, tests: ProgramTests, source: str, sandbox: AnySandbox, limits: Limits) -> None:
    for i, case in enumerate(tests.cases):
        if run.over:
            return
        room = 2 * len(case.stdout.encode("utf-8", "surrogatepass")) + 2**16  # what is cut off cannot be right
        try:
            result = sandbox.run_program(
                source, case.stdin, limits=replace(limits, output_bytes=max(limits.output_bytes, room))
            )
        except CandidateRaised as error:
            run.note(f"cases[{i}]", _raised(error))
            continue
        limits = _left(limits, result)
        why = None
        if result.exit_code != 0:
            why = f"ended with exit code {result.exit_code}"
        elif not same_output(
            case.stdout, result.stdout, tokens=tests.tokens, rel_tol=tests.rel_tol, abs_tol=tests.abs_tol
        ):
            why = "printed something else than expected"
        run.note(f"cases[{i}]", why)


def _left(limits: Limits, result: ProgramResult) -> Limits:
    """What one run leaves for the next ones."""
    cpu, wall = limits.cpu_seconds - result.cpu_seconds, limits.wall_seconds - result.wall_seconds
    return replace(limits, cpu_seconds=max(cpu, _LEAST_SECONDS), wall_seconds=max(wall, _LEAST_SECONDS))


def same_output(
    expected: str, actual: str | bytes, *, tokens: bool = False, rel_tol: float = 0.0, abs_tol: float = 0.0
) -> bool:
    """Whether two outputs are equal but for white space at the end of lines and blank lines at the end.

    Args:
        expected: What the task says.
        actual: What the program printed.
        tokens: Whether only the words between white space count.
        rel_tol: The tolerance of decimal numbers relative to the expected one.
        abs_tol: Their absolute tolerance.
    """
    if isinstance(actual, bytes | bytearray):
        actual = bytes(actual).decode("utf-8", "surrogateescape")
    a, b = (text.split() if tokens else _lines(text) for text in (expected, actual))
    if a == b or not (rel_tol or abs_tol):
        return a == b
    if not tokens:  # the white space inside of lines still counts
        a, b = (_WORD_OR_SPACE.findall("\n".join(lines)) for lines in (a, b))
    return len(a) == len(b) and all(x == y or _same_number(x, y, rel_tol, abs_tol) for x, y in zip(a, b, strict=True))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_number(expected: str, actual: str, rel_tol: float, abs_tol: float) -> bool:
    """Whether two unequal words are numbers within a tolerance, at least one of them no whole number."""
    a, b = _NUMBER.fullmatch(expected), _NUMBER.fullmatch(actual)
    if a is None or b is None or not (a["part"] or b["part"]):
        return False
    x, y = float(expected), float(actual)
    return math.isfinite(x) and same(x, y, rel_tol=rel_tol, abs_tol=abs_tol)


def _raised(error: CandidateRaised) -> str:
    return f"raised {str(error.type_name)[:100]}: {str(error.message)[:200]}"
