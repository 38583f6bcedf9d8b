"""What is said of runs that learn nothing or collapse, and of those that do neither."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from agents import GRPOAgent, GRPOConfig
from agents.evaluation.run_report import evaluation_warnings
from agents.tracking.callback import UpdateRecord
from agents.tracking.training_warnings import TrainingMonitor, TrainingWarning, WarningsWriter, read_warnings

HEALTHY = {
    "reward": 0.4, "reward_std": 0.49, "accuracy": 0.4, "informative_groups": 0.7, "truncated": 0.05, "entropy": 0.5,
    "kl": 0.01,
}  # fmt: skip


def watch(*updates: dict[str, float], problems: int = 32, group_size: int = 8) -> dict[str, int]:
    """The kinds of warnings, and after which update each was given."""
    monitor, found = TrainingMonitor(), {}
    rollouts = [SimpleNamespace(seed=i // group_size) for i in range(problems * group_size)]
    for number, changes in enumerate(updates, 1):
        record = SimpleNamespace(metrics=HEALTHY | changes, rollouts=rollouts)
        for kind, message in monitor.check(record).items():
            assert kind not in found
            assert "\n" not in message
            found[kind] = number
    return found


NONE = {"informative_groups": 0.0, "reward_std": 0.0}


@pytest.mark.parametrize(
    ("updates", "kinds"),
    [
        ([{}] * 30, set()),
        ([{**NONE, "reward": 0.0, "accuracy": 0.0}] * 5, {"no_differences"}),
        ([{**NONE, "reward": 1.0, "accuracy": 1.0}] * 5, {"no_differences"}),
        ([{**NONE, "reward": 0.2, "accuracy": 0.2, "reward_std": 0.4}] * 5, {"no_differences"}),
        ([{**NONE}, {**NONE}, {}] * 8, set()),
        ([{"truncated": 0.88}] * 2, {"truncated"}),
        ([{"truncated": 0.4}] * 20, set()),
        ([{}] * 5 + [{"reward": 0.05, "reward_std": 0.2}] * 3, {"reward_fell"}),
        ([{"reward": -0.2}] * 5 + [{"reward": -0.9}] * 3, {"reward_fell"}),
        ([{"reward": 0.4 + 0.1 * (-1) ** i} for i in range(30)], set()),
        ([{}] * 3 + [{"kl": 23.0}] * 2, {"far_from_start"}),
        ([{}] * 3 + [{"kl": 23.0}, {}] * 3, set()),
        ([{}] * 3 + [{"entropy": 4.0}] * 3, {"entropy"}),
        ([{}] * 3 + [{"entropy": 0.001}] * 3, {"entropy"}),
        ([{}] * 3 + [{"entropy": 0.001, "reward": 0.95, "accuracy": 0.95, "reward_std": 0.2}] * 3, set()),
        ([{}] * 10 + [{"reward": 0.8, "accuracy": 0.05}] * 10, {"accuracy_fell"}),
        ([{}] * 10 + [{"reward": 0.8, "accuracy": 0.8}] * 10, set()),
    ],
)
def test_each_kind_is_said_once(updates, kinds):
    assert watch(*updates).keys() == kinds


def messages(metric, *updates):
    monitor, found = TrainingMonitor(metric), {}
    rollouts = [SimpleNamespace(seed=i) for i in range(32)]
    for changes in updates:
        found |= monitor.check(SimpleNamespace(metrics=HEALTHY | changes, rollouts=rollouts))
    return found


def test_the_figure_that_a_task_names_is_what_must_not_fall():
    sides = [[{"reward": 0.4, "metric/edits": 12.0 + i % 2} for i in range(10)] for _ in range(2)]
    rising = [{**row, "reward": 0.9} for row in sides[1]]
    falling = [{**row, "reward": 0.9, "metric/edits": row["metric/edits"] - 8} for row in sides[1]]
    assert messages("edits", *sides[0], *rising) == {}
    assert "while edits fell by 8.00" in messages("edits", *sides[0], *falling)["accuracy_fell"]
    assert "accuracy_fell" not in messages(None, *sides[0], *falling)  # its accuracy is what it was


def test_a_score_has_no_accuracy_that_falls():
    scored = {"outcome/scored": 1.0}
    updates = [{**scored}] * 10 + [{**scored, "reward": 0.9, "accuracy": 0.0}] * 10
    assert messages(None, *updates) == {}


def test_the_figure_that_a_task_names_is_told_and_no_accuracy_is_believed():
    still = {**NONE, "reward": 1.0, "accuracy": 1.0, "metric/edits": 3.0}
    message = messages("edits", *[still] * 5)["no_differences"]
    assert "edits 3.00" in message
    assert "The task is solved" not in message
    assert "The task is solved" in messages(None, *[still] * 5)["no_differences"]


def test_few_episodes_are_no_evidence():
    zero = {**NONE, "reward": 0.0, "accuracy": 0.0}
    assert watch(*[zero] * 3, problems=2, group_size=2) == {}
    assert watch(*[zero] * 12, problems=2, group_size=2) == {"no_differences": 8}
    assert watch({"truncated": 0.9}, problems=2, group_size=2) == {}
    assert watch({"reward": 1.0}, {}, {"reward": 0.25}, {"reward": 0.25}, problems=2, group_size=4) == {}


@pytest.mark.parametrize("problems", [2, 4, 32])
def test_chance_alone_gives_no_warning_of_a_collapse(problems):
    rng = np.random.default_rng(0)
    for _ in range(20):
        rewards = (rng.random((60, problems, 8)) < rng.beta(1, 1, (60, problems, 1))).astype(float)
        updates = [{"reward": float(one.mean()), "reward_std": float(one.std())} for one in rewards]
        assert "reward_fell" not in watch(*updates, problems=problems)


def test_an_agent_without_these_figures_is_left_alone():
    record = UpdateRecord(1, 1, 4, {"loss": 1.0}, ())
    assert TrainingMonitor().check(record) == {}


def test_python_warns_and_callbacks_hear(tmp_path):
    config = GRPOConfig(prompts_per_update=8, group_size=8, max_completion_tokens=2)
    agent = GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", config=config, device="cpu")
    shown = []
    with pytest.warns(TrainingWarning) as warned:
        agent.learn(64 * 4, WarningsWriter(tmp_path, shown.append))
    rows = read_warnings(tmp_path)
    assert [row["kind"] for row in rows] == ["truncated", "no_differences"]
    assert [row["update"] for row in rows] == [1, 3]
    assert [row["warning"] for row in rows] == shown == [str(warning.message) for warning in warned]
    WarningsWriter(tmp_path).on_training_start(2, 4)  # a resumed run writes the later ones again
    assert [row["kind"] for row in read_warnings(str(tmp_path))] == ["truncated"]


@pytest.mark.parametrize(
    ("before", "after", "is_said"),
    [
        ((0.8, 0.2), (0.2, 0.9), True),
        ((0.8, 0.2), (0.9, 0.9), False),
        ((0.8, 0.2), (0.2, 0.1), False),
        ((0.8, 0.2), (0.78, 0.22), False),
    ],
)
def test_held_out_reward_that_rises_while_accuracy_falls(before, after, is_said):
    rng = np.random.default_rng(0)

    def report(accuracy, reward):
        by_problem = np.clip(rng.normal(accuracy, 0.1, 50), 0, 1)
        rollouts = [SimpleNamespace(reward=float(value)) for value in np.clip(rng.normal(reward, 0.1, 100), 0, 1)]
        return SimpleNamespace(problems=50, sampled_rollouts=rollouts, sampled_accuracy_by_problem=lambda: by_problem)

    assert bool(evaluation_warnings(report(*before), report(*after))) == is_said
