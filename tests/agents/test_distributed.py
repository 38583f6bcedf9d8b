"""Several processes: what each computes, and that together they do what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents import GRPOAgent, LanguageModelPolicy, distributed
from agents.cli.app import run as main
from agents.distributed import Ranks
from agents.policies import load_policy
from llm_envs import register_curriculum
from tests.started import run_ranks

HERE = Path(__file__).parent


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start two processes of a script beside this file, or with `-m` of a module."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launcher += ["--nproc-per-node", "2"]
    program = arguments if arguments[0] == "-m" else [str(HERE / arguments[0]), *arguments[1:]]
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([*launcher, *program], env=environment, stdout=pipe, stderr=pipe, text=True)


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run what `start` starts to its end."""
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        process.terminate()  # the launcher ends what it has started
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


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


def test_slurm_says_who_the_processes_are(tmp_path):
    """Two processes as `srun` starts them, on one of the hosts of a step; `scontrol` names the hosts."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[1-2]" ] && echo 127.0.0.1\n', encoding="utf-8")
    scontrol.chmod(0o755)
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom agents.distributed import Ranks\nranks = Ranks.current()\n"
        "print(ranks.gather([(ranks.rank, ranks.size, os.environ['LOCAL_WORLD_SIZE'])]))\n",
        encoding="utf-8",
    )
    shared = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    shared |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(HERE.parents[1])}
    shared |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_STEP_NUM_TASKS": "2"}
    shared |= {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "0", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env={**shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert out == "[(0, 2, '2'), (1, 2, '2')]\n", err[-4000:]


@pytest.mark.parametrize(
    ("counts", "host", "tasks"), [("4", 0, 4), ("4(x2),3", 1, 4), ("4(x2),3", 2, 3), ("1,2", 1, 2)]
)
def test_slurms_list_of_tasks_is_read(monkeypatch, counts, host, tasks):
    monkeypatch.setenv("SLURM_NODEID", str(host))
    assert distributed._tasks_of_host(counts) == tasks


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "asked for FSDP, which has no effect here: parallel="),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "asked for DeepSpeed"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed precision fp16, .* computes in float32"),
        ({"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_FSDP": "false"}, None),
    ],
)
def test_what_accelerate_was_asked_for_and_is_not_used_is_said(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings() if said is None else pytest.warns(UserWarning, match=said):
        warnings.simplefilter("error" if said is None else "always")
        GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0")


def test_two_processes_have_the_gradients_and_figures_of_one():
    for done in run_ranks(HERE / "two_ranks.py"):
        assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_processes_go_on_from_a_checkpoint_and_one_can_read_it(parallel, tmp_path):
    first, second = run_ranks(HERE / "train_ranks.py", tmp_path / "checkpoint", parallel)
    assert (first.returncode, first.stdout) == (0, "the same\n"), first.stderr[-4000:]
    assert (second.returncode, second.stdout) == (0, ""), second.stderr[-4000:]
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


def test_the_command_line_trains_in_two_processes_and_goes_on_in_two_and_in_one(tmp_path, monkeypatch):
    run = tmp_path / "run"
    sharded = [*SMALL, "--parallel", "fsdp2", "--cpu-offload", "--run-dir", str(run)]
    done = torchrun("-m", "agents.cli", "train", *sharded, "--total-episodes", "32")
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("Run folder:") == 1  # one process prints
    for done in run_ranks("-m", "agents.cli", "train", "--resume", "--run-dir", run, "--total-episodes", 48):
        assert done.returncode == 0, done.stderr[-4000:]
    monkeypatch.setattr("agents.hardware.use_threads", lambda *_: 1)  # those of the other tests stay
    assert main(["train", "--resume", "--run-dir", str(run), "--total-episodes", "64"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    report = json.loads((run / "evaluation_after.json").read_text())
    assert (report["problems"], len(report["sampled_rollouts"])) == (3, 6)
    assert json.loads((run / "config.json").read_text())["ran_on"]["processes"] == 2
    model = AutoModelForCausalLM.from_pretrained(run / "checkpoint" / "policy")
    tokenizer = AutoTokenizer.from_pretrained(run / "checkpoint" / "policy")
    ids = tokenizer("What is 2 + 2?", return_tensors="pt").input_ids
    expected = GRPOAgent.load(run / "checkpoint").policy.model(ids).logits
    assert torch.equal(model(ids).logits, expected)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_torchrun_ends_all_processes_after_the_update_and_saves(signum, tmp_path):
    run = tmp_path / "run"
    # a process started under nohup ignores the signal, and those that it starts would ignore it too
    before = signal.signal(signum, signal.SIG_DFL)
    try:
        process = start("-m", "agents.cli", "train", *SMALL, "--total-episodes", "100000", "--run-dir", str(run))
    finally:
        signal.signal(signum, before)
    try:
        give_up = time.monotonic() + 300
        while not (run / "metrics.jsonl").is_file() and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.2)
        process.send_signal(signum)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode != 0  # torchrun's own, which also has a traceback of its own
    assert err.count("Traceback (most recent call last)") == 1, err[-4000:]
    assert "SignalException" in err
    assert out.count("Stopped") == 1, out[-4000:]
    updates = len((run / "metrics.jsonl").read_text().splitlines())
    assert json.loads((run / "checkpoint" / "agent.json").read_text())["num_updates"] == updates >= 1
    assert (run / "evaluation_after.json").exists() == (signum == signal.SIGINT)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("OSError('no space is left on the second host')", "llm-envs: no space is left on the second host"),
        ("RuntimeError('the second host is broken')", "RuntimeError: the second host is broken"),
    ],
)
def test_a_rank_that_fails_says_why_and_ends_the_others(raised, said, tmp_path, monkeypatch):
    (tmp_path / "failing_callback.py").write_text(
        "def fail(record):\n    import torch.distributed as dist\n"
        f"    if record.update == 2 and dist.get_rank() == 1:\n        raise {raised}\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    options = [*SMALL, "--total-episodes", "160", "--run-dir", str(run), "--callback", "failing_callback:fail"]
    done = torchrun("-m", "agents.cli", "train", *options)
    assert done.returncode != 0
    assert done.stderr.count(said) == 1, done.stderr[-4000:]
    assert done.stderr.count("Traceback (most recent call last)") <= 1 + ("RuntimeError" in raised)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    assert GRPOAgent.load(run / "checkpoint").num_updates == 0


def test_mistakes_in_two_processes_are_said_once(tmp_path):
    done = run_ranks("-m", "agents.cli", "evaluate", "builtin/tiny", "--env", "llm_envs/Arithmetic-v0")
    assert all(one.returncode for one in done)
    assert "".join(one.stderr for one in done).count("runs in one process, and 2 were started") == 1


@pytest.mark.parametrize("asked", [{"parallel": "fsdp2"}, {"cpu_offload": True}])
def test_one_process_shards_nothing(asked):
    with pytest.raises(ValueError, match="torchrun"):
        GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", **asked)


def test_ddp_offloads_nothing(monkeypatch):
    monkeypatch.setattr(Ranks, "current", lambda: Ranks(0, 2))
    with pytest.raises(ValueError, match="cpu_offload=True is of parallel='fsdp2'"):
        GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", parallel="ddp", cpu_offload=True)


def policy_of(model: nn.Module, device: torch.device, load_in: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        model=model,
        device=device,
        load_in=load_in,
        has_reference_elsewhere=False,
        trainable_parameters=model.named_parameters,
    )


@pytest.mark.parametrize(
    ("asked", "device", "memory", "found"),
    [
        ("auto", "cpu", None, "ddp"),
        ("fsdp2", "cpu", None, "fsdp2"),
        ("auto", "cuda", 2.1, "ddp"),  # times what weights, gradients and moments take
        ("auto", "cuda", 1.9, "fsdp2"),
        ("ddp", "cuda", 1.9, "ddp"),
    ],
)
def test_auto_shards_what_would_take_more_than_half_of_a_device(monkeypatch, asked, device, memory, found):
    weights = nn.Linear(100, 100)
    policy = policy_of(weights, torch.device(device))
    if memory is not None:
        has = SimpleNamespace(total_memory=memory * 16 * 10_100)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: has)
    assert distributed._resolved(asked, policy) == found


def test_auto_shards_nothing_that_cannot_be_sharded_or_needs_no_moments(monkeypatch):
    memory = SimpleNamespace(total_memory=1.9 * 16 * 10_100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    cuda = torch.device("cuda")
    assert distributed._resolved("auto", policy_of(nn.Linear(100, 100), cuda)) == "fsdp2"
    assert distributed._resolved("auto", policy_of(nn.Linear(100, 100), cuda, load_in="4bit")) == "ddp"
    assert distributed._resolved("auto", policy_of(nn.Linear(100, 100).bfloat16(), cuda)) == "ddp"
    assert distributed._resolved("auto", policy_of(nn.Linear(100, 100).requires_grad_(False), cuda)) == "ddp"


def test_a_model_that_lies_on_several_devices_is_refused():
    policy = load_policy("builtin/tiny")
    policy.model.hf_device_map = {"model.embed_tokens": 0, "model.layers": 1, "lm_head": "cpu"}
    with pytest.raises(ValueError, match=r"onto 0, 1, cpu.*one device.*fsdp2"):
        LanguageModelPolicy(policy.model, policy.tokenizer)


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
