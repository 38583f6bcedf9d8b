"""What tables, curves and the bar show where the reward is graded, or where the task names its figure."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from rich.console import Console

from agents import GRPOAgent, GRPOConfig
from agents.cli.app import run
from agents.evaluation import EvaluationReport, evaluate
from agents.evaluation.estimates import mean_estimate
from agents.evaluation.run_report import plot_learning_curve, print_comparison
from agents.rollout import Completion, Rollout
from agents.tracking.figures import is_graded, main_figure, mean_and_margin, value_of
from agents.tracking.progress import TrainingProgress
from llm_envs import Problem, register_curriculum, register_dataset, register_task
from rewards import Outcome, RewardResult

SMALL = ["--prompts-per-update", "4", "--group-size", "2", "--eval-problems", "3", "--eval-samples", "2"]
OPTIONS = [*SMALL, "--max-completion-tokens", "8", "--device", "cpu", "--total-episodes", "16"]


def scored(prompts, completions, references):
    """Longer is better; nothing is right or wrong."""
    return [
        RewardResult(len(text) / 40, Outcome.SCORED, None, {"digits": float(text.count("1"))}) for text in completions
    ]


def partial(prompts, completions, references):
    """Partial credit: nobody ever gets all of it."""
    return [RewardResult(0.25 if text else 0.0, Outcome.PARTIAL) for text in completions]


def binary(prompts, completions, references):
    return [RewardResult(float("1" in text), Outcome.CORRECT if "1" in text else Outcome.WRONG) for text in completions]


@pytest.fixture
def task():
    """Registers a task with a reward; it is forgotten afterwards."""

    def register(reward, **kwargs):
        @register_task("test/Figures-v0", reward=reward, **kwargs)
        def sampler(rng):
            return Problem(f"What is {int(rng.integers(1000))} + 1?", reference="1")

        return "test/Figures-v0"

    before = set(gymnasium.registry)
    yield register
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


@pytest.mark.parametrize(
    ("outcomes", "metric", "figure"),
    [
        (["scored"], None, "reward"),
        (["scored", "no_answer"], None, "reward"),
        (["scored", "too_large", "timeout"], None, "reward"),
        (["correct", "wrong"], None, "accuracy"),
        (["scored", "correct"], None, "accuracy"),
        (["partial"], None, "accuracy"),
        (["partial", "scored"], None, "accuracy"),
        (["no_answer"], None, "accuracy"),
        ([""], None, "accuracy"),
        ([], None, "accuracy"),
        (["correct"], "tests_passed", "tests_passed"),
        (["scored"], "accuracy", "accuracy"),
        (["wrong"], "reward", "reward"),
    ],
)
def test_the_main_figure(outcomes, metric, figure):
    assert main_figure(outcomes, metric) == figure


def rollout(reward, outcome, seed=0, **metrics):
    completion = Completion([2], [-0.1], False)
    return Rollout(seed, "What?", [1], completion, "x", reward, outcome, None, "4", metrics=metrics)


def test_values_of_a_rollout():
    assert [value_of(rollout(0.5, "scored", tests=0.7), name) for name in ("accuracy", "reward", "tests", "no")] == [
        *(0.0, 0.5, 0.7, 0.0)
    ]
    assert is_graded([rollout(1.0, "correct"), rollout(0.1, "wrong")])
    assert is_graded([rollout(1.2, "correct")])
    assert not is_graded([rollout(1.0, "correct"), rollout(0.0, "no_answer")])


def test_the_margin_is_over_problems():
    rollouts = [rollout(value, "scored", seed) for seed, value in enumerate([0.0, 0.5, 1.0, 0.5]) for _ in range(3)]
    half = 1.96 * np.std([0.0, 0.5, 1.0, 0.5], ddof=1) / 2
    assert mean_and_margin(rollouts, "reward") == f"0.50 ±{half:.2f}"
    assert mean_and_margin(rollouts[:3], "reward") == "0.00"


def test_a_report_of_scores_shows_the_mean_reward(task, micro_policy, tmp_path):
    report = evaluate(micro_policy, task(scored), problems=4, samples=2, max_completion_tokens=8)
    text = str(report)
    assert report.figure == "reward"
    assert "accuracy" not in text
    assert "pass@" not in text
    greedy, sampled = report.estimates("reward")
    assert f"greedy reward    {greedy.as_number()}" in text
    assert f"mean reward      {sampled.as_number()}" in text
    assert sampled == report.mean_reward
    rewards = np.array([one.reward for one in report.greedy_rollouts])
    assert greedy == mean_estimate(rewards)
    report.save(tmp_path / "report.json")
    assert str(EvaluationReport.load(tmp_path / "report.json")) == text


def test_a_task_names_its_figure(task, micro_policy, tmp_path):
    for env_id, metric in ((task(scored, metric="digits"), "digits"),):
        report = evaluate(micro_policy, env_id, problems=4, samples=2, max_completion_tokens=8)
        assert report.figure == metric
        assert re.search(r"greedy digits +\d.*\nsampled digits +\d.*\nmean reward +\d", str(report))
        assert "accuracy" not in str(report)
        report.save(tmp_path / "report.json")
        assert EvaluationReport.load(tmp_path / "report.json").figure == metric
    register_curriculum("test/Climb-v0", "test/Figures-v0", [{}])
    assert evaluate(micro_policy, "test/Climb-v0", problems=2, samples=1, max_completion_tokens=8).figure == "digits"
    rows = [{"q": f"What is {n}?", "a": n} for n in range(50)]
    register_dataset("test/Rows-v0", rows, prompt="q", reference="a", reward=scored, metric="reward")
    assert evaluate(micro_policy, "test/Rows-v0", problems=2, samples=1, max_completion_tokens=8).figure == "reward"
    for wrong in ("", 3):
        with pytest.raises(TypeError, match="metric must be the name of a figure"):
            task(scored, metric=wrong)


def table_of(before, after):
    console = Console(file=io.StringIO(), width=160)
    print_comparison(console, before, after)
    return console.file.getvalue().partition("Sampled completions")[0]


@pytest.mark.parametrize(
    ("reward", "kwargs", "there", "missing"),
    [
        (
            scored,
            {},
            ["Held-out mean reward on 4", "greedy ", "sampled ", "0."],
            ["accuracy", "pass@", "greedy reward"],
        ),
        (scored, {"metric": "digits"}, ["Held-out mean digits on 4", "sampled reward"], ["accuracy", "pass@"]),
        (partial, {}, ["Held-out accuracy in % on 4", "pass@2", "greedy reward", "sampled reward"], []),
        (binary, {}, ["Held-out accuracy in % on 4", "pass@2"], ["reward"]),
        (binary, {"metric": "reward"}, ["Held-out mean reward"], ["accuracy", "pass@"]),
    ],
)
def test_the_table_before_and_after(task, micro_policy, reward, kwargs, there, missing):
    report = evaluate(micro_policy, task(reward, **kwargs), problems=4, samples=2, max_completion_tokens=8)
    text = table_of(report, report)
    assert all(part in text for part in there), text
    assert not any(part in text for part in missing), text


def test_the_bar_shows_the_reward_with_its_margin(task, micro_policy):
    config = GRPOConfig(prompts_per_update=4, group_size=2, max_completion_tokens=8)
    for kwargs, shown in (
        ({}, r"reward \d+\.\d\d ±\d+\.\d\d  "),
        ({"metric": "digits"}, r"digits \d+\.\d\d ±\S+  reward"),
    ):
        console = Console(file=io.StringIO(), width=160)
        GRPOAgent(micro_policy, task(scored, **kwargs), config=config).learn(8, TrainingProgress(console))
        assert re.search(shown, console.file.getvalue()), console.file.getvalue()
        assert "accuracy" not in console.file.getvalue()
        del gymnasium.registry["test/Figures-v0"]


def test_the_curve_shows_the_reward(task, micro_policy, tmp_path):
    report = evaluate(micro_policy, task(scored), problems=4, samples=2, max_completion_tokens=8)
    pictures = []
    for rewards in ([0.1, 0.2], [0.1, 0.9]):
        rows = [{"episodes": 8 * i, "accuracy": 0.0, "reward": reward} for i, reward in enumerate(rewards, 1)]
        plot_learning_curve(tmp_path / "curve.png", rows, report, report, report.figure)
        pictures.append((tmp_path / "curve.png").read_bytes())
    assert pictures[0] != pictures[1]
    for rewards in ([0.0, 0.0], [0.0, 0.5]):  # partial credit: beside an accuracy of 0
        rows = [{"episodes": 8 * i, "accuracy": 0.0, "reward": reward} for i, reward in enumerate(rewards, 1)]
        plot_learning_curve(tmp_path / "curve.png", rows, report, None)
        pictures.append((tmp_path / "curve.png").read_bytes())
    assert pictures[2] != pictures[3]


@pytest.mark.parametrize("metric", [None, "digits"])
def test_the_command_line_shows_it_from_beginning_to_end(task, metric, tmp_path, capsys):
    env_id = task(scored, metric=metric)
    assert run(["train", "--env", env_id, *OPTIONS, "--run-dir", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert f"Held-out mean {metric or 'reward'} on 3 problems" in out
    assert "accuracy" not in out
    assert run(["evaluate", str(tmp_path / "run"), "--problems", "3", "--samples", "2"]) == 0
    assert "accuracy" not in capsys.readouterr().out


def test_a_comparison_is_one_of_rewards(task, tmp_path, capsys):
    out = [
        "--out",
        str(tmp_path),
        "--problems",
        "3",
        "--samples",
        "2",
        "--device",
        "cpu",
        "--max-completion-tokens",
        "8",
    ]
    command = ["compare", "--env", task(scored), "--agents", "grpo", "ppo", "--seeds", "1", "--budget-episodes", "16"]
    for _ in range(2):  # the second time from what was saved
        assert run([*command, *out]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"grpo, seed 0: held-out reward \d\.\d+ sampled", shown)
        text = (tmp_path / "comparison.md").read_text()
        assert "Mean reward with 95 % intervals" in text
        assert "ccuracy" not in text
        assert re.search(r"\| start \| \d\.\d{3} \[", text)
        assert re.search(r"\| ppo \| \d\.\d{3} \[.*\| [-+]\d\.\d{3} \[", text)
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert record["figure"] == "reward"
    assert record["runs"][0]["sampled"] != [0.0, 0.0, 0.0]
    assert set(record["runs"][0]["curve"]) == {"episodes", "tokens", "seconds", "reward"}


def test_records_without_outcomes_show_the_accuracy():
    console = Console(file=io.StringIO(), width=160)
    progress = TrainingProgress(console)
    metrics = {"reward": 0.5, "accuracy": 0.25, "tokens_per_second": 1.0}
    progress.on_update(SimpleNamespace(update=1, total_updates=1, metrics=metrics))
    assert "reward 0.50  accuracy 0.25" in console.file.getvalue()
