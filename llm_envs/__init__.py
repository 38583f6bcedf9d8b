"""Verifiable tasks for language models as Gymnasium environments; importing it never loads torch."""

import llm_envs.reasoning_gym
import llm_envs.tasks  # noqa: F401
from llm_envs.datasets import register_dataset
from llm_envs.env import CompletionEnv
from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.spaces import Unicode
from llm_envs.stream import ProblemStream
from llm_envs.vector_env import CompletionVectorEnv

__all__ = [
    "CompletionEnv",
    "CompletionVectorEnv",
    "Problem",
    "ProblemStream",
    "Unicode",
    "register_dataset",
    "register_task",
]
