"""Where our lenient verdict and Math-Verify's differ: only in the cases of `math_verify_differences.tsv`.

Each of these has the reason why ours is right. Math-Verify is a test-only dependency.
"""

import csv
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from rewards.workers.pool import JobStatus, WorkerPool

pytest.importorskip("math_verify", reason="the differential test needs math-verify (the extra `dev`)")

HERE = Path(__file__).parent
LISTED_WITH = "0.9.0"
CONTROL = str.maketrans({"⏎": "\n", "␉": "\t", "␀": "\0"})
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))  # the worker processes get this path


def table(name):
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def differences():
    # Hostile texts take Math-Verify the five seconds of its own timeout, one by one.
    rows = [row for row in table("math_cases.tsv") if row["kind"] != "hostile"]
    jobs = [(row["completion"].translate(CONTROL), row["reference"].translate(CONTROL)) for row in rows]
    with WorkerPool("math_verify_peer:judge", deadline=20.0, memory=2 * 2**30) as pool:
        results = pool.map(jobs)
    assert sum(result.status is JobStatus.DONE for result in results) > 0.99 * len(results)
    verdicts = {True: "right", False: "wrong"}
    return {
        (row["completion"], row["reference"]): (row["lenient"], verdicts[result.value])
        for row, result in zip(rows, results, strict=True)
        if result.status is JobStatus.DONE and verdicts[result.value] != row["lenient"]
    }


@pytest.mark.skipif(version("math-verify") != LISTED_WITH, reason=f"the list was made with math-verify {LISTED_WITH}")
def test_each_difference_is_listed_with_its_reason(differences):
    listed = {
        (row["completion"], row["reference"]): (row["ours"], row["theirs"])
        for row in table("math_verify_differences.tsv")
        if row["kind"] != "hostile"
    }
    assert differences == listed


def test_each_difference_has_a_reason_and_our_verdict_is_the_tables():
    expected = {(row["completion"], row["reference"]): row["lenient"] for row in table("math_cases.tsv")}
    rows = table("math_verify_differences.tsv")
    assert len(rows) > 150
    for row in rows:
        assert row["reason"].strip()
        assert expected[row["completion"], row["reference"]] == row["ours"] != row["theirs"]
