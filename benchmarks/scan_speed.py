"""Time over length of the scans of a completion: the program in it, the answer in it, and the lexer of formulas.

    python benchmarks/scan_speed.py
    python benchmarks/scan_speed.py --longest 262144

The texts repeat what once was, or could be, slow. A scan that is linear has the exponent 1: twice the length, twice the
time. Where a scan reads the end of a text alone, or refuses a long one, its exponent is smaller; the lexer is measured
with its caps lifted. CPU time, the best of three. That no scan is quadratic is a test, which counts operations:
`tests/rewards/test_linear_scans.py`.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import tyro

import rewards.math.lexer as lexer
from rewards.code.extraction import extract_code
from rewards.extract import extract_answer
from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge

PREFIX = 'import math\n\n\ndef f(x):\n    """Return x."""\n'
# a beginning, what is repeated, and an end
CODE = {
    "lines of code": ("```python\n", "    y = f(x) + 1  # it's\n", "```\n"),
    "escaped quotes in a string": ('```python\n"""', '\\"""', '\n"""\n'),
    "strings that nothing ends": ("", '```python\n"""\n```\n', "'''"),
    "fences": ("", "```python\n", ""),
    "quotes of both kinds": ("```python\n", "\"\"\"'''", ""),
    "backslashes": ("```python\n'", "\\", ""),
    "prose": ("", "The function if : is = called. ", ""),
}
ANSWERS = {
    "prose": ("", "We add 3 and 4, so x = 7. ", "\\boxed{7}"),
    "boxes": ("", "\\boxed{1} ", ""),
    "boxes in boxes": ("", "\\boxed{", "}" * 1000),
    "tags": ("", "<answer>1</answer>", ""),
    "answer": ("", "the answer ", ""),
    "braces": ("\\boxed{", "{}\\{", "}"),
    "spacing": ("\\boxed{", "\\,", "1}"),
}
FORMULAS = {
    "sums": ("", "x+12y-", "1"),
    "braces": ("", "\\left(\\{", ""),
    "fractions": ("", "\\frac{1}{2}+", "1"),
    "digits": ("", "1", ""),
    "spacing": ("", "\\, ", "1"),
    "texts": ("", "\\text{or}", "1"),
    "scripts": ("", "x\u00b2", ""),
}


@dataclass
class Arguments:
    """What to measure.

    Args:
        longest: Characters of the longest text.
        sizes: How many lengths, each half of the one before.
    """

    longest: int = 2**20
    sizes: int = 4


def seconds(scan: Callable[[str], object], text: str) -> float:
    """CPU time of one scan, the best of three; one that takes long is not repeated."""
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        with suppress(Unreadable, TooLarge):
            scan(text)
        best = min(best, time.process_time() - start)
        if best > 2:
            break
    return best


def main(arguments: Arguments) -> None:
    """Print a table."""
    lexer.MAX_CHARACTERS = lexer.MAX_TOKENS = 2 * arguments.longest
    lengths = [arguments.longest >> shift for shift in reversed(range(arguments.sizes))]
    scans: dict[str, tuple[Callable[[str], object], dict[str, tuple[str, str, str]]]] = {
        "program": (partial(extract_code, entry_point="f"), CODE),
        "program, with a prefix": (partial(extract_code, entry_point="f", prefix=PREFIX), CODE),
        "answer": (extract_answer, ANSWERS),
        "lexer": (lexer.tokenize, FORMULAS),
    }
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    print("| scan | text | " + " | ".join(f"ms at {length:,}" for length in lengths) + " | exponent |")
    print("|---|---|" + "---|" * (len(lengths) + 1))
    for name, (scan, texts) in scans.items():
        for kind, (begin, unit, end) in texts.items():
            times = [seconds(scan, begin + unit * ((n - len(begin + end)) // len(unit)) + end) for n in lengths]
            exponent = math.log2(max(times[-1], 1e-6) / max(times[0], 1e-6)) / (len(times) - 1)
            row = " | ".join(f"{1000 * one:.2f}" for one in times)
            print(f"| {name} | {kind} | {row} | {exponent:.2f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
