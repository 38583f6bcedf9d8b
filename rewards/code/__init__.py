"""A reward for programs: tests that run outside the process that holds the model's code."""

from rewards.code.reward import CodeTestsReward
from rewards.code.tests import CheckTests, FunctionCase, FunctionTests, ProgramCase, ProgramTests, as_dict, load

__all__ = [
    "CheckTests",
    "CodeTestsReward",
    "FunctionCase",
    "FunctionTests",
    "ProgramCase",
    "ProgramTests",
    "as_dict",
    "load",
]
