"""Verifiable tasks for language models as Gymnasium environments; importing it registers them and never loads torch.

Names that few programs need load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm_envs.name_clash
import llm_envs.reasoning_gym
import llm_envs.tasks
from llm_envs.datasets import register_dataset, register_problems
from llm_envs.env import CompletionEnv
from llm_envs.problem import Problem
from llm_envs.registration import register_task
from llm_envs.spaces import Unicode
from llm_envs.stream import ProblemStream
from llm_envs.turns import Reply
from llm_envs.vector_env import CompletionVectorEnv
from rewards.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from llm_envs.audit import AuditFailed, AuditReport, audit_task
    from llm_envs.curriculum import register_curriculum
    from llm_envs.export import from_trl, from_verl, to_trl, to_verl
    from llm_envs.wrappers import FewShot, PromptTemplate, SystemPrompt, TokenCompletion, TokenLevel

__all__ = [
    "AuditFailed",
    "AuditReport",
    "CompletionEnv",
    "CompletionVectorEnv",
    "FewShot",
    "Problem",
    "ProblemStream",
    "PromptTemplate",
    "Reply",
    "SystemPrompt",
    "TokenCompletion",
    "TokenLevel",
    "Unicode",
    "audit_task",
    "from_trl",
    "from_verl",
    "register_curriculum",
    "register_dataset",
    "register_problems",
    "register_task",
    "to_trl",
    "to_verl",
]


llm_envs.name_clash.warn()

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "llm_envs.audit": ["AuditFailed", "AuditReport", "audit_task"],
            "llm_envs.curriculum": ["register_curriculum"],
            "llm_envs.export": ["from_trl", "from_verl", "to_trl", "to_verl"],
            "llm_envs.wrappers": ["FewShot", "PromptTemplate", "SystemPrompt", "TokenCompletion", "TokenLevel"],
        },
    )
