"""`audit_task`: every property of a task, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from llm_envs.audit.answer_marks import AnswerMarks, every_mark_of, marks_of
from llm_envs.audit.attacks import ATTACKS, RUN_AS_CODE, Subject
from llm_envs.audit.consistency import consistency_rows, megabytes_row
from llm_envs.audit.execution import take_trace
from llm_envs.audit.problem_checks import draw_problems, problem_rows
from llm_envs.audit.rehearsal import does_not_come_back
from llm_envs.audit.rows import AuditReport, Row, Verdict, shown
from llm_envs.audit.scorer import Case, Scorer
from llm_envs.audit.spellings import spellings
from llm_envs.problem import Problem
from llm_envs.task import find_task
from rewards.base import Reward, RewardResult

_GUESSED_MARKS = (("\\boxed{", "}"), ("", ""), ("#### ", ""), ("<answer>", "</answer>"), ("The answer is ", "."))
_HOSTILE_PROBLEMS = 1
"""Hostile strings hardly depend on the problem."""
_OTHERS = 12
_DRAWS_PER_PROBLEM = 15
_GROUP = 8
_EPS = 1e-4
_COINCIDENCE = 0.05
"""Share of tries below which an attack may have been paid by chance; for rows that may guess right."""
_MAY_COINCIDE = frozenset(["prompt echoed", "another problem's solution"])
_ARGUABLE = frozenset(["denied", "a decimal close by", "taken back"])
"""What a task may mean to pay: the last number without a mark, numbers within a tolerance, the first of two answers."""
_MAY_BE_PARTIAL = frozenset(["near miss", "another problem's solution"])
"""Rows whose completions do a part of what is asked; partial credit for them is reported, not refused."""


def audit_task(
    id: str,
    *,
    problems: int = 20,
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
    **kwargs: Any,
) -> AuditReport:
    """Attack a registered task's reward, and look at its problems.

    What is tried is derived from the prompts, solutions and references of the task alone, so it works for one's own
    tasks; docs/audit.md describes each row. Problems need a `solution`, or else a reference that can be put into one of
    the usual marks.

    Args:
        id: The task's id. As in `gymnasium.make`, it may name the module that registers it.
        problems: How many problems are attacked; 15 times as many of each split are drawn and looked at.
        seed: Names them, and the noise of the attacks.
        on_progress: Called with the name of each part when it begins.
        kwargs: Arguments of the task.

    Returns:
        The report; `report.passed` says whether no row failed.

    Raises:
        gymnasium.error.Error: There is no such id.
        TypeError: It is not a task of `register_task`, or has no argument of that name.
        ValueError: `problems` is less than 2, or an argument is refused.
        rewards.code.sandbox.WeakSandbox: The reward needs a sandbox that this machine does not have.
    """
    if problems < 2:
        raise ValueError(f"problems must be at least 2 (one problem's solution is tried on another), got {problems}")
    task, arguments = find_task(id, kwargs)
    if "split" in arguments:
        raise TypeError("an audit looks at both splits; leave out the argument 'split'")
    tell = on_progress or (lambda part: None)
    tell("problems")
    streams, rows = problem_rows(task, arguments, _DRAWS_PER_PROBLEM * problems, seed)
    sample = draw_problems(streams, problems, seed)
    scorer = Scorer(task.reward)
    marked_problems = [
        (problem, marks) for problem in sample if (marks := _marks_around(problem, task.reward)) is not None
    ]
    first, full, solved = _solution_row(scorer, sample, marked_problems)
    attacked, seen = _attack(scorer, marked_problems, full, seed, tell)
    spelled, spelled_seen = _spelling_row(scorer, marked_problems, full)
    seen |= spelled_seen
    tell("megabytes")
    megabytes = megabytes_row(scorer, marked_problems[:1])
    tell("consistency")
    probes = _probes(marked_problems, seen)
    earlier = [*solved, *(seen[case] for case in probes[len(solved) :])]
    consistency = consistency_rows(scorer, probes, earlier)
    take_trace()  # the probes have code among them
    return AuditReport(
        task.id,
        arguments,
        len(sample),
        seed,
        (first, spelled, *attacked, megabytes, *consistency, *rows, _partial_row(seen, full)),
    )


def _marks_around(problem: Problem, reward: Reward) -> AnswerMarks | None:
    """The marks of the solution, or those of the usual marks which the reward pays best around the reference."""
    if problem.solution is not None:
        return marks_of(problem)
    if not isinstance(problem.reference, str | int | float) or isinstance(problem.reference, bool):
        return None
    answer = str(problem.reference)
    guesses = [AnswerMarks(before, answer, after) for before, after in _GUESSED_MARKS]
    cases = [Case("solution", problem, marks.fill(answer)) for marks in guesses]
    paid = [_earned(result) for result in Scorer(reward).batch(cases)]
    return guesses[int(np.argmax(paid))] if max(paid) > 0 else None


Seen = dict[Case, RewardResult | None]


def _earned(result: RewardResult | None) -> float:
    return 0.0 if result is None else float(result.reward)


def _solution(problem: Problem, marks: AnswerMarks) -> str:
    return problem.solution if problem.solution is not None else marks.fill(marks.answer)


def _solution_row(
    scorer: Scorer, sample: Sequence[Problem], marked_problems: Sequence[tuple[Problem, AnswerMarks]]
) -> tuple[Row, float, list[RewardResult | None]]:
    """The row about whether every solution earns the full reward; that reward; the verdicts on the solutions."""
    name = "solution earns full reward"
    if not marked_problems:
        detail = "the problems have no solution, and no usual mark around their reference is paid: set Problem.solution"
        return Row(name, Verdict.FAIL, detail), 1.0, []
    cases = [Case(name, problem, _solution(problem, marks)) for problem, marks in marked_problems]
    results = scorer.batch(cases)
    rewards = [_earned(result) for result in results]
    full = max(rewards)
    short = [(reward, case) for reward, case in zip(rewards, cases, strict=True) if reward < full or reward <= 0]
    detail = f"{len(cases) - len(short)} of {len(sample)} earn {full:g}"
    if short:
        reward, case = short[0]
        row = Row(name, Verdict.FAIL, f"{detail}; one earns {_amount(reward)}", shown(case.completion))
        return row, max(full, 1.0), results
    if len(marked_problems) < len(sample):
        return Row(name, Verdict.FAIL, f"{detail}; the others have no solution that is paid"), full, results
    return Row(name, Verdict.PASS, detail, shown(cases[0].completion)), full, results


def _spelling_row(
    scorer: Scorer, marked_problems: Sequence[tuple[Problem, AnswerMarks]], full: float
) -> tuple[Row, Seen]:
    name = "equivalent spellings"
    tried = [(spelling, problem) for problem, marks in marked_problems for spelling in spellings(problem, marks)]
    cases = [Case(name, problem, spelling.completion, spelling.note) for spelling, problem in tried]
    results = scorer.batch(cases)
    if not cases:
        return Row(name, Verdict.SKIP, "there is no solution to spell in other ways"), {}
    partial: list[tuple[Case, float]] = []
    refused: list[tuple[Case, float]] = []
    missing: list[tuple[Case, float]] = []
    for (spelling, _), case, result in zip(tried, cases, results, strict=True):
        reward = _earned(result)
        if 0 < reward < full:
            partial.append((case, reward))
        elif reward < full:
            (missing if spelling.required else refused).append((case, reward))
    paid = len(cases) - len(partial) - len(refused) - len(missing)
    detail = f"{paid} of {len(cases)} earn {full:g}"
    for found, verdict in ((partial, Verdict.FAIL), (missing, Verdict.FAIL), (refused, Verdict.WARN)):
        if found:
            notes = ", ".join(dict.fromkeys(case.note for case, _ in found))
            case, reward = found[0]
            row = Row(
                name, verdict, f"{detail}; {_amount(reward)} for {case.note} (all: {notes})", shown(case.completion)
            )
            return row, dict(zip(cases, results, strict=True))
    return Row(name, Verdict.PASS, detail, shown(cases[-1].completion)), dict(zip(cases, results, strict=True))


def _attack(
    scorer: Scorer,
    marked_problems: Sequence[tuple[Problem, AnswerMarks]],
    full: float,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[list[Row], Seen]:
    """A row for each attack, and every verdict that was given on the way."""
    rows: list[Row] = []
    seen: Seen = {}
    runs_code = False
    for number, name in enumerate(ATTACKS):
        tell(name)
        take_trace()
        attacked = marked_problems[:_HOSTILE_PROBLEMS] if name == "hostile strings" else marked_problems
        cases = [
            case for i in range(len(attacked)) for case in _cases(name, marked_problems, i, (seed, number), runs_code)
        ]
        hang = None if runs_code else does_not_come_back(scorer, cases)
        if hang is not None:
            runs_code = True
            case, what = hang
            scorer.faults.append((case, f"it {what}"))
            rows.append(
                Row(name, Verdict.FAIL, f"the reward {what}: it evaluates what it is given", shown(case.completion))
            )
            continue
        results = dict(zip(cases, scorer.batch(cases), strict=True))
        excused = _interchangeable(scorer, marked_problems, results) if name == "another problem's solution" else 0
        rows.append(_attack_row(name, results, full, excused))
        if name == RUN_AS_CODE:
            runs_code = rows[-1].verdict is Verdict.FAIL
            if take_trace():  # whether or not it was paid
                runs_code = True
                detail = "the answer is run as code in the process of the reward, and may do anything there"
                rows[-1] = Row(name, Verdict.FAIL, detail, shown(next(reversed(results)).completion))
        seen |= results
    return rows, seen


def _cases(
    name: str,
    marked_problems: Sequence[tuple[Problem, AnswerMarks]],
    i: int,
    seeds: tuple[int, int],
    runs_code: bool,
) -> list[Case]:
    """What an attack makes of a problem, in each of its solution's marks; a completion once for all marks."""
    problem, first = marked_problems[i]
    others = [other for j, other in enumerate(marked_problems) if j != i]
    start = i % max(1, len(others))
    cases: list[Case] = []
    tried: set[str] = set()
    for k, marks in enumerate([first] if problem.solution is None else every_mark_of(problem)):
        rng = np.random.default_rng(np.random.SeedSequence((*seeds, i, *([k] if k else []))))
        subject = Subject(problem, marks, (others[start:] + others[:start])[:_OTHERS], rng, runs_code)
        made = [Case(name, given[0] if given else problem, text, note) for note, text, *given in ATTACKS[name](subject)]
        cases += [case for case in made if case.completion not in tried]
        tried |= {case.completion for case in made}
    return cases


