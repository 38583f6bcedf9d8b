"""`llm-envs list`: which tasks there are."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
from rich.console import Console
from rich.table import Table
from rich.text import Text

import llm_envs  # noqa: F401  (registers the tasks that come with this package)
from agents.cli.options import Flag, parse
from llm_envs.task import ENV_ARGUMENTS, argument_text, task_of

FAMILIES = "reasoning_gym/"


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs list` with the words that follow it."""
    parse(ListTasks, arguments, "llm-envs list").run()


@dataclass(frozen=True)
class ListTasks:
    """List the registered tasks with their arguments and what they are about."""

    families: Flag = False
    """Show each family of reasoning-gym (extra reasoning-gym) as a row of its own."""

    def run(self) -> None:
        """Print the table."""
        table = Table("Environment", "Arguments (for --env-args)", "Task")
        table.columns[0].no_wrap = True  # an id that is cut cannot be copied
        table.columns[1].overflow = table.columns[2].overflow = "fold"
        tasks = {id: task for id, spec in gymnasium.registry.items() if (task := task_of(spec)) is not None}
        hidden = [] if self.families else sorted(id for id in tasks if id.startswith(FAMILIES))
        for id in sorted(tasks.keys() - set(hidden)):
            sampler = tasks[id].sampler
            arguments = "\n".join(argument_text(*argument) for argument in tasks[id].sampler_arguments.items())
            turns = f" Up to {tasks[id].max_turns} turns." if tasks[id].max_turns > 1 else ""
            about = (inspect.getdoc(sampler) or "").partition("\n")[0] + turns
            table.add_row(id, Text(arguments), Text(about))  # no markup: brackets mean themselves
        if hidden:
            table.add_row(f"{FAMILIES}NAME-v0", "config={}", f"{len(hidden)} families of reasoning-gym; NAME is below.")
        console = Console()
        console.print(table)
        if hidden:
            names = ", ".join(id.removeprefix(FAMILIES).removesuffix("-v0") for id in hidden)
            console.print(f"{FAMILIES}NAME-v0: {names}.", highlight=False)
        common = {name: f"{name}={value!r}" for name, value in ENV_ARGUMENTS.items()}
        ours = common.pop("prompt_template")  # the commands choose the others
        text = f"Every task also takes {ours}, and in gymnasium.make {' and '.join(common.values())}."
        console.print(text, highlight=False)
