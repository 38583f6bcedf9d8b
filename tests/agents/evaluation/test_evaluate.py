from __future__ import annotations

import itertools
import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from scipy import stats

from agents import GRPOAgent, GRPOConfig, evaluate, load_policy
from agents.evaluation.evaluate import (
    EvaluationReport,
    distinct_problem_seeds,
    mean_estimate,
    paired_difference,
    pass_at_k,
    proportion_estimate,
)
from agents.rollout import SamplingParams
from llm_envs.wrappers import SystemPrompt

ARITHMETIC = "llm_envs/Arithmetic-v0"


@pytest.mark.parametrize(("n", "c", "k"), [(5, 0, 1), (5, 2, 1), (5, 2, 3), (6, 5, 2), (4, 4, 4), (8, 1, 8)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n, c, k):
    subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)])
def test_pass_at_k_refuses_nonsense(n, c, k):
    with pytest.raises(ValueError, match="expected"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize("successes", [0, 1, 37, 199, 200])
def test_binary_outcomes_give_wilsons_interval(successes):
    values = np.array([1.0] * successes + [0.0] * (200 - successes))
    estimate = proportion_estimate(values)
    expected = stats.binomtest(successes, 200).proportion_ci(method="wilson")
    # the variance between problems is the binomial one but for Bessel's correction
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=2e-4)


def test_all_right_is_not_certainty():
    estimate = proportion_estimate(np.ones(50))
    assert estimate.value == estimate.high == 1.0
    assert estimate.low < 0.95


def coverage(interval, draw, truth, repeats=600):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(repeats):
        estimate = interval(draw(rng))
        hits += estimate.low <= truth <= estimate.high
    return hits / repeats


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.6), (8.0, 2.0), (0.2, 8.0), (20.0, 0.3)])
def test_interval_covers_the_truth_when_problems_differ(a, b):
    """Problems of random difficulty, eight samples each: samples of one problem are not independent."""

    def draw(rng):
        return rng.binomial(8, rng.beta(a, b, size=150)) / 8

    assert 0.92 <= coverage(proportion_estimate, draw, a / (a + b)) <= 0.985

    def naive(values):  # what treating all samples as independent would give
        p, n = values.mean(), 8 * len(values)
        low, high = stats.binomtest(round(p * n), n).proportion_ci(method="wilson")
        return type("Interval", (), {"low": low, "high": high})

    if (a, b) == (0.3, 0.6):
        assert coverage(naive, draw, a / (a + b)) < 0.8


def test_the_interval_of_pass_at_k_covers_the_truth_where_nearly_all_is_solved():
    """50 problems, accuracy 0.9: pass@4 of 8 samples is 1 but for a few hard problems, and those may not be drawn."""
    a, b = 2.1, 0.7 / 3
    truth = 1 - math.prod((b + i) / (a + b + i) for i in range(4))  # 1 minus the mean of (1 - p)^4

    def draw(rng):
        return np.array([pass_at_k(8, c, 4) for c in rng.binomial(8, rng.beta(a, b, size=50))])

    assert coverage(lambda values: proportion_estimate(values, 8 // 4), draw, truth) > 0.93
    assert coverage(proportion_estimate, draw, truth) < 0.8


def test_there_are_no_more_trials_than_tries():
    values = np.array([1.0] * 49 + [69 / 70])
    expected = stats.binomtest(100, 100).proportion_ci(method="wilson").low
    assert proportion_estimate(values, 2).low == pytest.approx(expected, abs=1e-3)
    assert proportion_estimate(values).low > 1 - (1 - expected) / 10
    ones = np.array([1.0] * 30 + [0.0] * 20)
    assert proportion_estimate(ones, 1) == proportion_estimate(ones)


def test_mean_and_paired_difference():
    values = np.array([0.0, 1.0, 0.5, 0.25])
    estimate = mean_estimate(values)
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert mean_estimate(np.array([0.3])).low == -math.inf
    before = np.array([0.1, 0.9, 0.4])
    after = np.array([0.3, 0.8, 0.7])
    expected = mean_estimate(after - before)
    assert paired_difference(before, after).value == expected.value
    assert paired_difference(before, after).low == expected.low
    with pytest.raises(ValueError, match="same problems"):
        paired_difference(before, before[:2])


@pytest.mark.parametrize("problems", [50, 200, 500])
def test_no_change_is_not_certainty(problems):
    same = np.full(problems, 0.375)
    difference = paired_difference(same, same)
    assert (difference.value, difference.low) == (0.0, -difference.high)
    # had 3 / n of all problems changed, none of n would have in one case of twenty
    assert difference.high == pytest.approx(3 / problems, rel=0.1)
    solved = paired_difference(np.zeros(problems), np.ones(problems))
    assert solved.value == solved.high == 1.0
    assert 1 - 7 / problems < solved.low < 1 - 3 / problems
    # without rounding there would be no variance here either
    rounded = paired_difference(np.full(problems, 0.1), np.resize([0.1 + 0.2, 0.3], problems))
    assert rounded.low < 0.2 - 1 / problems


def test_the_difference_of_one_problem_may_be_anything():
    difference = paired_difference(np.array([0.5]), np.array([0.75]))
    assert (difference.value, difference.low, difference.high) == (0.25, -1.0, 1.0)


def test_the_interval_of_a_difference_covers_it_where_few_problems_change():
    """One problem in fifty becomes right: in a third of the evaluations none of fifty does."""

    class Difference:
        def __init__(self, changed):
            estimate = paired_difference(np.zeros(50), changed)
            self.low, self.high = estimate.low, estimate.high

    assert coverage(Difference, lambda rng: (rng.random(50) < 0.02).astype(float), 0.02) > 0.95


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
        agent.learn(32)
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

    monkeypatch.setattr("agents.evaluation.evaluate.collect", collect)
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
    with pytest.raises(ValueError, match="stop"):
        evaluate("builtin/tiny", ARITHMETIC, stop="end")
