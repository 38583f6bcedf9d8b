"""The package's entry point in Gymnasium's plugin group `gymnasium.envs`.

Gymnasium up to 0.29 called it when it was imported. Gymnasium 1.0 stopped loading plugins: there,
`gymnasium.make("llm_envs:llm_envs/Arithmetic-v0")` makes an environment without an import, Gymnasium doing the import.
"""

from __future__ import annotations


def register_builtin_tasks() -> None:
    """Register the tasks that come with this package."""
    import llm_envs.tasks  # noqa: F401  (importing a task registers it)
