"""Where our lenient verdict and Math-Verify's differ: only in the cases of `math_verify_differences.tsv`.

Each of these has the reason why ours is right. Math-Verify is a test-only dependency.

It takes half a minute to ask it for all rows, so `math_verify_asked.txt` says which ones were asked before, with which
verdict, as digests. This file run as a program asks for all and writes it anew.
"""

import csv
import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from rewards.workers.pool import JobStatus, WorkerPool

pytest.importorskip("math_verify", reason="the differential test needs math-verify (the extra `dev`)")

HERE = Path(__file__).parent
LISTED_WITH = "0.9.0"
ASKED = HERE / "math_verify_asked.txt"
CONTROL = str.maketrans({"⏎": "\n", "␉": "\t", "␀": "\0"})
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))  # the worker processes get this path


def table(name):
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def table_of_verdicts():
    """What the two tables say that Math-Verify pays, by completion and reference.

    Hostile texts are left out: they take Math-Verify the five seconds of its own timeout, one by one.
    """
    listed = {(row["completion"], row["reference"]): row["theirs"] for row in table("math_verify_differences.tsv")}
    rows = [row for row in table("math_cases.tsv") if row["kind"] != "hostile"]
    return {
        (row["completion"], row["reference"]): listed.get((row["completion"], row["reference"]), row["lenient"])
        for row in rows
    }


def digest(case, verdict):
    return hashlib.sha256("\t".join((*case, verdict)).encode()).hexdigest()[:16]


def ask(cases):
    """Math-Verify's verdicts, for those that it comes to in time."""
    jobs = [tuple(text.translate(CONTROL) for text in case) for case in cases]
    with WorkerPool("math_verify_peer:judge", deadline=20.0, memory=2 * 2**30) as pool:
        results = pool.map(jobs)
    assert sum(result.status is JobStatus.DONE for result in results) > 0.99 * len(results)
    verdicts = {True: "right", False: "wrong"}
    return {
        case: verdicts[result.value]
        for case, result in zip(cases, results, strict=True)
        if result.status is JobStatus.DONE
    }


@pytest.mark.skipif(version("math-verify") != LISTED_WITH, reason=f"the list was made with math-verify {LISTED_WITH}")
def test_each_difference_is_listed_with_its_reason():
    """All rows that were never asked with these verdicts, and a tenth of the others: a version's verdict stays."""
    expected = table_of_verdicts()
    asked = set(ASKED.read_text("utf-8").split())
    cases = [
        case for place, case in enumerate(expected) if place % 10 == 0 or digest(case, expected[case]) not in asked
    ]
    found = ask(cases)
    assert len(found) > 150
    assert found == {case: expected[case] for case in found}


def test_each_difference_has_a_reason_and_our_verdict_is_the_tables():
    expected = {(row["completion"], row["reference"]): row["lenient"] for row in table("math_cases.tsv")}
    rows = table("math_verify_differences.tsv")
    assert len(rows) > 150
    for row in rows:
        assert row["reason"].strip()
        assert expected[row["completion"], row["reference"]] == row["ours"] != row["theirs"]


if __name__ == "__main__":
    verdicts = table_of_verdicts()
    answers = ask(list(verdicts))
    ASKED.write_text("".join(f"{digest(*item)}\n" for item in answers.items() if verdicts[item[0]] == item[1]), "utf-8")
