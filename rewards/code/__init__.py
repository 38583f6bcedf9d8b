"""A reward for programs: tests that run outside the process that holds the model's code."""

from rewards.code.cases import (
    CheckTests,
    ClassCase,
    ClassTests,
    FunctionCase,
    FunctionTests,
    ProgramCase,
    ProgramTests,
    as_dict,
    load,
)
from rewards.code.code_tests_reward import CodeTestsReward

__all__ = [
    "CheckTests",
    "ClassCase",
    "ClassTests",
    "CodeTestsReward",
    "FunctionCase",
    "FunctionTests",
    "ProgramCase",
    "ProgramTests",
    "as_dict",
    "load",
]
