"""`llm_envs/NumberTheory-v0`: divisors and multiples, other bases, remainders, primes."""

from __future__ import annotations

from math import gcd, isqrt, lcm

import numpy as np

from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.tasks.writing import boxed, check_choice, check_level, pick, whole
from rewards.extract import MARKED_RULES
from rewards.math import MathReward

KINDS = ("gcd", "lcm", "to_base", "from_base", "remainder", "inverse", "largest_prime", "next_prime")
LEVELS = 3
_REWARD = MathReward(rules=MARKED_RULES)


def in_base(n: int, base: int) -> str:
    """The digits of a positive whole number in a base of at most ten.

    >>> in_base(11, 2)
    '1011'
    """
    digits = ""
    while n:
        n, digit = divmod(n, base)
        digits = str(digit) + digits
    return digits


def prime_factors(n: int) -> list[int]:
    """The prime factors of a whole number above 1, in ascending order, repeated ones repeated.

    >>> prime_factors(60)
    [2, 2, 3, 5]
    """
    found, divisor = [], 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            found.append(divisor)
            n //= divisor
        divisor += 1
    return [*found, n] if n > 1 else found


def is_prime(n: int) -> bool:
    """Whether a whole number is prime, by trial division."""
    return n > 1 and all(n % divisor for divisor in range(2, isqrt(n) + 1))


def _gcd(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    bound = (10, 60, 500)[level]
    shared = whole(rng, 2, bound)
    a, b = shared * whole(rng, 2, bound), shared * whole(rng, 2, bound)
    steps, x, y = [], max(a, b), min(a, b)
    while y:
        steps.append(f"{x} mod {y} = {x % y}")
        x, y = y, x % y
    return f"What is the greatest common divisor of {a} and {b}?", str(gcd(a, b)), ", ".join(steps)


def _lcm(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    bound = (20, 60, 300)[level]
    a, b = whole(rng, 3, bound), whole(rng, 3, bound)
    steps = f"{a} * {b} / {gcd(a, b)} = {lcm(a, b)}"
    return f"What is the least common multiple of {a} and {b}?", str(lcm(a, b)), steps


def _to_base(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    base = 2 if level == 0 else whole(rng, 3, 9)
    n = whole(rng, 10, (127, 999, 99_999)[level])
    question = f"Write the decimal number {n} in base {base}. Give its digits alone."
    steps, rest = [], n
    while rest:
        steps.append(f"{rest} = {base} * {rest // base} + {rest % base}")
        rest //= base
    return question, in_base(n, base), "; ".join(steps)


def _from_base(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    base = 2 if level == 0 else whole(rng, 3, 9)
    n = whole(rng, 10, (127, 999, 99_999)[level])
    digits = in_base(n, base)
    steps = " + ".join(f"{digit} * {base ** (len(digits) - 1 - i)}" for i, digit in enumerate(digits))
    return f"The number {digits} is written in base {base}. What is it in decimal?", str(n), f"{steps} = {n}"


def _remainder(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    modulus = whole(rng, 3, (12, 40, 200)[level])
    base, exponent = whole(rng, 2, (9, 30, 99)[level]), whole(rng, 3, (6, 20, 200)[level])
    value, steps = 1, []
    for bit in bin(exponent)[2:]:
        value = value * value * (base if bit == "1" else 1) % modulus
        steps.append(str(value))
    question = f"What is the remainder when {base}^{exponent} is divided by {modulus}?"
    return question, str(value), f"Squaring and multiplying modulo {modulus}: {', '.join(steps)}"


def _inverse(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    while True:
        modulus = whole(rng, 5, (30, 100, 1000)[level])
        a = whole(rng, 2, modulus - 1)
        if gcd(a, modulus) == 1:
            break
    value = pow(a, -1, modulus)
    question = (
        f"Which whole number between 1 and {modulus - 1}, multiplied by {a}, leaves remainder 1 modulo {modulus}?"
    )
    return question, str(value), f"{a} * {value} = {a * value} = {modulus} * {a * value // modulus} + 1"


def _largest_prime(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    while True:
        n = whole(rng, 12, (300, 2000, 20_000)[level])
        factors = prime_factors(n)
        if len(factors) > 1:
            break
    return f"What is the largest prime factor of {n}?", str(factors[-1]), f"{n} = {' * '.join(map(str, factors))}"


def _next_prime(rng: np.random.Generator, level: int) -> tuple[str, str, str]:
    n = whole(rng, 8, (500, 3000, 20_000)[level])
    prime = n + 1
    passed = []
    while not is_prime(prime):
        passed.append(f"{prime} = {' * '.join(map(str, prime_factors(prime)))}")
        prime += 1
    return f"What is the smallest prime number greater than {n}?", str(prime), "; ".join([*passed, f"{prime} is prime"])


_MAKERS = dict(
    zip(KINDS, (_gcd, _lcm, _to_base, _from_base, _remainder, _inverse, _largest_prime, _next_prime), strict=True)
)


@register_task("llm_envs/NumberTheory-v0", reward=_REWARD)
def number_theory(rng: np.random.Generator, level: int = 0, kind: str | None = None) -> Problem:
    """Answer a question about whole numbers; the answer is a whole number.

    Args:
        rng: Source of randomness.
        level: 0 to 2: larger numbers; bases other than 2 from level 1 on.
        kind: `"gcd"`, `"lcm"`, `"to_base"`, `"from_base"`, `"remainder"` (of a power), `"inverse"` (modulo),
            `"largest_prime"` (factor), `"next_prime"`, or None for any of them.

    Raises:
        ValueError: An argument is out of range.
    """
    check_level(level, LEVELS)
    check_choice("kind", kind, KINDS)
    question, answer, steps = _MAKERS[kind or pick(rng, KINDS)](rng, level)
    return Problem(
        prompt=f"{question} {_REWARD.instruction}",
        reference=answer,
        solution=f"{steps}. {boxed(answer)}",
        metadata={"level": level},
        key=question,
    )
