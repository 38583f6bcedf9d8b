r"""The mathematical reward beside its peers: verdicts on tables of cases, and speed.

The peers are no dependencies. Each has its own virtual environment, and this script runs in any of them:

    CASES=tests/rewards/math/math_cases.tsv
    python benchmarks/math_reward_peers.py --peer math-verify --cases $CASES --out math-verify.json
    python benchmarks/math_reward_peers.py --peer math-verify --cases $CASES --speed --out math-verify-speed.json
    python benchmarks/math_reward_peers.py --differential ours.json math-verify.json --out differential.tsv

`math-verify` needs `pip install math-verify`; `trl` needs `pip install --no-deps trl` and math-verify and packaging;
`verifiers` needs `pip install verifiers`; `math-rubric` needs `pip install verifiers==0.3.1`, the last with MathRubric;
`ours` needs `rewards` on the path.

A case is a line of six columns: kind, completion, reference, strict, lenient, why. In completion and reference ⏎ is a
newline, ␉ a tab and ␀ a NUL. A kind that ends in "?" is contestable and not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import resource
import select
import signal
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

Check = Callable[[str, str], float | None]
"""Completion and reference in, the reward out; None where the peer skips the sample."""
Batch = Callable[[Sequence[str], Sequence[Any]], Sequence[float | None]]

LIMIT = 20.0
"""Seconds for one case; a longer one is a hang."""
START_LIMIT = 120.0
MEMORY = 8 << 30
"""Bytes of address space of the process that runs a peer."""
ROUNDS = 5
EXPRESSION_KINDS = ("poly", "radical", "func", "latex", "expression", "complex")
ESCAPES = str.maketrans({"⏎": "\n", "␉": "\t", "␀": "\0"})
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.remove",
    "os.rename",
    "subprocess.Popen",
    "shutil",
)


@dataclass(frozen=True)
class Case:
    """A line of a table."""

    table: str
    kind: str
    completion: str
    reference: str
    strict: str
    lenient: str
    why: str

    @property
    def counts(self) -> bool:
        """Whether its verdict is beyond dispute."""
        return not self.kind.endswith("?")


@dataclass
class Record:
    """What a peer made of a case.

    Attributes:
        verdict: right, wrong, skipped (the peer gave no reward), hang, exception or crash (of the process).
        error: What was raised.
        notes: Timeouts that the peer itself noticed, and what it tried to execute.
    """

    verdict: str
    seconds: float
    error: str = ""
    notes: list[str] = field(default_factory=list)


# Peers


def math_verify() -> Check:
    """Math-Verify as its README says: default targets, the reference in a LaTeX environment, its own timeouts."""
    from math_verify import parse, verify

    return lambda completion, reference: float(verify(parse(f"${reference}$"), parse(completion)))


def trl(name: str = "accuracy_reward", wrap: bool = False) -> Check:
    """TRL's rewards; `wrap` puts the reference into dollars, which Math-Verify wants."""
    import trl.rewards

    reward = getattr(trl.rewards, name)

    def check(completion: str, reference: str) -> float | None:
        if name == "reasoning_accuracy_reward" and "think>" not in completion:
            completion = "<think></think>" + completion  # it gives 0 to all texts without a mark
        message = [{"role": "assistant", "content": completion}]
        return reward([message], [f"${reference}$" if wrap else reference])[0]

    return check


def in_thread(make: Callable[[], Check]) -> Check:
    """Make a check that runs outside the main thread, where TRL switches Math-Verify's timeouts off."""
    check, executor = make(), ThreadPoolExecutor(1)
    return lambda completion, reference: executor.submit(check, completion, reference).result()


def verifiers() -> Check:
    """The scorer of verifiers 0.4, where MathRubric is gone."""
    from verifiers.v1 import verify_boxed_math_answer

    return verify_boxed_math_answer


def math_rubric() -> Check:
    """MathRubric of verifiers up to 0.3, which works in processes of its own."""
    from verifiers.rubrics.math_rubric import MathRubric

    rubric = MathRubric()
    loop = asyncio.new_event_loop()

    def check(completion: str, reference: str) -> float:
        message = [{"role": "assistant", "content": completion}]
        return loop.run_until_complete(rubric.correct_answer(rubric.parser, message, reference))

    return check


