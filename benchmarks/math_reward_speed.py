"""`MathReward` and Math-Verify side by side on one core: plain numerals and LaTeX expressions per second.

    python benchmarks/math_reward_speed.py

Rounds alternate between the two, so that both see the same machine. The numerals are new in each round; the expressions
are the same, which lets the caches of sympy help both, so the first round is given apart.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import tyro
from math_reward_peers import EXPRESSION_KINDS, math_verify, numerals, one_by_one, ours, read_cases

TABLE = Path(__file__).parents[1] / "tests" / "rewards" / "math_cases.tsv"


@dataclass
class Arguments:
    """What to measure.

    Args:
        rounds: How often each checker takes its turn.
        numerals: Boxed numerals in a round, every other one right.
    """

    rounds: int = 5
    numerals: int = 2_000


def main(arguments: Arguments) -> None:
    """Print a table of medians and ratios."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    checkers = {"MathReward": ours(strict=True), "Math-Verify": one_by_one(math_verify())}
    cases = [case for case in read_cases([TABLE]) if case.kind in EXPRESSION_KINDS]
    expressions = [case.completion for case in cases], [case.reference for case in cases]
    rates: dict[str, dict[str, list[float]]] = {name: {"numerals": [], "expressions": []} for name in checkers}
    for reward in checkers.values():
        reward([r"\boxed{\frac{1}{2}x}"], ["x/2"])
    for number in range(arguments.rounds):
        works = {"numerals": numerals(arguments.numerals, number), "expressions": expressions}
        for work, (completions, references) in works.items():
            for name, reward in checkers.items():
                start = perf_counter()
                reward(completions, references)
                rates[name][work].append(len(completions) / (perf_counter() - start))
    print(
        f"| items per second, median of {arguments.rounds} | " + " | ".join(checkers) + " | ratio |\n|---|---|---|---|"
    )
    for work in ("numerals", "expressions"):
        one, other = (statistics.median(rates[name][work]) for name in checkers)
        print(f"| {work} | {one:,.0f} | {other:,.0f} | {one / other:.0f} |")
        one, other = (rates[name][work][0] for name in checkers)
        print(f"| {work}, first round | {one:,.0f} | {other:,.0f} | {one / other:.0f} |")
    print(f"{len(cases)} expressions; load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