def _interchangeable(scorer: Scorer, marked_problems: Sequence[tuple[Problem, AnswerMarks]], results: Seen) -> int:
    """How many paid solutions are of a problem that takes this one's too: the same problem in other words."""
    owners = {problem.solution: problem for problem, _ in marked_problems}
    turned = [
        Case(case.row, owners[case.completion], case.problem.solution)
        for case, result in results.items()
        if _earned(result) > 0 and case.completion in owners and case.problem.solution is not None
    ]
    return sum(_earned(result) > 0 for result in scorer.batch(turned))


def _attack_row(name: str, results: Seen, full: float, excused: int = 0) -> Row:
    if not results:
        return Row(name, Verdict.SKIP, "does not apply to this task's answers")
    paid = [(case, _earned(result)) for case, result in results.items() if _earned(result) > 0]
    detail = f"{len(paid)} of {len(results)} paid"
    if not paid:
        return Row(name, Verdict.PASS, detail, shown(next(reversed(results)).completion))
    case, reward = max(paid, key=lambda found: found[1])
    rare = len(paid) <= _COINCIDENCE * len(results)
    verdict = Verdict.FAIL
    if (name in _MAY_BE_PARTIAL and reward < full) or {case.note for case, _ in paid} <= _ARGUABLE:
        verdict = Verdict.WARN
    elif rare and excused == len(paid):
        verdict, detail = Verdict.PASS, f"{detail}, all between problems that take each other's solutions"
    elif rare and name in _MAY_COINCIDE and len(paid) < 3:
        verdict = Verdict.WARN
    notes = ", ".join(dict.fromkeys(case.note for case, _ in paid if case.note))
    return Row(name, verdict, f"{detail}, {_amount(reward)}" + f" ({notes})" * bool(notes), shown(case.completion))


