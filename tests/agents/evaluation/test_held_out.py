from __future__ import annotations

from dataclasses import replace

import gymnasium
import pytest
import torch

from agents import GRPOAgent, GRPOConfig, evaluate, load_policy
from agents.evaluation.held_out import EvaluationReport, distinct_problem_seeds
from agents.rollout import SamplingParams
from llm_envs.wrappers import SystemPrompt
from tests.learned import weights_learned

ARITHMETIC = "llm_envs/Arithmetic-v0"


def test_problems_are_distinct_held_out_and_fixed_by_the_seed():
    seeds = distinct_problem_seeds(ARITHMETIC, 100, 0, split="test")
    env = gymnasium.make(ARITHMETIC, split="test")
    prompts = [env.reset(seed=seed)[0] for seed in seeds]
    assert len(set(prompts)) == 100
    train = gymnasium.make(ARITHMETIC)
    assert not {train.reset(seed=seed)[0] for seed in range(1000)} & set(prompts)
    assert distinct_problem_seeds(ARITHMETIC, 100, 0, split="test") == seeds
    assert distinct_problem_seeds(ARITHMETIC, 100, 1, split="test") != seeds


@pytest.mark.parametrize("task", ["WordProblems", "Countdown", "CodeRepair"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_no_held_out_problem_asks_in_other_words_what_another_asks(task, wrapped):
    """An answer to one would be half an answer to the other, and an interval over problems takes them for two."""
    env = gymnasium.make(f"llm_envs/{task}-v0", split="test")
    seeds = distinct_problem_seeds(SystemPrompt(env, "Be brief.") if wrapped else env, 100)
    asked = set()
    for seed in seeds:
        env.reset(seed=seed)
        asked.add(env.unwrapped.problem.key)
    assert len(seeds) == len(asked) == 100


def test_a_small_task_gives_fewer_problems_and_says_so():
    env = gymnasium.make(ARITHMETIC, operands=2, operators="+")
    report = evaluate("builtin/tiny", env, problems=500, samples=1)
    assert 5 <= report.problems <= 30
    assert len({rollout.prompt for rollout in report.greedy_rollouts}) == report.problems


def test_report_adds_up_and_survives_a_file(tmp_path):
    calls = []
    report = evaluate(
        "builtin/tiny", ARITHMETIC, problems=30, samples=4, on_progress=lambda done, total: calls.append((done, total))
    )
    assert (report.problems, report.samples, sorted(report.pass_at_k)) == (30, 4, [1, 2, 4])
    assert sum(report.outcomes.values()) == len(report.sampled_rollouts) == 120
    right = sum(rollout.reward for rollout in report.sampled_rollouts) / 120
    assert report.pass_at_k[1].value == pytest.approx(right)
    assert report.mean_reward.value == pytest.approx(right)
    assert report.sampled_accuracy_by_problem().mean() == pytest.approx(right)
    assert report.greedy.value == report.greedy_by_problem().mean()
    assert report.pass_at_k[1].value <= report.pass_at_k[2].value <= report.pass_at_k[4].value
    for i, rollout in enumerate(report.sampled_rollouts):
        assert rollout.prompt == report.greedy_rollouts[i // 4].prompt
    assert calls[-1] == (150, 150)
    assert f"pass@1           {report.pass_at_k[1].as_percent()} %" in str(report)
    report.save(tmp_path / "deep" / "report.json")
    again = EvaluationReport.load(tmp_path / "deep" / "report.json")
    assert str(again) == str(report)
    assert again.as_json()["pass@2"] == report.as_json()["pass@2"]


def test_evaluation_repeats_and_leaves_the_agent_alone():
    config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
    first, second = (GRPOAgent("builtin/tiny", ARITHMETIC, config=config, device="cpu") for _ in range(2))
    reports = [evaluate(first, problems=10, samples=2) for _ in range(2)]
    assert str(reports[0]) == str(reports[1])
    for agent in (first, second):
        weights_learned(agent, 32)
    pairs = zip(first.policy.model.parameters(), second.policy.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_to_evaluate_on_must_be_said_and_exist():
    policy = load_policy("builtin/tiny")
    with pytest.raises(ValueError, match="environment"):
        evaluate(policy)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(policy, ARITHMETIC, problems=0)
    with pytest.raises(ValueError, match="'dev'"):
        evaluate(policy, ARITHMETIC, split="dev")


def test_sampling_can_be_restricted(tmp_path):
    policy = load_policy("builtin/tiny", device="cpu")
    plain = evaluate(policy, ARITHMETIC, problems=20, samples=2, max_completion_tokens=32)
    nearly_greedy = evaluate(policy, ARITHMETIC, problems=20, samples=2, top_k=1, max_completion_tokens=32)
    greedy = [rollout.text for rollout in plain.greedy_rollouts for _ in range(2)]
    assert [rollout.text for rollout in nearly_greedy.sampled_rollouts] == greedy
    assert [rollout.text for rollout in plain.sampled_rollouts] != greedy
    stopped = evaluate(policy, ARITHMETIC, problems=20, samples=2, top_p=0.9, stop=["="], max_completion_tokens=32)
    for rollout in [*stopped.greedy_rollouts, *stopped.sampled_rollouts]:
        assert rollout.text.count("=") <= 1
    assert "temperature 1, top-p 0.9, stopped by '='" in str(stopped)
    stopped.save(tmp_path / "report.json")
    loaded = EvaluationReport.load(tmp_path / "report.json")
    assert (loaded.top_k, loaded.top_p, loaded.stop) == (None, 0.9, ("=",))
    with pytest.raises(ValueError, match="top_p"):
        evaluate(policy, ARITHMETIC, problems=2, samples=1, top_p=0.0)


class Sampled(Exception):
    """Carries the sampling settings that the first completions were asked for with."""


def sampling_of(agent, monkeypatch, *env, **options):
    """The settings of the sampled completions; the greedy ones come first and are not generated here."""
    seen = []

    def collect(envs, policy, engine, seeds, group_size, sampling, *rest):
        seen.append(sampling)
        if len(seen) == 2:
            raise Sampled
        return []

    monkeypatch.setattr("agents.evaluation.held_out.collect", collect)
    with pytest.raises(Sampled):
        evaluate(agent, *env, problems=2, samples=1, **options)
    greedy, sampled = seen
    assert (greedy.temperature, greedy.top_k, greedy.top_p) == (0.0, None, 1.0)
    assert (greedy.max_completion_tokens, greedy.stop) == (sampled.max_completion_tokens, sampled.stop)
    return sampled


def test_an_agent_is_evaluated_as_it_was_trained_unless_told_otherwise(monkeypatch):
    config = GRPOConfig(max_completion_tokens=24, temperature=0.7, top_k=5, top_p=0.9, stop=("=",))
    agent = GRPOAgent("builtin/tiny", ARITHMETIC, config=config, device="cpu")
    assert sampling_of(agent, monkeypatch) == agent.sampling == SamplingParams(24, 0.7, 5, 0.9, ("=",))
    for name, value in {
        "max_completion_tokens": 8,
        "temperature": 1.0,
        "top_k": None,
        "top_p": 1.0,
        "stop": (),
    }.items():
        assert sampling_of(agent, monkeypatch, **{name: value}) == replace(agent.sampling, **{name: value})
    assert sampling_of(agent, monkeypatch, stop=["a", "b"]).stop == ("a", "b")


def test_a_policy_without_an_agent_is_evaluated_with_the_defaults(monkeypatch):
    policy = load_policy("builtin/tiny", device="cpu")
    assert sampling_of(policy, monkeypatch, ARITHMETIC) == SamplingParams()
    assert sampling_of(policy, monkeypatch, ARITHMETIC, top_k=3) == SamplingParams(top_k=3)


def test_wrong_sampling_options_are_refused():
    with pytest.raises(TypeError, match="temprature"):
        evaluate("builtin/tiny", ARITHMETIC, temprature=1.0)
    with pytest.raises(TypeError, match="stop"):
        evaluate("builtin/tiny", ARITHMETIC, stop="end")
