"""The package's entry point in Gymnasium's plugin group `gymnasium.envs`.

Gymnasium up to 0.29 called it when it was imported. Gymnasium 1.0 stopped loading plugins, so a hook of our own calls
it then: `startup/llm_envs_plugin_hook.py`, which installing the package puts into site-packages. With
`LLM_ENVS_PLUGIN=0`, or where the package is not installed, `gymnasium.make("llm_envs:llm_envs/Arithmetic-v0")` makes an
environment, Gymnasium doing the import.
"""

from __future__ import annotations


def register_builtin_tasks() -> None:
    """Register the tasks that come with this package."""
    import llm_envs.tasks  # noqa: F401  (importing a task registers it)
