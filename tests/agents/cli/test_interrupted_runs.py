"""Runs that are killed, terminated, started twice, or whose reward blocks or raises."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.cli.app import run
from agents.run_lock import LOCK_FILE, RunInUse, run_lock
from agents.tracking.metrics_files import read_metrics
from agents.tracking.training_warnings import read_warnings
from tests.started import Started

SMALL = [
    "--prompts-per-update", "4", "--group-size", "4", "--max-completion-tokens", "24", "--device", "cpu",
    "--eval-problems", "5", "--eval-samples", "2",
]  # fmt: skip
TASKS = """
import re
from llm_envs import Problem, register_task
from rewards import Outcome, RewardResult

def hangs(prompts, completions, references):
    re.match(r"(a+)+$", "a" * 60 + "b")

def looks_up(prompts, completions, references):
    return [RewardResult({}[completion], Outcome.CORRECT) for completion in completions]

def opens(prompts, completions, references):
    return open("/nowhere/at/all")

def is_none(prompts, completions, references):
    return [RewardResult(None, Outcome.CORRECT) for _ in completions]

class Judge:
    def __call__(self, prompts, completions, references):
        raise RuntimeError("the server is down\\nfor today")

for number, reward in enumerate((hangs, looks_up, opens, is_none, Judge())):
    @register_task(f"demo/Reward{number}-v0", reward=reward)
    def sampler(rng):
        return Problem(f"What is {rng.integers(1000)}?", reference="1")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a module of tasks."""
    (tmp_path / "my_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*words: object, **options) -> Started:
    return Started(["-m", "agents.cli", "train", *words], **options)


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("signals", "code"), [(["SIGTERM"], 143), (["SIGHUP", "SIGHUP"], 129)])
def test_a_run_that_is_terminated_finishes_its_update_and_saves(signals, code, folder):
    process = start(*SMALL, "--total-episodes", 100_000, "--run-dir", "run", "--checkpoint-every", 1_000)
    try:
        wait_for(lambda: len(read_metrics("run")) >= 2, process)
        for name in signals:
            process.send_signal(getattr(signal, name))
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, error
    assert f"Stopped by {signals[0]}; what was learned is saved" in out
    assert "--resume --run-dir run" in out
    assert "Held-out accuracy" not in out
    state = json.loads(Path("run/checkpoint/agent.json").read_text())
    assert state["num_updates"] == len(read_metrics("run")) >= 2
    assert not Path("run", LOCK_FILE).exists()
    assert not error


def test_a_run_under_nohup_does_not_hear_that_its_terminal_closed(folder):
    process = start(
        *(*SMALL, "--total-episodes", 100_000, "--run-dir", "run"),
        ignored=[signal.SIGHUP],
    )
    try:
        wait_for(lambda: len(read_metrics("run")) >= 1, process)
        process.send_signal(signal.SIGHUP)
        updates = len(read_metrics("run"))
        wait_for(lambda: len(read_metrics("run")) >= updates + 3, process)
    finally:
        process.kill()
        process.communicate()


# -- kills -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nothing handles it."""


