"""What Gymnasium calls when it is imported, so that `gymnasium.make("llm_envs/...")` needs no import of this package."""

from __future__ import annotations


def register_builtin_tasks() -> None:
    """Register the tasks that come with this package."""
    import llm_envs.tasks  # noqa: F401  (importing a task registers it)
