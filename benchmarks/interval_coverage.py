"""How often the 95 % intervals of evaluations and comparisons hold the truth, by simulation.

python benchmarks/interval_coverage.py

A problem's chance of being solved is Beta-distributed over problems; its samples are independent given that. The
correlation of two samples of one problem is then 1 / (a + b + 1), which is what `correlation` sets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro
from scipy import stats

from agents.evaluation.estimates import Estimate, mean_estimate, paired_difference, pass_at_k, proportion_estimate

ACCURACIES = (0.02, 0.1, 0.5, 0.9, 0.98)
CHANGES = ((0.02, 0.02), (0.02, 0.1), (0.38, 0.9), (0.9, 0.9), (0.9, 0.98))
BECOME_RIGHT = (0.02, 0.05, 0.2)


@dataclass(frozen=True)
class Arguments:
    """Simulate evaluations and print Markdown tables of the share of intervals that hold the truth, in percent."""

    repeats: int = 4000
    """Evaluations for each figure; with 4,000 its standard error is 0.35 where the share is 95 %."""
    correlation: float = 0.3
    """Of two samples of one problem."""
    problems: tuple[int, ...] = (50, 200, 500)
    """Problems of an evaluation."""
    samples: tuple[int, ...] = (1, 4, 8)
    """Completions for each; one is also greedy decoding, whatever the correlation."""
    seed: int = 0
    """Names the noise."""


@functools.cache
def chances(accuracy: float, correlation: float) -> np.ndarray:
    """(20000,) chances of problems from the hardest to the easiest, each as frequent as the others."""
    total = 1 / correlation - 1
    return stats.beta.ppf((np.arange(20_000) + 0.5) / 20_000, accuracy * total, (1 - accuracy) * total)


def held(arguments: Arguments, truth: float, draw: Callable[[np.random.Generator], Estimate]) -> str:
    """The share of intervals that hold the truth, in percent."""
    rng = np.random.default_rng(arguments.seed)
    estimates = [draw(rng) for _ in range(arguments.repeats)]
    return f"{100 * np.mean([estimate.low <= truth <= estimate.high for estimate in estimates]):.1f}"


def table(title: str, columns: list[str], rows: dict[str, list[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def accuracy(problems: int, samples: int, share: float, correlation: float) -> Callable[..., Estimate]:
    """Evaluations of one policy."""

    def draw(rng: np.random.Generator) -> Estimate:
        chance = rng.choice(chances(share, correlation), size=problems)
        return proportion_estimate(rng.binomial(samples, chance) / samples, samples)

    return draw


def best_of_four(problems: int, share: float, correlation: float) -> tuple[float, Callable[..., Estimate]]:
    """The true pass@4, and evaluations of it with 8 samples."""
    values = np.array([pass_at_k(8, right, 4) for right in range(9)])

    def draw(rng: np.random.Generator) -> Estimate:
        chance = rng.choice(chances(share, correlation), size=problems)
        return proportion_estimate(values[rng.binomial(8, chance)], 8 // 4)

    return float(np.mean(1 - (1 - chances(share, correlation)) ** 4)), draw


def change(problems: int, samples: int, before: float, after: float, correlation: float) -> Callable[..., Estimate]:
    """Evaluations of two policies on the same problems, which keep their order of difficulty."""
    tables = chances(before, correlation), chances(after, correlation)

    def draw(rng: np.random.Generator) -> Estimate:
        order = rng.integers(len(tables[0]), size=problems)
        shares = [rng.binomial(samples, table[order]) / samples for table in tables]
        return paired_difference(shares[0], shares[1])

    return draw


def become_right(problems: int, share: float) -> Callable[..., Estimate]:
    """Greedy evaluations where some problems become right and none becomes wrong."""
    return lambda rng: paired_difference(np.zeros(problems), (rng.random(problems) < share).astype(float))


def main(arguments: Arguments) -> None:
    """Print the tables."""
    correlation = arguments.correlation
    sizes = [(n, m) for n in arguments.problems for m in arguments.samples]
    rows = {f"{n} x {m}": [held(arguments, p, accuracy(n, m, p, correlation)) for p in ACCURACIES] for n, m in sizes}
    table("accuracy, problems x samples", [f"true: {p:g}" for p in ACCURACIES], rows)
    rows = {
        f"{n} x 8": [held(arguments, *best_of_four(n, p, correlation)) for p in ACCURACIES] for n in arguments.problems
    }
    table("pass@4, problems x samples", [f"accuracy: {p:g}" for p in ACCURACIES], rows)
    rows = {
        f"{n} x {m}": [held(arguments, q - p, change(n, m, p, q, correlation)) for p, q in CHANGES] for n, m in sizes
    }
    table("difference, problems x samples", [f"{p:g} to {q:g}" for p, q in CHANGES], rows)
    rows = {f"{n}": [held(arguments, p, become_right(n, p)) for p in BECOME_RIGHT] for n in arguments.problems}
    table("greedy difference, problems", [f"{100 * p:g} % become right" for p in BECOME_RIGHT], rows)
    runs: dict[str, tuple[float, Callable[[np.random.Generator], np.ndarray]]] = {
        "deviation 0.02 around 0.9": (0.9, lambda rng: rng.normal(0.9, 0.02, size=3)),
        "one run in ten stays at 0.4": (0.85, lambda rng: rng.normal(np.where(rng.random(3) < 0.1, 0.4, 0.9), 0.02)),
    }
    cells = [held(arguments, truth, lambda rng, draw=draw: mean_estimate(draw(rng))) for truth, draw in runs.values()]
    table("over three seeds", list(runs), {"accuracy of the runs": cells})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
