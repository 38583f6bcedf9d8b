"""The reward for programs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from rewards.base import InvalidReference, Outcome, RewardResult, check_lengths
from rewards.code.cases import ProgramTests, Tests, load
from rewards.code.check_runner import CheckerFault
from rewards.code.checker import Verdict, judge
from rewards.code.extraction import extract_code
from rewards.code.sandbox import Limits, Sandbox, SandboxFault
from rewards.reasoning import with_opened_reasoning

_MODES = ("zygote", "fresh")
_SHOWN_CHARACTERS = 20_000
_GRADES = {"strong": 1.0, "weak": 0.0}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeTestsReward:
    """1.0 for a completion whose program passes all tests, 0.0 for every other one.

    The reference of a problem is tests (`rewards.code.cases`) or the mapping that `as_dict` makes of them. The program
    is found by `rewards.code.extraction.extract_code` and runs in a sandbox (`rewards.code.sandbox`); tests, expected
    values and the verdict stay here. Each completion has a process of its own, so its verdict does not depend on the
    others of its batch.

    A result's metrics are `passed`, `tests` and, if a program ran, `sandbox_grade`: 1 for a strong sandbox, 0 for a
    weak one. Its answer is the program.

    Nothing starts before the first call. All rewards of a process with the same options share one sandbox.

    Attributes:
        partial: Whether the reward is the fraction of tests that passed; also of those before a timeout and the like,
            but never for a program that tried something forbidden.
        count_all: Whether all tests are tried, so that `passed` counts those behind a failure; `partial` does so too.
            Without either, the first test that fails is the last one.
        limits: What the program of one completion may take, all its calls and runs together.
        allow_weak: Whether to go on where the machine offers less than the full sandbox.
        mode: `zygote`, or `fresh`: a new interpreter for each program, slower, with the same verdicts.
        parallel: How many programs run at the same time; by default two for each usable core, as each waits for a part
            of its time.

    Raises:
        ValueError: Where an attribute is outside its range.
    """

    partial: bool = False
    count_all: bool = False
    limits: Limits = field(default_factory=Limits)
    allow_weak: bool = False
    mode: Literal["zygote", "fresh"] = "zygote"
    parallel: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(_MODES)}, not {self.mode!r}")
        if self.parallel is not None and (
            not isinstance(self.parallel, int) or isinstance(self.parallel, bool) or self.parallel < 1
        ):
            raise ValueError(f"parallel must be a whole number of at least 1, not {self.parallel!r}")

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion with the tests at the same position.

        Raises:
            InvalidReference: Where tests cannot be used; `check_reference` says so beforehand, unless it takes a run of
                the tests' own code to see it.
            ValueError: Where the three sequences differ in length.
            rewards.code.sandbox.WeakSandbox: Where the sandbox is not strong, without `allow_weak`.
            rewards.code.sandbox.SandboxFault: Where the sandbox failed twice on the same completion.
            rewards.code.check_runner.CheckerFault: Where the process of the tests' own code did.
        """
        check_lengths(prompts, completions, references)
        loaded: dict[int, Tests] = {}  # the completions of a group share their reference
        for reference in references:
            if id(reference) not in loaded:
                loaded[id(reference)] = self._load(reference)
        results: list[RewardResult | None] = []
        waiting: list[tuple[int, Tests, str]] = []
        for prompt, completion, reference in zip(prompts, completions, references, strict=True):
            tests = loaded[id(reference)]
            code = extract_code(
                with_opened_reasoning(prompt, completion),
                entry_point=None if isinstance(tests, ProgramTests) else tests.entry_point.partition("()")[0],
                prefix=tests.prefix or None,
            )
            if code is None:
                results.append(
                    RewardResult(0.0, Outcome.NO_ANSWER, metrics={"passed": 0.0, "tests": float(tests.total)})
                )
                continue
            waiting.append((len(results), tests, code.source))
            results.append(None)
        if waiting:
            sandbox = shared_sandbox(self.mode, self.limits, self.allow_weak)
            for (i, _, source), verdict in zip(waiting, self._verdicts(waiting, sandbox), strict=True):
                results[i] = self._result(source, verdict, _grade(sandbox))
        return [result for result in results if result is not None]

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where `reference` describes no tests, or too large ones; it names the field."""
        self._load(reference)

    def _load(self, reference: Any) -> Tests:
        tests = load(reference)
        most = self.limits.memory_bytes // 8  # it becomes a file in scratch
        for i, case in enumerate(tests.cases if isinstance(tests, ProgramTests) else ()):
            if len(case.stdin) > most:
                raise InvalidReference(
                    f"cases[{i}].stdin has {len(case.stdin)} characters; with limits.memory_bytes of "
                    f"{self.limits.memory_bytes} it may have {most}"
                )
        return tests

    def _verdicts(self, waiting: list[tuple[int, Tests, str]], sandbox: Sandbox) -> list[Verdict]:
        threads = min(self.parallel or 2 * _usable_cores(), len(waiting))
        if threads == 1:
            return [self._verdict(tests, source, sandbox) for _, tests, source in waiting]
        with ThreadPoolExecutor(threads, thread_name_prefix="code-tests") as executor:
            futures = [executor.submit(self._verdict, tests, source, sandbox) for _, tests, source in waiting]
            try:
                return [future.result() for future in futures]
            except BaseException:
                executor.shutdown(wait=True, cancel_futures=True)
                raise

    def _verdict(self, tests: Tests, source: str, sandbox: Sandbox) -> Verdict:
        stop_early = not (self.partial or self.count_all)
        try:
            return judge(tests, source, sandbox, self.limits, stop_early)
        except (SandboxFault, CheckerFault) as error:
            _log.warning("a program is run again after a fault: %s", error)
            return judge(tests, source, sandbox, self.limits, stop_early)

    def _result(self, source: str, verdict: Verdict, grade: float | None) -> RewardResult:
        reward, outcome = 0.0, verdict.outcome
        if outcome is Outcome.CORRECT:
            reward = 1.0
        elif self.partial and outcome is not Outcome.FORBIDDEN and verdict.passed:
            reward = verdict.passed / verdict.total
            outcome = Outcome.PARTIAL if outcome is Outcome.WRONG else outcome
        metrics = {"passed": float(verdict.passed), "tests": float(verdict.total)}
        if grade is not None:
            metrics["sandbox_grade"] = grade
        return RewardResult(reward, outcome, source[:_SHOWN_CHARACTERS], metrics)


_sandboxes: dict[tuple[str, Limits, bool], Sandbox] = {}
_abandoned: list[Sandbox] = []
_lock = threading.Lock()


def shared_sandbox(mode: Literal["zygote", "fresh"], limits: Limits, allow_weak: bool) -> Sandbox:
    """The sandbox of this process with these options, started by the first call.

    Raises:
        rewards.code.sandbox.WeakSandbox: Where it is not strong, without `allow_weak`.
    """
    key = (mode, limits, allow_weak)
    with _lock:
        if key not in _sandboxes:
            _sandboxes[key] = Sandbox(mode=mode, limits=limits, allow_weak=allow_weak)
        return _sandboxes[key]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that is not here may have held the old one
    # the processes belong to the program that this one was forked from: not used here, nor ended by a finalizer
    _abandoned.extend(_sandboxes.values())
    _sandboxes.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _grade(sandbox: Sandbox) -> float | None:
    """How strong the sandbox is, as a number, where it says so."""
    return _GRADES.get(str(getattr(sandbox, "grade", "")))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
