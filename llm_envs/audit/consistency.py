"""Whether a verdict depends on anything but the completion and its reference, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llm_envs.audit.answer_marks import AnswerMarks
from llm_envs.audit.attacks import Subject, long_texts
from llm_envs.audit.rows import Row, Verdict, shown
from llm_envs.audit.scorer import Case, Scorer
from llm_envs.problem import Problem
from llm_envs.spaces import MAX_COMPLETION_CHARS
from rewards.base import RewardResult

SLOW_SECONDS = 0.5
"""A 95th percentile above it is a warning."""
TOO_SLOW_SECONDS = 5.0
"""A 95th percentile above it fails."""


MEGABYTE_SIZES = (2**14, 2**16, 2**18, MAX_COMPLETION_CHARS)
MEGABYTE_SECONDS = 3.0
"""A text that takes longer, twice, is not tried in the next size, four times as long."""


def megabytes_row(scorer: Scorer, marked_problems: Sequence[tuple[Problem, AnswerMarks]]) -> Row:
    """Score long texts, in growing sizes: a search that is quadratic would take minutes for a megabyte."""
    name = "megabytes"
    paid: list[Case] = []
    slow: dict[str, tuple[float, Case]] = {}
    tried = 0
    for problem, marks in marked_problems:
        subject = Subject(problem, marks, (), np.random.default_rng(0))
        for size in MEGABYTE_SIZES:
            for note, text in long_texts(subject, size):
                if note in slow:
                    continue
                case = Case(name, problem, text, note)
                result = scorer.alone(case)
                seconds = scorer.seconds[-1][0]
                tried += 1
                if result is not None and result.reward > 0:
                    paid.append(case)
                if seconds > MEGABYTE_SECONDS and size < MEGABYTE_SIZES[-1]:
                    scorer.alone(case)  # once more, as the machine may have been busy
                    seconds = min(seconds, scorer.seconds[-1][0])
                    if seconds > MEGABYTE_SECONDS:
                        slow[note] = seconds, case
    detail = f"{len(paid)} of {tried} paid"
    if paid:
        return Row(name, Verdict.FAIL, f"{detail} ({paid[0].note})", shown(paid[0].completion))
    if slow:
        note, (seconds, case) = max(slow.items(), key=lambda found: found[1][0])
        kinds = f", {len(slow)} kinds of text are too slow to try longer"
        return Row(name, Verdict.FAIL, f"{detail}{kinds}: {seconds:.1f} s for {note}", shown(case.completion))
    return Row(name, Verdict.PASS if tried else Verdict.SKIP, f"{detail}, up to {MEGABYTE_SIZES[-1]:,} characters")


def consistency_rows(scorer: Scorer, probes: Sequence[Case], earlier: Sequence[RewardResult | None]) -> list[Row]:
    """Score the probes again, in other orders and alone, and compare, also with their `earlier` verdicts."""
    if not probes:
        skipped = ("deterministic", "order-independent", "batch-independent", "speed")
        rows = [Row(name, Verdict.SKIP, "there is nothing to score") for name in skipped]
        return [*rows, _faults_row(scorer)]
    first = scorer.batch(probes)
    again = scorer.batch(probes)
    backwards = scorer.batch(probes[::-1])[::-1]
    alone = [scorer.alone(case) for case in probes]
    repeated = _agreement("deterministic", probes, first, again, "the same call twice")
    if repeated.verdict is Verdict.PASS:  # a reward may remember what it has paid
        repeated = _agreement("deterministic", probes, earlier, first, "the same call twice")
    return [
        repeated,
        _agreement("order-independent", probes, first, backwards, "the batch in reverse"),
        _agreement("batch-independent", probes, first, alone, "each completion in a call of its own"),
        _speed_row(scorer),
        _faults_row(scorer),
    ]


def _agreement(
    name: str,
    probes: Sequence[Case],
    left: Sequence[RewardResult | None],
    right: Sequence[RewardResult | None],
    how: str,
) -> Row:
    differ = [
        (case, a, b)
        for case, a, b in zip(probes, left, right, strict=True)
        if (a is None) != (b is None)
        or (a is not None and b is not None and (a.reward, a.outcome) != (b.reward, b.outcome))
    ]
    if not differ:
        return Row(name, Verdict.PASS, f"{len(probes)} verdicts, {how}")
    case, a, b = differ[0]
    verdicts = " and ".join("none" if result is None else f"{result.outcome} {result.reward:g}" for result in (a, b))
    detail = f"{len(differ)} of {len(probes)} verdicts differ, {how}: {verdicts}"
    return Row(name, Verdict.FAIL, detail, shown(case.completion))


def _speed_row(scorer: Scorer) -> Row:
    seconds = np.array([seconds for seconds, _ in scorer.seconds])
    p50, p95, worst = np.percentile(seconds, [50, 95, 100]).tolist()
    slowest = max(scorer.seconds, key=lambda timed: timed[0])[1]
    verdict = Verdict.PASS
    if p95 > SLOW_SECONDS:
        verdict = Verdict.FAIL if p95 > TOO_SLOW_SECONDS else Verdict.WARN
    detail = f"one completion: p50 {1e3 * p50:.2f} ms, p95 {1e3 * p95:.2f} ms, longest {1e3 * worst:.2f} ms"
    return Row("speed", verdict, detail, shown(slowest.completion))


def _faults_row(scorer: Scorer) -> Row:
    name = "free of exceptions"
    if not scorer.faults:
        return Row(name, Verdict.PASS, "every string got a verdict")
    case, what = scorer.faults[0]
    kinds = ", ".join(dict.fromkeys(fault.partition(":")[0] for _, fault in scorer.faults))
    return Row(name, Verdict.FAIL, f"{len(scorer.faults)} faults ({kinds}); {what[:120]}", shown(case.completion))
