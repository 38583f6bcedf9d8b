"""Statistics of an evaluation: pass@k, and intervals and paired differences where the problem is the unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_ROUNDING = 1e-9
_FEW_PROBLEMS = 10
_EXACT_BELOW = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_percent(self) -> str:
        """Such as `31.2 [27.9, 34.8]`, in percent."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def as_number(self) -> str:
        """Such as `0.312 [0.279, 0.348]`."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def as_change(self) -> str:
        """Such as `+0.032 [-0.001, +0.065]`: a difference with its sign."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def as_points(self) -> str:
        """Such as `+3.2 [-0.1, +6.5]`: a difference in percentage points, with its sign."""
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k samples is right, from c right ones among n.

    The unbiased estimator of Chen et al. 2021, arXiv:2107.03374, eq. 1.

    Raises:
        ValueError: Not `0 <= c <= n` and `1 <= k <= n`.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"expected 0 <= c <= n and 1 <= k <= n, got {n=}, {c=}, {k=}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def proportion_estimate(by_problem: np.ndarray, tries: int | None = None) -> Estimate:
    """Mean of per-problem success rates in [0, 1] with an interval at the effective sample size.

    The problem is the unit: samples of one problem are not independent. From the variance `v` between problems, the
    effective number of independent trials is `p (1 - p) / (v / n)` (Kish's design effect), which is n for 0/1 values
    and more where each problem was sampled repeatedly; Wilson's interval for that many trials stays inside [0, 1] and
    does not shrink to a point at 0 or 1 (Korn and Graubard 1998 have the effective sample size; Franco et al. 2019
    compare intervals that use it, and recommend Wilson's).

    Near 0 and 1 both need care. Fewer than 10 problems that were solved at all (or missed at all) do not tell how much
    problems differ: there are then at most 2 n trials, which is what any number of samples amounts to where two of one
    problem have a correlation of 1/2. With fewer than 100 problems, Wilson's interval then holds the truth too seldom
    (Brown, Cai and DasGupta 2001), and the exact one of Clopper and Pearson takes its place. docs/metrics.md has what
    the intervals cover.

    Args:
        by_problem: (n,) values in [0, 1].
        tries: How many independent tries of its problem a value can stand for: `m // k` where it is pass@k of m
            samples. There are at most `n * tries` trials; the variance alone would give more where nearly all values
            are 1 and those that differ, differ by little. None: no such bound.
    """
    n = len(by_problem)
    p = float(np.mean(by_problem))
    variance = float(np.var(by_problem, ddof=1)) / n if n > 1 else 0.0
    trials = max(n, p * (1 - p) / variance) if variance > 0 else n
    near_an_end = min(np.count_nonzero(by_problem > 0), np.count_nonzero(by_problem < 1)) < _FEW_PROBLEMS
    if tries is not None:
        trials = min(trials, n * (min(tries, 2) if near_an_end else tries))
    low, high = _clopper_pearson(p, trials) if near_an_end and n < _EXACT_BELOW else _wilson(p, trials)
    return Estimate(p, max(0.0, min(p, low)), min(1.0, max(p, high)))


def _wilson(p: float, trials: float) -> tuple[float, float]:
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    return centre - half, centre + half


def _clopper_pearson(p: float, trials: float) -> tuple[float, float]:
    """The exact interval, whose quantiles of the beta distribution allow numbers of trials that are not whole."""
    right, wrong, tail = p * trials, (1 - p) * trials, (1 - CONFIDENCE) / 2
    low = float(stats.beta.ppf(tail, right, wrong + 1)) if right > _ROUNDING else 0.0
    high = float(stats.beta.ppf(1 - tail, right + 1, wrong)) if wrong > _ROUNDING else 1.0
    return low, high


def mean_estimate(by_problem: np.ndarray) -> Estimate:
    """Mean of per-problem values with Student's t interval over problems; without bound for a single problem."""
    n = len(by_problem)
    mean = float(np.mean(by_problem))
    if n < 2:
        return Estimate(mean, -math.inf, math.inf)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * float(np.std(by_problem, ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)


def paired_difference(before: np.ndarray, after: np.ndarray) -> Estimate:
    """Mean of `after - before` on the same problems, with Student's t interval over problems, cut to [-1, 1].

    Pairing removes the differences between problems, which are usually the larger part of the noise. Where all differ
    by the same (nothing changed, say), there is no variance to go by; two more problems, one that became right and one
    that became wrong, then stand for changes that were not seen: about 3 / n to both sides, as by the rule of three.

    Args:
        before: (n,) shares of right completions before, in [0, 1].
        after: (n,) shares of right completions after, of the same problems in the same order.

    Raises:
        ValueError: The two do not have the same problems.
    """
    if before.shape != after.shape:
        raise ValueError(f"expected the same problems before and after, got {before.shape} and {after.shape}")
    difference = after - before
    mean = float(np.mean(difference))
    interval = mean_estimate(np.append(difference, (1, -1)) if np.ptp(difference) < _ROUNDING else difference)
    return Estimate(mean, max(-1.0, min(interval.low, mean)), min(1.0, max(interval.high, mean)))