def ours(strict: bool) -> Batch:
    """`rewards.math.MathReward`, which takes batches."""
    from rewards.math import MathReward

    reward = MathReward(strict=strict)
    return lambda completions, references: [
        result.reward for result in reward([""] * len(completions), completions, references)
    ]


PEERS: dict[str, dict[str, Callable[[], Check]]] = {
    "math-verify": {"math-verify": math_verify},
    "trl": {
        "trl, reference as given": trl,
        "trl, reference in dollars": partial(trl, wrap=True),
        "trl reasoning, reference in dollars": partial(trl, name="reasoning_accuracy_reward", wrap=True),
        "trl in a thread, reference in dollars": partial(in_thread, partial(trl, wrap=True)),
    },
    "verifiers": {"verifiers": verifiers},
    "math-rubric": {"math-rubric": math_rubric},
}
OURS: dict[str, Callable[[], Batch]] = {"ours, lenient": partial(ours, False), "ours, strict": partial(ours, True)}
PACKAGES = ("math-verify", "latex2sympy2_extended", "sympy", "trl", "verifiers")


# The process that runs a peer


class _Notes(logging.Handler):
    """Collects the timeouts that Math-Verify logs."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Timeout during"):
            self.notes.append(record.getMessage().partition(":")[0])


def serve(variant: str) -> None:
    """Answer cases, one JSON text a line, until the input ends."""
    requests, replies = os.fdopen(os.dup(0), encoding="utf8"), os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    check = next(variants[variant] for variants in PEERS.values() if variant in variants)()
    notes: list[str] = []
    logging.getLogger("math_verify").addHandler(_Notes(notes))
    check(r"\boxed{\frac{1}{2}}", r"\frac{2}{4}")

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN):
            notes.append(f"executed {event}")
            raise PermissionError(f"{event} in a comparison: {arguments!r:.200}")

    sys.addaudithook(guard)
    print(json.dumps("ready"), file=replies, flush=True)
    for line in requests:
        notes.clear()
        completion, reference = json.loads(line)
        start = perf_counter()
        try:
            reward = check(completion, reference)
            verdict, error = "skipped" if reward is None else "right" if reward > 0.5 else "wrong", ""
        except BaseException as raised:  # noqa: BLE001 - Math-Verify's timeout is no Exception
            verdict, error = "exception", f"{type(raised).__name__}: {raised}"[:300]
        record = Record(verdict, perf_counter() - start, error, list(notes))
        print(json.dumps(asdict(record)), file=replies, flush=True)


class Worker:
    """A process that runs a peer; it is killed, with its children, when a case takes too long."""

    def __init__(self, variant: str) -> None:
        self.command = [sys.executable, __file__, "--serve", variant]
        self.process: subprocess.Popen[bytes] | None = None

    def judge(self, case: Case) -> Record:
        """Return the record of a case, in a new process if the last one ended."""
        if self.process is None:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if self._read(START_LIMIT) != "ready":
                sys.exit(f"the peer does not start: {' '.join(self.command)}")
        assert self.process.stdin is not None
        start = perf_counter()
        self.process.stdin.write(json.dumps([case.completion, case.reference]).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._read(LIMIT)
        if isinstance(answer, dict):
            return Record(**answer)
        self.close()
        return Record(answer, perf_counter() - start)

    def _read(self, seconds: float) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return "hang"
        line = self.process.stdout.readline()
        return json.loads(line) if line else "crash"

    def close(self) -> None:
        """Kill the process and what it started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


# Verdicts


def read_cases(paths: Sequence[Path]) -> list[Case]:
    """Read tables of cases."""
    cases = []
    for path in paths:
        for line in path.read_text(encoding="utf8").split("\n"):
            if line and not line.startswith("kind\t"):
                kind, completion, reference, strict, lenient, why = line.split("\t")
                texts = completion.translate(ESCAPES), reference.translate(ESCAPES)
                cases.append(Case(f"{path.parent.name}/{path.name}", kind, *texts, strict, lenient, why))
    return cases


def judge_all(variant: str, cases: Sequence[Case]) -> list[Record]:
    """Return a peer's record of each case."""
    worker, records = Worker(variant), []
    try:
        for i, case in enumerate(cases):
            record = worker.judge(case)
            records.append(record)
            if record.verdict not in ("right", "wrong", "skipped") or record.seconds > 5:
                print(
                    f"{i} {record.verdict} {record.seconds:.1f} s {case.completion[:80]!r}", file=sys.stderr, flush=True
                )
    finally:
        worker.close()
    return records


