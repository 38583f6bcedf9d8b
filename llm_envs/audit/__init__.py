"""`audit_task`: attack a task's reward before anybody trains on it."""

from llm_envs.audit.rows import AuditFailed, AuditReport, Row, Verdict
from llm_envs.audit.run import audit_task

__all__ = ["AuditFailed", "AuditReport", "Row", "Verdict", "audit_task"]
