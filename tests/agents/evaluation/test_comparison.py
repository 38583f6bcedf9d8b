from __future__ import annotations

import json
import math

import numpy as np
import pytest

from agents.cli.app import run
from agents.envs import env_spec
from agents.evaluation.comparison import AGENT_NAMES, Comparison, Run, compare, run_key, summarize, weights_digest
from agents.evaluation.comparison_report import write_report
from agents.evaluation.estimates import mean_estimate, paired_difference
from agents.grpo.agent import GRPOAgent
from agents.tracking.callback import Callback

ARITHMETIC = "llm_envs/Arithmetic-v0"


def small(**changes) -> Comparison:
    settings = {
        "env": env_spec(ARITHMETIC),
        "policy": "builtin/tiny",
        "agents": ("grpo", "ppo"),
        "seeds": (0,),
        "budget_episodes": 256,
        "max_completion_tokens": 24,
        "problems": 4,
        "samples": 2,
        "device": "cpu",
    }
    return Comparison(**settings | changes)


class Stop(Callback):
    """Ctrl-C after some updates."""

    def __init__(self, after):
        self.after, self.updates, self.evaluated = after, [], []

    def on_update(self, record):
        self.updates.append(record.update)
        if record.update == self.after:
            raise KeyboardInterrupt

    def on_evaluation(self, report, stage):
        self.evaluated.append((stage, self.agent.num_episodes, self.run_dir.name.partition("-")[0], report.problems))


def test_a_comparison_goes_on_where_it_stopped_and_runs_nothing_twice(tmp_path):
    straight_before, straight = compare(small(), tmp_path / "straight")
    stop = Stop(1)
    with pytest.raises(KeyboardInterrupt):  # grpo has one update of 256, ppo two of 128
        compare(small(), tmp_path / "stopped", lambda title: stop if title.startswith("ppo") else Callback())
    watched = Stop(None)
    before, runs = compare(small(), tmp_path / "stopped", lambda title: watched)
    assert watched.updates == [2]  # of ppo; grpo was finished
    assert watched.evaluated == [("after", 256, "ppo", 4)]
    assert before.as_json() == straight_before.as_json()
    for mine, theirs in zip(runs, straight, strict=True):
        assert (mine.agent, mine.seed, mine.sampled, mine.greedy) == (
            theirs.agent, theirs.seed, theirs.sampled, theirs.greedy,
        )  # fmt: skip
        for count in ("episodes", "tokens", "reward_calls", "updates", "optimizer_steps"):
            assert mine.counts[count] == theirs.counts[count]
        assert mine.curve["accuracy"] == theirs.curve["accuracy"]
    again = Stop(None)
    assert compare(small(), tmp_path / "stopped", lambda title: again)[1] == runs
    assert again.updates == []
    grpo, ppo = runs
    assert grpo.counts | {"tokens": 0, "seconds": 0} == {
        "episodes": 256, "tokens": 0, "reward_calls": 1, "updates": 1, "optimizer_steps": 4, "seconds": 0,
    }  # fmt: skip
    assert (ppo.counts["reward_calls"], ppo.counts["updates"], ppo.counts["optimizer_steps"]) == (2, 2, 8)
    assert ppo.curve["episodes"] == [128, 256]
    assert ppo.curve["tokens"][-1] == ppo.counts["tokens"] > 256


