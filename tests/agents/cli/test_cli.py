from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from agents import load_policy
from agents.cli.app import run
from agents.cli.common import UsageError, parse_env_args
from agents.cli.failures import exit_code, one_line
from agents.evaluation.held_out import EvaluationReport
from agents.grpo.agent import GRPOAgent
from agents.policies.builtin import TINY_PATH
from agents.tracking.metrics_files import read_metrics
from tests import started

SMALL = [
    "--prompts-per-update", "4", "--group-size", "4", "--max-completion-tokens", "24", "--device", "cpu",
    "--eval-problems", "10", "--eval-samples", "2",
]  # fmt: skip


def test_train_leaves_a_whole_run_folder_that_evaluate_and_resume_read(tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(["train", *SMALL, "--total-episodes", "32", "--run-dir", str(run_dir)]) == 0
    out = capsys.readouterr().out
    assert "Held-out accuracy in % on 10 problems" in out
    assert "sampled" in out
    assert "update 2/2" in out
    names = {path.name for path in run_dir.iterdir()}
    assert names == {
        "config.json", "metrics.csv", "metrics.jsonl", "tensorboard", "completions.jsonl", "checkpoint",
        "memory.json", "evaluation_before.json", "evaluation_after.json", "learning_curve.png",
    }  # fmt: skip
    memory = json.loads((run_dir / "memory.json").read_text())
    assert memory["peak_bytes"] > 2**26
    assert memory["estimated_bytes"] > 2**20
    assert f"Memory, at most: {memory['peak_bytes'] / 2**30:.2f} GiB" in out
    config = json.loads((run_dir / "config.json").read_text())
    assert config["config"]["group_size"] == 4
    assert config["ran_on"]["packages"]["torch"]
    assert (run_dir / "learning_curve.png").read_bytes().startswith(b"\x89PNG")

    assert run(["evaluate", str(run_dir), "--problems", "10", "--samples", "2", "--device", "cpu"]) == 0
    after = EvaluationReport.load(run_dir / "evaluation_after.json")
    chat = ["--examples", "What is 5 + 3?", "8"]
    assert run(["evaluate", str(run_dir), *chat]) == 2
    captured = capsys.readouterr()
    assert str(after) in captured.out
    assert "a run keeps the system prompt and examples" in captured.err

    assert run(["train", *SMALL, "--total-episodes", "48", "--run-dir", str(run_dir)]) == 2
    assert "is not empty" in capsys.readouterr().err
    for other, said in (
        (["--learning-rate", "1e-5"], "--learning-rate 0.0003"),
        (["--policy", "smollm2"], "--policy builtin/tiny"),
        (["--clip-range", "0.1"], "--clip-range 0.2"),
        (["--env-args", "operands=2"], "--env-args {}"),
    ):
        assert run(["train", *SMALL, *other, "--run-dir", str(run_dir), "--resume"]) == 2
        assert f"goes on as the run was started, with {said}, and not" in capsys.readouterr().err
    assert run(["train", *SMALL, "--total-episodes", "48", "--run-dir", str(run_dir), "--resume"]) == 0
    with (run_dir / "metrics.csv").open() as file:
        assert [row["update"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_train_with_another_objective_and_its_options(tmp_path, capsys):
    run_dir = tmp_path / "run"
    options = ["--clip-high", "0.3", "--kl-in", "reward", "--kl-coef", "0.02"]
    config = ["--max-refills", "1", "--mask-truncated", "--overlong-buffer", "8"]
    assert run(["train", "dapo", *SMALL, *options, *config, "--total-episodes", "16", "--run-dir", str(run_dir)]) == 0
    assert "DAPO" in capsys.readouterr().out
    config = json.loads((run_dir / "config.json").read_text())
    assert config["agent"] == "dapo"
    assert config["objective"]["clip_high"] == 0.3
    assert config["objective"]["aggregation"] == "token_mean"
    saved = json.loads((run_dir / "checkpoint" / "agent.json").read_text())
    assert saved["objective"] == {"name": "DAPO", **config["objective"]}
    assert (saved["config"]["max_refills"], saved["config"]["overlong_buffer"]) == (1, 8)


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
def test_train_with_an_algorithm_of_stable_baselines3(agent, tmp_path, capsys):
    run_dir = tmp_path / "run"
    options = ["--num-envs", "16", "--kl-coef", "0.01", "--vf-coef", "0.2", *SMALL[4:]]
    options += ["--clip-range", "0.1", "--batch-size", "8"] if agent == "ppo" else ["--ent-coef", "0.01"]
    assert run(["train", agent, *options, "--total-episodes", "32", "--run-dir", str(run_dir)]) == 0
    assert f"{agent.upper()} of stable-baselines3: 16 x 1 completions" in capsys.readouterr().out
    saved = json.loads((run_dir / "checkpoint" / "agent.json").read_text())
    assert (saved["algorithm"], saved["config"]["kl_coef"]) == (f"stable_baselines3.{agent.upper()}", 0.01)
    kwargs = {"ppo": {"clip_range": 0.1, "batch_size": 8}, "a2c": {"ent_coef": 0.01}}[agent]
    assert saved["config"]["algorithm_kwargs"] == {"vf_coef": 0.2, **kwargs}
    assert json.loads((run_dir / "config.json").read_text())["config"]["max_completion_tokens"] == 24
    assert run(["evaluate", str(run_dir), "--problems", "10", "--samples", "2", "--device", "cpu"]) == 0
    after = EvaluationReport.load(run_dir / "evaluation_after.json")
    assert str(after) in capsys.readouterr().out
    resume = ["--resume", "--run-dir", str(run_dir), "--total-episodes", "48", "--device", "cpu"]
    for other, was in (("--gae-lambda", "None"), ("--ent-coef", "None" if agent == "ppo" else "0.01")):
        assert run(["train", *resume, other, "0.5"]) == 2
        assert f"with {other} {was}, and not 0.5" in capsys.readouterr().err
    assert run(["train", agent, *resume, *options]) == 0
    assert [row["episodes"] for row in read_metrics(run_dir)] == [16, 32, 48]


@pytest.mark.parametrize(
    ("agent", "option"),
    [
        ("ppo", "--group-size"),
        ("ppo", "--deviation"),
        ("a2c", "--n-epochs"),
        ("a2c", "--clip-range"),
        ("grpo", "--vf-coef"),
        ("grpo", "--threshold"),
        ("weighted-rank", "--surrogate"),
    ],
)
def test_an_option_of_another_agent_is_refused(agent, option, capsys):
    assert run(["train", agent, option, "4"]) == 2
    error = capsys.readouterr().err
    assert f"Unrecognized options: {option}" in error
    assert f"llm-envs train {agent} --help" in error


def test_a_second_ctrl_c_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """An update that is cut in half is no state to go on from."""
    arguments = [*SMALL, "--total-episodes", "48", "--checkpoint-every", "1"]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(["train", *arguments, "--run-dir", str(straight)]) == 0
    step = GRPOAgent._step

    def interrupted_twice(agent, *arguments):
        figures = step(agent, *arguments)
        if agent.num_updates == 1:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return figures

    with monkeypatch.context() as patched:
        patched.setattr(GRPOAgent, "_step", interrupted_twice)
        assert run(["train", *arguments, "--run-dir", str(stopped)]) == 130
    assert run(["train", "--resume", "--run-dir", str(stopped), "--device", "cpu"]) == 0
    files = [folder / "checkpoint" / "policy" / "model.safetensors" for folder in (straight, stopped)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_resumed_run_keeps_its_settings_and_ends_as_if_never_stopped(
    tmp_path, monkeypatch, capsys, stopped_after_two_updates
):
    arguments = [*SMALL, "--total-episodes", "48", "--checkpoint-every", "1", "--matmul-precision", "high"]
    precisions: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precisions.append)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run(["train", *arguments, "--run-dir", str(straight)]) == 0
    with stopped_after_two_updates():
        assert run(["train", *arguments, "--run-dir", str(stopped)]) == 0
    assert len(read_metrics(stopped)) == 2
    assert run(["train", "--resume", "--run-dir", str(stopped), "--device", "cpu"]) == 0
    assert len(read_metrics(stopped)) == 3
    assert run(["train", "--resume", "--run-dir", str(stopped), "--device", "cpu"]) == 0
    assert "This run has its 48 episodes" in capsys.readouterr().out
    assert len(read_metrics(stopped)) == 3
    assert precisions == ["high"] * 4
    for name in ("completions.jsonl", "evaluation_before.json", "evaluation_after.json"):
        assert (stopped / name).read_bytes() == (straight / name).read_bytes()
    weights = [load_file(folder / "checkpoint" / "policy" / "model.safetensors") for folder in (straight, stopped)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    begun = load_policy("builtin/tiny").model.state_dict()
    assert any(not torch.equal(begun[name], tensor) for name, tensor in weights[0].items())


TASKS = """
from llm_envs import Problem, register_task
from rewards.math import MathReward

@register_task("demo/Doubling-v0", reward=MathReward())
def doubling(rng, high: int = 100):
    n = int(rng.integers(high))
    return Problem(f"What is 2 * {n}?", reference=str(2 * n))
"""


def test_a_task_of_the_users_own_from_the_command_line(tmp_path):
    (tmp_path / "my_tasks.py").write_text(TASKS)
    train = ["train", "--env", "my_tasks:demo/Doubling-v0", "--env-args", "high=50", *SMALL, "--total-episodes", "16"]
    for arguments in ([*train, "--run-dir", "run"], ["evaluate", "run", "--problems", "5", "--samples", "1"]):
        done = started.run("-m", "agents.cli", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "demo/Doubling-v0" in done.stdout


def test_a_run_is_evaluated_with_its_own_stop_strings_and_restrictions(tmp_path, capsys):
    run_dir = tmp_path / "run"
    sampling = ["--stop", "boxed{", "+", "--top-k", "40", "--top-p", "0.9"]
    assert run(["train", *SMALL, *sampling, "--total-episodes", "16", "--run-dir", str(run_dir)]) == 0
    after = EvaluationReport.load(run_dir / "evaluation_after.json")
    assert (after.stop, after.top_k, after.top_p) == (("boxed{", "+"), 40, 0.9)
    few = ["--problems", "5", "--samples", "2", "--device", "cpu"]
    for given, expected in (([], "stopped by 'boxed{', '+'"), (["--stop", "="], "stopped by '='")):
        capsys.readouterr()
        assert run(["evaluate", str(run_dir), *few, *given, "--output", str(tmp_path / "report.json")]) == 0
        assert expected in capsys.readouterr().out
        report = EvaluationReport.load(tmp_path / "report.json")
        assert (report.top_k, report.top_p, report.temperature) == (40, 0.9, 1.0)
    assert run(["evaluate", str(run_dir), *few, "--top-k", "3", "--output", str(tmp_path / "report.json")]) == 0
    report = EvaluationReport.load(tmp_path / "report.json")
    assert (report.top_k, report.top_p) == (3, 0.9)


def test_evaluate_a_policy_on_another_setting(tmp_path, capsys):
    report = tmp_path / "report.json"
    arguments = ["--env", "llm_envs/Arithmetic-v0", "--env-args", "operands=2", "--problems", "5", "--samples", "2"]
    assert run(["evaluate", "builtin/tiny", *arguments, "--output", str(report)]) == 0
    assert "{'operands': 2}" in capsys.readouterr().out
    assert json.loads(report.read_text())["problems"] == 5


def test_list_shows_the_tasks(capsys):
    assert run(["list"]) == 0
    out = capsys.readouterr().out
    assert "llm_envs/Arithmetic-v0" in out
    assert "operands=3" in out
    assert "Up to 14 turns." in " ".join(out.replace("│", " ").split())
    if find_spec("reasoning_gym") is not None:  # a hundred families are one row
        assert "reasoning_gym/NAME-v0" in out
        assert "reasoning_gym/gcd-v0" not in out
        assert run(["list", "--families"]) == 0
        assert "reasoning_gym/gcd-v0" in capsys.readouterr().out


def test_play_goes_on_for_several_turns(monkeypatch, capsys):
    answers = iter(["\\boxed{1}"] * 4 + ["\\boxed{1}", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert run(["play", "llm_envs/GuessNumber-v0", "--seed", "0"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("My number is higher. You have 3 guesses left.") == 2
    assert "wrong: reward 0; your answer was read as '1', the reference is " in out
    assert out.endswith("1 problem, mean reward 0.00")  # the second game was not played to its end


def test_play_scores_what_a_person_types(monkeypatch, capsys):
    answers = iter(["\\boxed{1000}", "no idea", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    assert run(["play", "llm_envs/Arithmetic-v0", "--seed", "0"]) == 0
    out = capsys.readouterr().out
    assert out.count("What is ") == 3
    assert "wrong: reward 0; your answer was read as '1000', the reference is " in out
    assert "no_answer: reward 0" in out
    assert "2 problems, mean reward 0.00" in out


@pytest.mark.parametrize("interrupt", [EOFError, KeyboardInterrupt])
def test_play_ends_cleanly(monkeypatch, interrupt):
    def leave(prompt):
        raise interrupt

    monkeypatch.setattr("builtins.input", leave)
    assert run(["play", "llm_envs/Arithmetic-v0"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--env", "llm_envs/Arithmetc-v0"], "Did you mean: `Arithmetic`"),
        (["train", "--env", "CartPole-v1"], "text"),
        (["train", "--env-args", "operand=2"], "no argument 'operand'"),
        (["train", "--env-args", "operands=0"], "operands must be between"),
        (["train", "--env-args", "operands"], "name=value"),
        (["train", "--policy", "builtin/large"], "no built-in policy"),
        (["train", "--policy", "/nowhere/model"], "no folder"),
        (["train", "--device", "abacus"], "unknown device"),
        (["train", "--resume"], "--run-dir"),
        (["train", "--resume", "--run-dir", "/nowhere"], "--run-dir"),
        (["train", "--env", "no_such_module:demo/Doubling-v0"], "no_such_module"),
        (["train", "--max-completion-tokens", "100000", "--eval-problems", "1"], "can attend to"),
        (["evaluate", "/nowhere"], "--env"),
        (["compare", "--env", "llm_envs/Arithmetc-v0"], "Did you mean: `Arithmetic`"),
        (["compare", "--policy", "builtin/large"], "no built-in policy"),
        (["evaluate", "builtin/tiny", "--env", "llm_envs/Arithmetic-v0", "--device", "abacus"], "unknown device"),
        (["play", "llm_envs/Nothing-v0"], "doesn't exist"),
        (["play", "demo/Nothing-v0"], "llm-envs list"),
        (["train", "--env", "raises_at_import:demo/Doubling-v0"], "RuntimeError: boom ("),
        (["train", "--env-args", "split=test"], "leave split= out"),
        (["train", "--env", "llm_envs/GSM8K-v0", "--env-args", "path=nowhere.jsonl"], "nowhere.jsonl"),
        (["train", "--env-args", "operands=x"], "operands=x"),
        (["train", "--device", "meta"], "not supported"),
        (["train", "--run-dir", "a_file"], "a_file"),
        (["train", "--policy", "broken_weights"], "cannot load a language model"),
        (["train", "--run-dir", "stopped_early", "--resume"], "start anew"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raises_at_import.py").write_text("raise RuntimeError('boom')\n")
    (tmp_path / "a_file").touch()
    shutil.copytree(TINY_PATH, tmp_path / "broken_weights")
    os.truncate(tmp_path / "broken_weights" / "model.safetensors", 1000)
    (tmp_path / "stopped_early").mkdir()
    (tmp_path / "stopped_early" / "config.json").write_text(json.dumps({"agent": "grpo", "total_episodes": 1}))
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("llm-envs: ")
    assert message in error
    assert error.endswith(f"For all options, run llm-envs {arguments[0]} --help\n")
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("train", "--group-size", "1"),
        ("train", "--clip-range", "2"),
        ("train", "--advantage", "median"),
        ("train", "--total-episodes", "0"),
        ("train", "--threads", "0"),
        ("train", "--lora-rank", "0"),
        ("train", "--eval-problems", "0"),
        ("train", "--checkpoint-every", "0"),
        ("train", "--seed", "-1"),
        ("evaluate", "--problems", "0"),
        ("evaluate", "--samples", "0"),
        ("evaluate", "--temperature", "-1"),
        ("evaluate", "--max-completion-tokens", "0"),
        ("play", "--seed", "-1"),
        ("compare", "--agents", "ppo2"),
        ("compare", "--seeds", "0"),
        ("compare", "--temperature", "0"),
        ("compare", "--learning-rate", "-1"),
    ],
)
def test_a_bad_value_is_refused_by_the_parser(command, option, value, capsys):
    positional = {"train": [], "compare": [], "evaluate": ["builtin/tiny"], "play": ["llm_envs/Arithmetic-v0"]}[command]
    assert run([command, *positional, option, value]) == 2
    error = capsys.readouterr().err
    assert option.removeprefix("--").replace("-", "_") in error.replace("-", "_")
    assert f"llm-envs {command} --help" in error


def test_options_that_do_not_go_together_are_one_line(tmp_path, capsys):
    assert run(["train", "dapo", "--kl-target", "0.1", "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("llm-envs: kl_target=0.1 adapts kl_coef, and the objective DAPO has no KL penalty")
    assert error.endswith("For all options, run llm-envs train --help\n")
    assert not (tmp_path / "run").exists()


def test_environment_arguments_are_literals_or_text():
    assert parse_env_args(["a=1", "b=x=y", "c=[1, 2]", "d=True", "e=", "f=__import__('os')"]) == {
        "a": 1, "b": "x=y", "c": [1, 2], "d": True, "e": "", "f": "__import__('os')",
    }  # fmt: skip
    for pair in ("a", "=1", "1a=2"):
        with pytest.raises(UsageError):
            parse_env_args([pair])


def test_ctrl_c_saves_what_was_learned(tmp_path):
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "agents.cli", "train", *SMALL, "--total-episodes", "100000"]
    process = subprocess.Popen(
        [*command, "--run-dir", str(run_dir)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        metrics = run_dir / "metrics.csv"
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, out
    assert "Stopped; what was learned is saved" in out
    assert "Held-out accuracy" in out
    state = json.loads((run_dir / "checkpoint" / "agent.json").read_text())
    rows = metrics.read_text().count("\n") - 1
    assert state["num_updates"] == rows >= 2
    assert (run_dir / "learning_curve.png").is_file()


def test_the_entry_point_sets_the_wait_policy_before_torch_loads():
    code = (
        "import sys, os; os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "import agents.cli; assert 'torch' not in sys.modules\n"
        "sys.argv = ['llm-envs', 'list']\n"
        "try: agents.cli.main()\n"
        "except SystemExit as e: assert e.code == 0\n"
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert out.stdout.endswith("passive\n")


def test_sandbox_tells_what_holds_here(capsys):
    from agents.cli.app import run
    from rewards.code.sandbox import sandbox_report

    strong = sandbox_report().grade == "strong"
    assert run(["sandbox"]) == (0 if strong else 2)
    out, err = capsys.readouterr()
    assert "bubblewrap" in out
    assert ("Grade: strong" in out) == strong
    assert ("allow_weak" in err) != strong


def test_a_full_disk_is_one_clear_line_and_the_last_checkpoint_stays(tmp_path, monkeypatch, capsys):
    def save_file(*_):
        raise SafetensorError("No space left on device")

    run_dir = tmp_path / "run"
    assert run(["train", *SMALL, "--total-episodes", "16", "--run-dir", str(run_dir)]) == 0
    monkeypatch.setattr("agents.checkpoint.save_file", save_file)
    assert run(["train", "--total-episodes", "32", "--run-dir", str(run_dir), "--resume", "--device", "cpu"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert json.loads((run_dir / "checkpoint" / "agent.json").read_text())["num_updates"] == 1


def test_an_update_that_a_second_ctrl_c_cuts_is_not_saved(tmp_path, monkeypatch, capsys):
    run_dir = tmp_path / "run"
    assert run(["train", *SMALL, "--total-episodes", "16", "--run-dir", str(run_dir)]) == 0
    weights = (run_dir / "checkpoint" / "policy" / "model.safetensors").read_bytes()
    optimize = GRPOAgent._optimize

    def cut(self, *arguments):
        optimize(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(GRPOAgent, "_optimize", cut)
    assert run(["train", "--total-episodes", "32", "--run-dir", str(run_dir), "--resume", "--device", "cpu"]) == 130
    assert "in the middle of an update" in " ".join(capsys.readouterr().out.split())
    assert (run_dir / "checkpoint" / "policy" / "model.safetensors").read_bytes() == weights


def test_list_shows_whole_ids_in_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["list"]) == 0
    assert "llm_envs/PythonFunctions-v0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--config", "{}/nowhere.json"], "No such file or directory: '{}/nowhere.json'; check the spelling"),
        (["train", "--config", "{}"], "Is a directory: '{}'; a folder is where a file is wanted"),
        (["train", *SMALL, "--run-dir", "{}/notes"], "File exists: '{}/notes'; a file is where a folder is wanted"),
        (["train", *SMALL, "--run-dir", "{}/notes/run"], "Not a directory: '{}/notes/run'; a file is where a folder"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_remedy(tmp_path, capsys, words, message):
    (tmp_path / "notes").write_text("mine")
    assert run([word.format(tmp_path) for word in words]) == 2
    found = capsys.readouterr().err
    assert f"llm-envs: {message.format(tmp_path, tmp_path)}" in found
    assert "Errno" not in found
    assert "Traceback" not in found
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room; .*--resume"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "Permission denied: 'runs'; .*another place"),
        (OSError(errno.EROFS, "Read-only file system", Path("runs")), "Read-only file system: 'runs'; .*another place"),
        (FileNotFoundError("there is no file x"), "there is no file x$"),
        (OSError(errno.EIO, "Input/output error", "x"), "Input/output error: 'x'$"),
    ],
    ids=repr,
)
def test_remedies_for_what_the_system_refuses(error, message):
    assert re.search(message, one_line(error))
    assert exit_code(error) == 2
