"""Throw random and mutated text at `MathReward` for a while; report outcomes, the slowest texts and every fault.

    python benchmarks/fuzz_math_reward.py --minutes 10 --seed 0

Texts are mutations and crossings of the completions in `tests/rewards/math/math_cases.tsv`, strings of pieces of LaTeX,
and repetitions of such pieces. A fault is an exception, a crashed worker, or a batch that takes longer than its
deadlines.
"""

from __future__ import annotations

import csv
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from rewards.base import InvalidReference, Outcome
from rewards.math import MathReward

TABLE = Path(__file__).parents[1] / "tests" / "rewards" / "math_cases.tsv"
_WRITTEN = r"""
    \frac{ \sqrt{ \sqrt[3]{ \boxed{ \text{ \begin{pmatrix} \end{pmatrix} \left( \right) \{ \} \cup \infty \pm \le
    \in \mathbb{R} \binom{ ! ^ ^{ _ _{ { } ( ) [ ] | \lfloor \rfloor + - * / = < > , ; : & \\ % $ \% 0 1 2 7 9 10 99 3.5
    1e9 x y i e n \pi \sin \cos^2 \ln \log_ \arcsin \gcd mod and or \theta ° ² ½ ≤ ∞ 1,234 \overline{3} \ldots
    \approx dx #### Answer: </think> <think> <answer> </answer> \operatorname{ \displaystyle ٣ cm factorial 2^{ 9^9
    (1/0) \bmod \begin{cases} \end{cases} 4\,567 {,} \choose \over _2 base 0x \circ \setminus \emptyset \sum
"""
PIECES = [*_WRITTEN.split(), "\x00", "\ud800", "\u200b", "\uff14", " ", " or ", " and ", "\n"]


@dataclass
class Arguments:
    """What to throw.

    Args:
        minutes: How long.
        seed: Of the random texts.
        deadline: Of each comparison, in seconds.
    """

    minutes: float = 10.0
    seed: int = 0
    deadline: float = 1.0


def random_text(generator: random.Random, seeds: list[str]) -> str:
    """A text that may be anything."""
    kind = generator.random()
    if kind < 0.5:
        text = generator.choice(seeds)
        for _ in range(generator.randint(1, 6)):
            at, to = sorted(generator.choices(range(len(text) + 1), k=2))
            to = min(to, at + 8)
            piece = generator.choice((generator.choice(PIECES), text[at:to] * 2, "", generator.choice(seeds)[:20]))
            text = text[:at] + piece + text[to if generator.random() < 0.7 else at :]
        return text
    if kind < 0.85:
        text = "".join(generator.choices(PIECES, k=generator.randint(1, 40)))
        return "\\boxed{" + text + "}" if generator.random() < 0.8 else text
    if kind < 0.95:
        return "\\boxed{" + generator.choice(PIECES) * generator.randint(1, 400) + generator.choice(PIECES) * 40 + "}"
    return "".join(chr(generator.randrange(0x11000)) for _ in range(generator.randint(1, 60)))


def main(arguments: Arguments) -> None:
    """Run until the time is up and print what was seen."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    completions, references = [row["completion"] for row in rows], sorted({row["reference"] for row in rows})
    answers = [text[7:-1] for text in completions if text.startswith("\\boxed{")]
    generator = random.Random(arguments.seed)
    rewards = [MathReward(deadline=arguments.deadline), MathReward(strict=False, deadline=arguments.deadline)]
    outcomes: Counter[str] = Counter()
    slow: list[tuple[str, str, str]] = []
    longest, texts, end = 0.0, 0, time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < end:
        batch = [random_text(generator, completions) for _ in range(200)]
        chosen = [generator.choice(references) for _ in batch]
        for i in range(0, len(batch), 4):  # mutated references too, where they can be read
            reference = random_text(generator, answers)
            try:
                rewards[0].check_reference(reference)
            except InvalidReference:
                continue
            chosen[i] = reference
        reward = rewards[texts // 200 % 2]
        start = time.monotonic()
        results = reward([""] * len(batch), batch, chosen)
        longest = max(longest, time.monotonic() - start)
        texts += len(batch)
        for text, reference, result in zip(batch, chosen, results, strict=True):
            outcomes[result.outcome] += 1
            if result.outcome in (Outcome.TIMEOUT, Outcome.MEMORY, Outcome.CRASHED):
                slow.append((result.outcome, text[:300], reference[:200]))
    print(f"{texts} texts in {arguments.minutes:g} minutes; the longest batch of 200 took {longest:.2f} s")
    print(", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common()))
    for outcome, text, reference in slow:
        print(f"{outcome}: {text!a} for {reference!a}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