def test_what_is_saved_of_a_failed_run_is_a_whole_update(tmp_path, monkeypatch):
    comparison = small(agents=("grpo",), budget_episodes=512)
    [straight] = compare(comparison, tmp_path / "straight")[1]
    step = GRPOAgent._step

    def fail(agent, *arguments):
        if agent.num_updates == 1 and agent._steps._count == 2:
            raise RuntimeError("out of memory")
        return step(agent, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(GRPOAgent, "_step", fail)
        patched.setattr("agents.evaluation.comparison._CHECKPOINT_EVERY", 1)
        with pytest.raises(RuntimeError, match="out of memory"):
            compare(comparison, tmp_path / "failed")
    [resumed] = compare(comparison, tmp_path / "failed")[1]
    assert (resumed.curve["accuracy"], resumed.sampled) == (straight.curve["accuracy"], straight.sampled)


def test_a_runs_key_has_all_that_its_result_depends_on():
    def key(comparison, name="ppo", seed=0):
        agent = comparison.make_agent(name, seed)
        return json.dumps(run_key(comparison, agent, weights_digest(agent.policy)), sort_keys=True)

    base = small()
    changed = [
        key(small(env=env_spec(ARITHMETIC, operands=2))),
        key(small(budget_episodes=512)),
        key(small(learning_rate=1e-4)),
        key(small(max_completion_tokens=25)),
        key(small(temperature=0.9)),
        key(small(problems=9)),
        key(small(samples=3)),
        key(base, seed=1),
        *(key(base, name) for name in ("grpo", "a2c", "ppo-token", "rloo", "weighted-softmax", "weighted-rank")),
    ]
    assert len({key(base), *changed}) == 1 + len(changed)
    assert key(base) == key(small(seeds=(0, 1), agents=("rloo", "ppo")))  # what else is compared changes nothing


def test_other_weights_under_the_same_name_are_another_start():
    policy = small().load_start()
    digest = weights_digest(policy)
    assert weights_digest(small().load_start()) == digest
    policy.model.get_input_embeddings().weight.data[3, 3] += 1e-3
    assert weights_digest(policy) != digest


def made_up(agent, seed, sampled):
    counts = dict.fromkeys(("episodes", "tokens", "reward_calls", "updates", "optimizer_steps", "seconds"), 10.0 + seed)
    curve = {"episodes": [5, 10 + seed], "tokens": [50, 100], "seconds": [1, 2], "accuracy": [0.2, 0.6]}
    return Run(agent, seed, counts, curve, sampled, [float(value > 0.5) for value in sampled])


def test_differences_are_paired_by_problem_and_by_seed():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)), rng.random((3, 40))
    runs = [made_up("grpo", s, a[s].tolist()) for s in range(3)] + [made_up("ppo", s, b[s].tolist()) for s in range(3)]
    first, second = summarize(runs)
    assert first.difference is None
    assert second.difference == paired_difference(a.mean(axis=0), b.mean(axis=0))
    assert second.difference_over_seeds == mean_estimate(b.mean(axis=1) - a.mean(axis=1))
    assert second.sampled.value == pytest.approx(b.mean())
    spread = np.std(b.mean(axis=1), ddof=1) / math.sqrt(3)
    assert second.sampled_over_seeds.high - second.sampled_over_seeds.value == pytest.approx(4.302653 * spread)
    assert second.counts["seconds"] == 11.0


def test_the_report_has_tables_figures_and_a_picture(tmp_path):
    comparison = small(seeds=(0, 1))
    before = comparison.evaluate(comparison.load_start())
    runs = [made_up(name, seed, [0.25 * seed, 1.0] * 4) for seed in (0, 1) for name in ("grpo", "ppo")]
    text = write_report(tmp_path, comparison, before, runs, "a machine")
    assert "| to grpo, paired by problem |" in text
    assert "| ppo | 56.2 [" in text
    assert "+0.0 [+0.0, +0.0]" in text
    assert "| grpo | 10 | 10 | 10 | 10 | 10 | 10 |" in text
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert [r["agent"] for r in record["runs"]] == ["grpo", "ppo"] * 2
    assert (tmp_path / "comparison.md").read_text() == text
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_from_the_command_line(tmp_path, capsys):
    arguments = ["--agents", "weighted-softmax", "a2c", "--seeds", "1", "--budget-episodes", "1", "--problems", "4"]
    options = ["--samples", "1", "--max-completion-tokens", "16", "--device", "cpu", "--out", str(tmp_path)]
    assert run(["compare", *arguments, *options]) == 0
    out = capsys.readouterr().out
    assert "| a2c |" in out
    assert "(one seed)" in out


@pytest.mark.parametrize(
    ("field", "value"), [("agents", ("grpo", "ppo2")), ("agents", ()), ("seeds", (1, 1)), ("problems", 0)]
)
def test_what_cannot_be_compared_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must be"):
        small(**{field: value})


def test_every_objective_and_both_views_can_be_compared():
    assert {"grpo", "rloo", "weighted-softmax", "ppo", "a2c", "ppo-token", "a2c-token"} <= set(AGENT_NAMES)
