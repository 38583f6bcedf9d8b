"""Several processes: what each computes, and that together they do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import GRPOAgent
from agents.distributed import Ranks
from llm_envs import register_curriculum

HERE = Path(__file__).parent


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run two processes of a script beside this file, or with `-m` of a module."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launcher += ["--nproc-per-node", "2"]
    program = arguments if arguments[0] == "-m" else [str(HERE / arguments[0]), *arguments[1:]]
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *program], env=environment, capture_output=True, text=True, timeout=400)


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_the_whole(items, size):
    shares = [Ranks(rank, size).share(range(items)) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(2, 9), st.integers(1, 5))
def test_micro_batches_have_every_group_once_and_are_as_many_on_each_rank(tokens, size, groups):
    indices = torch.arange(len(tokens)) + 100
    parts = [Ranks(rank, size).micro_batches(indices, tokens, lambda part: len(part) <= groups) for rank in range(size)]
    assert len(set(map(len, parts))) == 1
    found = [int(i) for rank in parts for part in rank if part is not None for i in part]
    assert sorted(found) == indices.tolist()
    assert all(len(part) <= groups for rank in parts for part in rank if part is not None)
    loads = [sum(tokens[int(i) - 100] for part in rank if part is not None for i in part) for rank in parts]
    assert max(loads) - min(loads) <= max(tokens)


def test_one_process_takes_the_groups_in_their_order():
    parts = Ranks().micro_batches(torch.tensor([4, 2, 7]), [1, 9, 5], lambda part: len(part) <= 2)
    assert [part.tolist() for part in parts if part is not None] == [[4, 2], [7]]


def test_a_process_that_was_to_have_others_and_is_alone_says_so(tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    script = tmp_path / "script.py"
    script.write_text("from agents.distributed import Ranks\nprint(Ranks.current())\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([*launcher, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "torchrun --nproc-per-node" in done.stderr


def test_two_processes_have_the_gradients_and_figures_of_one():
    done = torchrun("two_ranks.py")
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_go_on_from_a_checkpoint_and_one_can_read_it(parallel, tmp_path):
    done = torchrun("train_ranks.py", str(tmp_path / "checkpoint"), parallel)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-4000:]
    agent = GRPOAgent.load(tmp_path / "checkpoint")
    assert (agent.num_updates, agent.num_episodes) == (3, 60)
    agent.learn(80)
    assert agent.num_updates == 4


def test_a_rank_that_is_killed_ends_the_others(tmp_path):
    done = torchrun("train_ranks.py", str(tmp_path / "checkpoint"), "ddp", "kill")
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL)" in done.stderr
    assert not (tmp_path / "checkpoint").exists()


SMALL = [
    "--prompts-per-update", "4", "--group-size", "4", "--max-completion-tokens", "24", "--eval-problems", "3",
    "--eval-samples", "2", "--device", "cpu",
]  # fmt: skip


def test_the_command_line_trains_and_goes_on_in_two_processes(tmp_path):
    run = tmp_path / "run"
    done = torchrun("-m", "agents.cli", "train", *SMALL, "--total-episodes", "32", "--run-dir", str(run))
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("Run folder:") == 1  # one process prints
    done = torchrun("-m", "agents.cli", "train", "--resume", "--run-dir", str(run), "--total-episodes", "48")
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [1, 2, 3]
    report = json.loads((run / "evaluation_after.json").read_text())
    assert (report["problems"], len(report["sampled_rollouts"])) == (3, 6)
    assert json.loads((run / "config.json").read_text())["ran_on"]["processes"] == 2


def test_mistakes_in_two_processes_are_said_once(tmp_path):
    done = torchrun("-m", "agents.cli", "evaluate", "builtin/tiny", "--env", "llm_envs/Arithmetic-v0")
    assert done.returncode != 0
    assert done.stderr.count("runs in one process, and 2 were started") == 1


def test_one_process_shards_nothing():
    with pytest.raises(ValueError, match="torchrun"):
        GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", parallel="fsdp2")


def test_a_task_with_a_state_is_trained_in_one_process(monkeypatch):
    register_curriculum("test/Climb-v0", "llm_envs/Arithmetic-v0", [{"operands": 2}, {"operands": 3}], threshold=0.5)
    monkeypatch.setattr(Ranks, "current", lambda: Ranks(1, 2))
    with pytest.raises(ValueError, match="train it in one process"):
        GRPOAgent("builtin/tiny", "test/Climb-v0")
    del gymnasium.registry["test/Climb-v0"]


def test_weights_that_are_lost_end_a_run_before_the_next_update():
    agent = GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0")

    def lose(record):
        next(agent.policy.model.parameters()).data.view(-1)[0] = float("nan")

    with pytest.raises(FloatingPointError, match="before update 2"):
        agent.learn(2 * 256, lose)