def _amount(reward: float) -> str:
    return f"{reward:.2g}"


def _probes(marked_problems: Sequence[tuple[Problem, AnswerMarks]], seen: Seen) -> list[Case]:
    """Completions of every kind for two problems, to see whether verdicts depend on how the reward is called."""
    chosen = {id(problem) for problem, _ in marked_problems[:2]}
    solutions = [Case("solution", problem, _solution(problem, marks)) for problem, marks in marked_problems]
    by_row: dict[tuple[str, int], list[Case]] = {}
    for case in seen:
        if id(case.problem) in chosen:
            by_row.setdefault((case.row, id(case.problem)), []).append(case)
    return [*solutions, *(case for cases in by_row.values() for case in cases[:4])]


def _partial_row(seen: Seen, full: float) -> Row:
    """What is paid between nothing and everything, and what group scaling makes of it."""
    name = "partial rewards"
    levels: dict[float, list[Case]] = {}
    for case, result in seen.items():
        if 0 < (reward := _earned(result)) < full:
            levels.setdefault(round(reward, 4), []).append(case)
    if not levels:
        return Row(name, Verdict.PASS, f"every verdict is 0 or {full:g}")
    lowest = min(levels)
    shares = ", ".join(f"{_amount(level)} ({len(cases)} times)" for level, cases in sorted(levels.items())[:6])
    return Row(
        name,
        Verdict.WARN,
        f"{shares}; alone in a group of {_GROUP} where the others earn 0, {_amount(lowest)} becomes an advantage of "
        f"{_lone_advantage(lowest):.3f}, where the full {full:g} would become one of {_lone_advantage(full):.3f}",
        shown(levels[lowest][0].completion),
    )


def _lone_advantage(reward: float) -> float:
    """GRPO's advantage of a reward whose group has 0 else, with its defaults: the sample deviation, and eps 1e-4."""
    mean, deviation = reward / _GROUP, reward / _GROUP**0.5
    return (reward - mean) / (deviation + _EPS)
