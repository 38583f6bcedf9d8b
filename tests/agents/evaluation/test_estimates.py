from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from agents.evaluation.estimates import mean_estimate, paired_difference, pass_at_k, proportion_estimate


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


@pytest.mark.parametrize("samples", [1, 4, 8, 16])
@pytest.mark.parametrize("problems", [20, 50, 80])
@pytest.mark.parametrize("accuracy", [0.01, 0.02, 0.05, 0.95, 0.98, 0.99])
def test_intervals_near_0_and_1_hold_the_truth_with_few_problems(accuracy, problems, samples):
    """Two samples of one problem have a correlation of 0.3, as in benchmarks/interval_coverage.py."""
    total = 1 / 0.3 - 1

    def draw(rng):
        return rng.binomial(samples, rng.beta(accuracy * total, (1 - accuracy) * total, size=problems)) / samples

    # 600 evaluations: a standard error of 0.009 where 95 % hold it
    assert coverage(lambda values: proportion_estimate(values, samples), draw, accuracy) > 0.92


@pytest.mark.parametrize("successes", [0, 1, 9, 41, 49, 50])
def test_few_problems_near_0_or_1_give_the_exact_interval(successes):
    values = np.array([1.0] * successes + [0.0] * (50 - successes))
    expected = stats.binomtest(successes, 50).proportion_ci(method="exact")
    for tries in (None, 1, 8):
        estimate = proportion_estimate(values, tries)
        # the variance between problems is the binomial one but for Bessel's correction
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=2e-3)


def test_samples_that_differ_in_few_problems_count_as_two_of_each():
    values = np.array([0.125] * 3 + [0.0] * 197)
    p = float(values.mean())
    estimate, one_try = proportion_estimate(values, 8), proportion_estimate(values, 1)
    assert estimate.low < p < estimate.high < one_try.high
    z = stats.norm.ppf(0.975)
    centre = (p + z**2 / 800) / (1 + z**2 / 400)  # Wilson's for 2 * 200 trials
    half = z / (1 + z**2 / 400) * math.sqrt(p * (1 - p) / 400 + z**2 / (4 * 400**2))
    assert estimate.high == pytest.approx(centre + half)


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
