"""The reward in other programs: of an ordinary user, of several trainers at once, of one that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewards.code.sandbox import sandbox_report

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
USER = 12345  # nobody's

pytestmark = pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")

# Scores each third attack, or all, and all honest programs in one shuffled batch, and prints what was not rewarded as
# expected. Of the attacks that run until their time is up there are two.
TRAINER = """
import json, os, random, sys
seed, step, user = map(int, sys.argv[1:])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
from attacks import ATTACKS, ENDLESS
from honest import HONEST
from rewards.code import CodeTestsReward
from rewards.code.sandbox import Limits, sandbox_report

grade = sandbox_report().grade
left_out = ENDLESS - {"flood: spin", "flood: sleep"}
programs = [(name, source, 0.0) for name, source in list(ATTACKS.items())[seed::step] if name not in left_out]
programs += [(name, source, 1.0) for name, source in HONEST.items()]
random.Random(seed).shuffle(programs)
cases = [{"args": [x], "kwargs": {}, "expected": x * x} for x in (2, 5, 7, 11)]
reference = {"kind": "function", "entry_point": "f", "cases": cases}
# only what never ends reaches a limit: the time in which others have the cores does not count
reward = CodeTestsReward(limits=Limits(cpu_seconds=1.0, wall_seconds=3.0), parallel=8)
completions = [f"```python\\n{source}\\n```" for _, source, _ in programs]
results = reward([""] * len(programs), completions, [reference] * len(programs))
wrong = [(name, str(r.outcome)) for (name, _, paid), r in zip(programs, results) if r.reward != paid]
print(json.dumps({"user": os.getuid(), "grade": grade, "scored": len(results), "wrong": wrong}))
"""
# Is inside four programs and the test code of one more when it is killed.
KILLED = """
from rewards.code import CodeTestsReward
from rewards.code.sandbox import Limits
reward = CodeTestsReward(limits=Limits(wall_seconds=100.0), parallel=5)
sleeps = "import time\\ndef f(x):\\n    open('left', 'w').write('x')\\n    time.sleep(100)"
function = {"kind": "function", "entry_point": "f", "cases": [{"args": [1], "expected": 1}]}
check = {"kind": "check", "entry_point": "f", "checks": ["assert candidate(1) == 1"]}
reward([""] * 5, [sleeps] * 5, [function] * 4 + [check])
"""


def start(code: str, *arguments: object, python: str = sys.executable, **env: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(HERE), *filter(None, sys.path)])
    return subprocess.Popen(
        [python, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **env},
    )


def report(trainer: subprocess.Popen[str]) -> dict:
    out, errors = trainer.communicate(timeout=300)
    assert trainer.returncode == 0, errors
    return json.loads(out)


def descendants(pid: int) -> set[int]:
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def running(pids: set[int]) -> set[int]:
    """Those that are there and no zombies."""
    found = set()
    for pid in pids:
        try:
            state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


def settled(trainer: subprocess.Popen[str]) -> set[int]:
    """The processes below a program, when six or more are there and none has come for a second."""
    until = time.monotonic() + 60
    found, since = descendants(trainer.pid), time.monotonic()
    while len(running(found)) < 6 or time.monotonic() - since < 1.0:
        assert time.monotonic() < until, "its processes do not start"
        time.sleep(0.05)
        if (now := descendants(trainer.pid)) != found:
            found, since = now, time.monotonic()
    return found


def pythons() -> list[str]:
    """This interpreter, and the system's of the same version: this one may be in root's home."""
    found = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    return [sys.executable, *([found] if found else [])]


def usable(python: str) -> bool:
    code = "import os, sys; os.setgid({0}); os.setuid({0}); import attacks, rewards.code; open(sys.executable).close()"
    trial = start(code.format(USER), python=python)
    trial.communicate(timeout=60)
    return trial.returncode == 0


def test_an_ordinary_user_has_the_same_verdicts():
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user: the whole suite runs as one")
    python = next(filter(usable, pythons()), None)
    if python is None:
        pytest.skip("another user cannot read any Python of this version, or not this project")
    found = report(start(TRAINER, 0, 1, USER, python=python))
    assert found == {"user": USER, "grade": "strong", "scored": found["scored"], "wrong": []}
    assert found["scored"] > 200


def test_several_trainers_at_once():
    trainers = [start(TRAINER, seed, 3, 0) for seed in range(3)]
    for trainer in trainers:
        assert report(trainer)["wrong"] == []


def test_a_killed_trainer_leaves_no_process_no_file_and_no_mount(tmp_path):
    mounts = Path("/proc/self/mountinfo").read_text()
    trainer = start(KILLED, TMPDIR=str(tmp_path))
    started = settled(trainer)
    assert len(running(started)) >= 6  # the zygote in its jail, the candidates, the process of the tests
    trainer.send_signal(signal.SIGKILL)
    trainer.communicate(timeout=20)
    until = time.monotonic() + 10
    while running(started) and time.monotonic() < until:
        time.sleep(0.05)
    assert running(started) == set()
    assert list(tmp_path.iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