def judge_batch(reward: Batch, cases: Sequence[Case]) -> list[Record]:
    """Return our record of each case: the verdict of one call with all, the seconds of a call with only this one."""
    records: list[Record] = []
    for case in cases:
        start = perf_counter()
        try:
            (alone,) = reward([case.completion], [case.reference])
            verdict, error = "right" if alone else "wrong", ""
        except ValueError as raised:
            verdict, error = "exception", f"{type(raised).__name__}: {raised}"[:300]
        records.append(Record(verdict, perf_counter() - start, error))
    readable = [i for i, record in enumerate(records) if not record.error]
    rewards = reward([cases[i].completion for i in readable], [cases[i].reference for i in readable])
    for i, value in zip(readable, rewards, strict=True):
        verdict = "right" if value else "wrong"
        if verdict != records[i].verdict:
            records[i].notes.append(f"alone it is {records[i].verdict}")
        records[i].verdict = verdict
    return records


def summary(cases: Sequence[Case], records: Sequence[Record]) -> dict[str, Any]:
    """Return the figures. A skipped sample counts as wrong; a hang, an exception and a crash are always mistakes."""
    counted = [(case, record) for case, record in zip(cases, records, strict=True) if case.counts]
    figures: dict[str, Any] = {"cases": len(counted)}
    kinds: dict[str, dict[str, int]] = {}
    for mode in ("lenient", "strict"):
        verdicts: Counter[str] = Counter()
        for case, record in counted:
            given = "wrong" if record.verdict == "skipped" else record.verdict
            expected = case.lenient if mode == "lenient" else case.strict
            kind = kinds.setdefault(case.kind, {"cases": 0, "lenient": 0, "strict": 0})
            kind["cases"] += mode == "lenient"
            kind[mode] += given == expected
            verdicts["agree"] += given == expected
            verdicts["false_positive"] += given == "right" != expected
            verdicts["false_negative"] += given == "wrong" != expected
        figures[mode] = {"accuracy": verdicts["agree"] / len(counted), **verdicts}
    every = Counter(record.verdict for record in records)
    return figures | {
        "hangs": every["hang"],
        "exceptions": every["exception"],
        "crashes": every["crash"],
        "skipped": every["skipped"],
        "own_timeouts": sum(any("Timeout" in note for note in record.notes) for record in records),
        "executed": sum(any("executed" in note for note in record.notes) for record in records),
        "alone_differs": sum(any("alone" in note for note in record.notes) for record in records),
        "over_2_s": sum(record.seconds > 2 for record in records),
        "slowest_s": max(record.seconds for record in records),
        "total_s": sum(record.seconds for record in records),
        "kinds": kinds,
    }


# Speed


