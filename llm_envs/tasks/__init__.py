"""The tasks that come with this package, one module each; importing a module registers its task."""

from llm_envs.tasks import arithmetic, code_tests, python_functions

__all__ = ["arithmetic", "code_tests", "python_functions"]
