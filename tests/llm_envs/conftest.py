"""A plain stand-in for the sandbox: it runs this repository's own solutions, and no one else's, in the test process."""

from __future__ import annotations

import contextlib
import io
import re

import pytest

from rewards.code import CodeTestsReward
from rewards.code.sandbox import Limits


def passes(completion: str, reference) -> bool:
    """Whether the last fenced block, or else the completion behind the prefix, passes the tests."""
    blocks = re.findall(r"```python\n(.*?)```", completion, re.DOTALL)
    source = blocks[-1] if blocks else reference.get("prefix", "") + completion
    names = {"__name__": "__main__"}
    try:
        if reference["kind"] == "program":
            return all(run_program(source, case["stdin"]) == case["stdout"] for case in reference["cases"])
        exec(source, names)  # noqa: S102 (our own solutions)
        function = names[reference["entry_point"]]
        if reference["kind"] == "check":
            for check in reference["checks"]:
                tests = {reference["entry_point"]: function}  # one check of HumanEval calls it by its name
                exec(reference["setup"] + "\n" + check, tests)  # noqa: S102 (our own tests)
                tests["check"](function)
            return True
        values = [function(*case["args"], **case["kwargs"]) for case in reference["cases"]]
        expected = [case["expected"] for case in reference["cases"]]
        return values == expected and list(map(type, values)) == list(map(type, expected))
    except Exception:  # noqa: BLE001 (whatever a wrong program raises)
        return False


def run_program(source: str, stdin: str) -> str:
    lines, out = io.StringIO(stdin), io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(source, {"__name__": "__main__", "input": lambda: lines.readline().rstrip("\n")})  # noqa: S102
    return out.getvalue()


@pytest.fixture
def run_solution():
    """The stand-in's verdict on a completion and a reference."""
    return passes


@pytest.fixture
def short_limits(monkeypatch):
    """Programs are ended after a second of CPU time: an audit has some that would run for ever."""
    limits = Limits(cpu_seconds=1.0, wall_seconds=3.0)
    monkeypatch.setattr(CodeTestsReward, "limits", property(lambda self: limits))
