"""The tasks that come with this package, one module each; importing a module registers its task."""

from llm_envs.tasks import (
    arithmetic,
    code_repair,
    code_tests,
    countdown,
    equations,
    fractions,
    gsm8k,
    guess_number,
    math_dataset,
    number_theory,
    polynomials,
    python_functions,
    sorting,
    strings,
    word_problems,
)

__all__ = [
    "arithmetic",
    "code_repair",
    "code_tests",
    "countdown",
    "equations",
    "fractions",
    "gsm8k",
    "guess_number",
    "math_dataset",
    "number_theory",
    "polynomials",
    "python_functions",
    "sorting",
    "strings",
    "word_problems",
]
