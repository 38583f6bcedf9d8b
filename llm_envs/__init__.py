"""Verifiable tasks for language models as Gymnasium environments; importing it registers them and never loads torch.

Names that few programs need load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from llm_envs.audit import AuditFailed, AuditReport, audit_task
    from llm_envs.curriculum import register_curriculum
    from llm_envs.export import from_trl, from_verl, to_trl, to_verl
    from llm_envs.wrappers import FewShot, PromptTemplate, SystemPrompt, TokenCompletion, TokenLevel

_MODULES = {
    "AuditFailed": "llm_envs.audit",
    "AuditReport": "llm_envs.audit",
    "FewShot": "llm_envs.wrappers",
    "PromptTemplate": "llm_envs.wrappers",
    "SystemPrompt": "llm_envs.wrappers",
    "TokenCompletion": "llm_envs.wrappers",
    "TokenLevel": "llm_envs.wrappers",
    "audit_task": "llm_envs.audit",
    "from_trl": "llm_envs.export",
    "from_verl": "llm_envs.export",
    "register_curriculum": "llm_envs.curriculum",
    "to_trl": "llm_envs.export",
    "to_verl": "llm_envs.export",
}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'llm_envs' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