def numerals(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Return boxed numerals, every other one right, and their references."""
    generator = random.Random(seed)
    references = [generator.randrange(1_000_000) for _ in range(count)]
    return [rf"\boxed{{{n + i % 2}}}" for i, n in enumerate(references)], references


def rate(call: Callable[[int], int]) -> list[float]:
    """Return the items per second of each round; `call` does one and returns how many items it had."""
    rates = []
    for number in range(ROUNDS):
        start = perf_counter()
        items = call(number)
        rates.append(items / (perf_counter() - start))
    return rates


def measure(batch: Batch, cases: Sequence[Case]) -> dict[str, Any]:
    """Return numerals and expressions per second, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    batch([r"\boxed{\frac{1}{2}}", r"\boxed{(x+1)^2}"], ["0.5", "x^2+2x+1"])
    numeral_rounds = [numerals(2000, seed) for seed in range(ROUNDS)]
    chosen = [case for case in cases if case.kind in EXPRESSION_KINDS]
    completions, references = [case.completion for case in chosen], [case.reference for case in chosen]
    numeral_rates = rate(lambda number: len(batch(*numeral_rounds[number])))
    expression_rates = rate(lambda _: len(batch(completions, references)))
    return {
        "numerals_per_s": statistics.median(numeral_rates),
        "numeral_rounds": numeral_rates,
        "expressions": len(chosen),
        "expressions_per_s": statistics.median(expression_rates),
        "expression_rounds": expression_rates,
        "load_average": os.getloadavg(),
    }


def one_by_one(check: Check) -> Batch:
    """Make a batch call of a peer's check."""
    return lambda completions, references: [
        check(completion, str(reference)) for completion, reference in zip(completions, references, strict=True)
    ]


# Differences


def differential(ours_path: Path, peer_path: Path, out: Path) -> int:
    """Write the counted cases that the lenient reward and a peer judge differently, and return how many."""
    ours_file, peer_file = (json.loads(path.read_text(encoding="utf8")) for path in (ours_path, peer_path))
    our, (name, peer) = ours_file["variants"]["ours, lenient"], next(iter(peer_file["variants"].items()))
    lines = [f"kind\tcompletion\treference\tours\t{name}\ttable\tright one\twhy"]
    marks = str.maketrans({"\n": "⏎", "\t": "␉", "\0": "␀"})
    for case, mine, other in zip(ours_file["cases"], our["records"], peer["records"], strict=True):
        if case["kind"].endswith("?") or mine["verdict"] == other["verdict"]:
            continue
        agree = [who for who, record in (("ours", mine), (name, other)) if record["verdict"] == case["lenient"]]
        texts = [case["completion"].translate(marks), case["reference"].translate(marks)]
        verdicts = [mine["verdict"], other["verdict"], case["lenient"], agree[0] if agree else "neither"]
        lines.append("\t".join([case["kind"], *texts, *verdicts, case["why"]]))
    out.write_text("\n".join(lines) + "\n", encoding="utf8")
    return len(lines) - 1


# The command line


def versions() -> dict[str, str]:
    """Return what this ran on."""
    installed = {"python": platform.python_version(), "machine": platform.platform()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except ImportError:
            continue
    return installed


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Return the figures of several variants as a Markdown table."""
    rows = [
        "| checker | lenient | false + | false - | strict | false + | false - | hangs | errors | skipped | slowest s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of in figures.items():
        cells = [name]
        for mode in ("lenient", "strict"):
            cells += [f"{of[mode]['accuracy']:.1%}", of[mode]["false_positive"], of[mode]["false_negative"]]
        cells += [of["hangs"], of["exceptions"] + of["crashes"], of["skipped"], f"{of['slowest_s']:.2f}"]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> None:
    """Run one peer, or compare the results of two."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", choices=["ours", *PEERS])
    parser.add_argument("--cases", type=Path, nargs="+", help="tables of cases")
    parser.add_argument("--speed", action="store_true", help="measure the speed instead of the verdicts")
    parser.add_argument("--differential", type=Path, nargs=2, metavar=("OURS", "PEER"), help="two files of results")
    parser.add_argument("--out", type=Path, help="where the result is written")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve)
    if not arguments.out:
        parser.error("--out is missing")
    if arguments.differential:
        print(differential(*arguments.differential, arguments.out), "differences")
        return None
    if not arguments.peer or not arguments.cases:
        parser.error("--peer and --cases are needed")
    cases = read_cases(arguments.cases)
    result: dict[str, Any] = {"versions": versions(), "variants": {}}
    mine = arguments.peer == "ours"
    if arguments.speed:
        for name in OURS if mine else PEERS[arguments.peer]:
            batch = OURS[name]() if mine else one_by_one(PEERS[arguments.peer][name]())
            result["variants"][name] = figures = measure(batch, cases)
            per_second = (
                f"{figures['numerals_per_s']:,.0f} numerals/s, {figures['expressions_per_s']:,.1f} expressions/s"
            )
            print(f"{name}: {per_second}")
    else:
        result["cases"] = [asdict(case) for case in cases]
        tables = sorted({case.table for case in cases})
        for name in OURS if mine else PEERS[arguments.peer]:
            records = judge_batch(OURS[name](), cases) if mine else judge_all(name, cases)
            figures = {"all": summary(cases, records)}
            for one in tables:
                pairs = [pair for pair in zip(cases, records, strict=True) if pair[0].table == one]
                figures[one] = summary([case for case, _ in pairs], [record for _, record in pairs])
            records_as_dicts = [asdict(record) for record in records]
            result["variants"][name] = {"summary": figures, "records": records_as_dicts}
        for one in ("all", *tables):
            print(f"\n{one}\n\n{table({name: of['summary'][one] for name, of in result['variants'].items()})}")
    arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=True), encoding="utf8")
    return None


if __name__ == "__main__":
    main()
