"""`llm-envs list`: which tasks there are."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import gymnasium
from rich.console import Console
from rich.table import Table

import llm_envs  # noqa: F401  (registers the tasks that come with this package)
from llm_envs.registration import ENV_ARGUMENTS, Task


@dataclass(frozen=True)
class ListTasks:
    """List the registered tasks with their arguments and what they are about."""

    def run(self) -> None:
        """Print the table."""
        table = Table("Environment", "Arguments (for --env-args)", "Task")
        for spec in gymnasium.registry.values():
            if isinstance(spec.entry_point, Task):
                arguments = "\n".join(f"{k}={v!r}" for k, v in spec.entry_point.sampler_arguments.items())
                summary = (inspect.getdoc(spec.entry_point.sampler) or "").partition("\n")[0]
                table.add_row(spec.id, arguments, summary)
        console = Console()
        console.print(table)
        common = ", ".join(f"{name}={value!r}" for name, value in ENV_ARGUMENTS.items())
        console.print(f"Every task also takes {common}.", highlight=False)