ONE_UPDATE = [*SMALL, "--total-episodes", "16"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    assert run(["train", *ONE_UPDATE, "--run-dir", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "place",
    [
        "agents.checkpoint.policy_record",  # with a config.json, and no checkpoint yet
        "agents.checkpoint.save_file",
        "agents.checkpoint._write_sums",
        "agents.cli.training_run.evaluate",
        "agents.evaluation.held_out.EvaluationReport.save",
        "agents.tracking.metrics_files.MetricsWriter._write_csv",
        "agents.grpo.agent.GRPOAgent._step",
        "agents.cli.training_run.run_report.plot_learning_curve",
    ],
)
def test_a_run_that_ends_anywhere_is_gone_on_with(place, straight, tmp_path, monkeypatch):
    stopped = tmp_path / "stopped"

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(place, kill)
        with pytest.raises(Killed):
            run(["train", *ONE_UPDATE, "--run-dir", str(stopped)])
    assert run(["train", "--resume", "--run-dir", str(stopped)]) == 0
    for name in ("checkpoint/policy/model.safetensors", "checkpoint/optimizer.safetensors", "evaluation_before.json"):
        assert (stopped / name).read_bytes() == (straight / name).read_bytes()
    assert len(read_metrics(stopped)) == 1


def test_a_run_that_was_killed_before_it_began_is_started_by_its_own_command(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).write_text("{")
    (tmp_path / "run" / "config.json.new").write_text("{")
    assert run(["train", "--resume", "--run-dir", str(tmp_path / "run")]) == 2
    assert "has none" in capsys.readouterr().err
    assert run(["train", *SMALL, "--total-episodes", "16", "--run-dir", str(tmp_path / "run")]) == 0
    assert not (tmp_path / "run" / LOCK_FILE).exists()


# -- two at once -----------------------------------------------------------------------------------------------------

HOLD = "import sys, time; from pathlib import Path; from agents.run_lock import run_lock\n"
HOLD += "with run_lock(Path(sys.argv[1])):\n    print('locked', flush=True)\n    time.sleep(600)"


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_a_second_process_is_refused_and_told_of_the_first(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(["train", *SMALL, "--total-episodes", "16", "--run-dir", str(run_dir)]) == 0
    rows = len(read_metrics(run_dir))
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run_dir)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        capsys.readouterr()
        assert run(["train", "--resume", "--run-dir", str(run_dir), "--total-episodes", "32"]) == 2
        assert f"is in use by process {other.pid} on " in capsys.readouterr().err
        with pytest.raises(RunInUse, match=str(other.pid)), run_lock(run_dir):
            pass
        assert run(["evaluate", str(run_dir), "--problems", "2", "--samples", "1"]) == 0  # it only reads
        other.kill()
    assert len(read_metrics(run_dir)) == rows
    assert (run_dir / LOCK_FILE).exists()  # left behind by the kill, and nobody's
    assert run(["train", "--resume", "--run-dir", str(run_dir), "--total-episodes", "32"]) == 0
    assert len(read_metrics(run_dir)) == rows + 1


def test_a_lock_is_not_taken_twice_by_one_process_and_ends_with_its_block(tmp_path):
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
        with pytest.raises(RunInUse, match="this process"), run_lock(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    with run_lock(tmp_path / "new" / "folder"):
        pass


def test_a_child_that_was_forked_does_not_keep_the_lock(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from agents.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n"
        "    if (pid := os.fork()) == 0:\n"
        "        os.close(1)\n"
        "        time.sleep(600)\n"
        "    print(pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False)
    child = int(done.stdout)
    try:
        with run_lock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


# -- rewards ---------------------------------------------------------------------------------------------------------


def test_a_reward_that_blocks_ends_the_command_at_its_deadline(folder):
    task = ["--env", "my_tasks:demo/Reward0-v0", "--reward-deadline", "2"]
    process = start(*SMALL, *task, "--run-dir", "run")
    try:
        _, error = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 1
    assert error.strip().startswith("llm-envs: a reward did not return within its deadline of 2 seconds. It was in ")
    assert error.strip().count("\n") == 0
    assert "my_tasks.py" in error
    assert "my_tasks.py" in Path("run/reward_deadline.txt").read_text()
    assert Path("run/checkpoint/agent.json").is_file()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "KeyError: "),
        (2, "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/at/all'"),
        (3, "TypeError: the reward must be a number, such as 1.0, got None"),
        (4, "RuntimeError: the server is down for today. Raised by the reward my_tasks.Judge"),
    ],
)
def test_a_reward_that_raises_is_one_line_and_a_traceback_in_a_file(number, said, folder, monkeypatch, capsys):
    monkeypatch.syspath_prepend(folder)
    assert run(["train", *SMALL, "--env", f"my_tasks:demo/Reward{number}-v0", "--run-dir", "run"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"llm-envs: {said}")
    assert "Raised by the reward my_tasks." in error
    assert error.endswith("The traceback is in run/traceback.txt\n")
    assert error.count("\n") == 1
    assert "Traceback (most recent call last)" in Path("run/traceback.txt").read_text()
    assert run(["evaluate", "builtin/tiny", "--env", f"my_tasks:demo/Reward{number}-v0", "--problems", "2"]) == 1
    error = capsys.readouterr().err
    file = Path(error.strip().rpartition(" ")[2])
    assert "my_tasks.py" in file.read_text()
    file.unlink()


# -- warnings --------------------------------------------------------------------------------------------------------


def test_a_run_that_learns_nothing_says_so_once_and_in_its_report(tmp_path, capsys):
    words = ["--env-args", "operands=4", "--max-completion-tokens", "4", "--total-episodes", "128"]
    assert run(["train", *SMALL, *words, "--run-dir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert {row["kind"] for row in read_warnings(tmp_path / "run")} == {"no_differences", "truncated"}
    while_it_learned, _, report = out.partition("Held-out accuracy")
    for part in (while_it_learned, report):
        assert part.count("Warning: ") == 2
        assert part.count("Raise max_completion_tokens") == 1


def test_a_run_that_diverges_ends_with_one_line_and_keeps_its_checkpoint(tmp_path, capsys):
    words = ["--learning-rate", "1e3", "--total-episodes", "160", "--run-dir", str(tmp_path / "run")]
    assert run(["train", *SMALL, *words]) == 1
    error = capsys.readouterr().err
    assert "not finite" in error
    assert "ower the learning rate" in error
    assert error.count("\n") == 1
    assert read_warnings(tmp_path / "run")[-1]["kind"] == "diverged"
    assert run(["evaluate", str(tmp_path / "run"), "--problems", "2", "--samples", "1"]) == 0
