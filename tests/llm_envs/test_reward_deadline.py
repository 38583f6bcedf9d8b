"""A reward that does not return ends its process, whatever it does."""

from __future__ import annotations

import subprocess
import sys
import time

import gymnasium
import pytest

from llm_envs import Problem, register_task
from llm_envs.env import CompletionEnv
from llm_envs.reward_deadline import end_process_after, watched
from llm_envs.stream import ProblemStream
from rewards import Outcome, RewardResult

PROGRAM = """
import re, subprocess, sys, threading, time
from pathlib import Path
from llm_envs.reward_deadline import end_process_after
from llm_envs.scoring import score_completions

def sleeps():
    time.sleep(10**6)

def pattern():
    re.match(r"(a+)+$", "a" * 60 + "b")

def loops():
    while True:
        pass

def retries():
    while True:
        try:
            time.sleep(10**6)
        except BaseException:
            pass

def waits_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def waits_for_a_thread():
    thread = threading.Thread(target=sleeps)
    thread.start()
    thread.join()

def waits_for_a_process():
    # it outlives this process, and would keep its outputs open
    nowhere = subprocess.DEVNULL
    subprocess.run([sys.executable, "-c", "import time; time.sleep(20)"], stdout=nowhere, stderr=nowhere)

def huge_power():
    9 ** 9 ** 9

blocks = globals()[sys.argv[1]]
with end_process_after(0.5, Path(sys.argv[2])):
    score_completions(lambda prompts, completions, references: blocks(), ["a"], ["b"], ["c"])
print("it went on")
"""


@pytest.mark.parametrize(
    "kind",
    [
        *("sleeps", "pattern", "loops", "retries", "waits_for_a_lock", "waits_for_a_thread", "waits_for_a_process"),
        "huge_power",
    ],
)
def test_the_process_ends_with_one_line_and_a_traceback_in_a_file(kind, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), kind, str(tmp_path / "where.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().startswith(
        "llm-envs: a reward did not return within its deadline of 0.5 seconds. It was"
    )
    assert done.stderr.strip().count("\n") == 0
    assert "raise --reward-deadline" in done.stderr
    assert f"in {kind}" in (tmp_path / "where.txt").read_text()


def test_what_is_in_time_is_left_alone(tmp_path):
    file = tmp_path / "where.txt"
    with end_process_after(0.5, file):
        for _ in range(3):
            with watched():
                time.sleep(0.01)
        time.sleep(0.7)  # between two calls no deadline runs
    with end_process_after(None, file), watched():
        pass
    with watched():  # outside there is none
        pass
    assert not file.exists()


@pytest.mark.parametrize(
    ("raised", "noted"), [(KeyError("x"), KeyError), (OSError("disk"), OSError), (ValueError(), ValueError)]
)
def test_what_a_reward_raises_keeps_its_type_and_names_the_reward(raised, noted):
    def my_reward(prompts, completions, references):
        raise raised

    problems = ProblemStream(
        lambda rng: Problem(f"What is {rng.integers(1000)}?", reference="1"), my_reward, "train", None
    )
    env = CompletionEnv(problems, my_reward)
    env.reset(seed=0)
    with pytest.raises(noted) as caught:
        env.step("1")
    assert caught.value is raised
    [note] = caught.value.__notes__
    assert note.startswith(f"Raised by the reward {__name__}.")
    assert "my_reward, called with 1 completions" in note


def test_a_result_that_is_none_is_refused_where_it_is_made():
    @register_task("test/NoneReward-v0", reward=lambda p, c, r: [RewardResult(None, Outcome.CORRECT)])  # type: ignore[arg-type]
    def sampler(rng):
        return Problem(f"What is {rng.integers(1000)}?", reference="1")

    env = gymnasium.make("test/NoneReward-v0")
    env.reset(seed=0)
    with pytest.raises(TypeError, match="the reward must be a number"):
        env.step("1")
    del gymnasium.registry["test/NoneReward-v0"]
