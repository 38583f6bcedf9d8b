"""`llm-envs sandbox`: what holds a model's code on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from agents.cli.common import UsageError
from agents.cli.options import parse
from rewards.code.sandbox import sandbox_report


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs sandbox` with the words that follow it."""
    parse(SandboxCommand, arguments, "llm-envs sandbox").run()


@dataclass(frozen=True)
class SandboxCommand:
    """Try each layer of the sandbox for code from inside, and say what held."""

    def run(self) -> None:
        """Print the table.

        Raises:
            UsageError: The sandbox is not strong here.
        """
        report = sandbox_report()
        table = Table("Layer", "State", "Evidence")
        for layer in report.layers:
            state = "[green]active[/]" if layer.active else "[red]missing[/]"
            table.add_row(layer.name, state, layer.evidence)
        console = Console()
        console.print(table)
        console.print(f"Grade: {report.grade}", highlight=False)
        if report.grade != "strong":
            raise UsageError(
                "code is not scored here unless the reward has allow_weak=True; docs/sandbox.md says what is missing "
                "and how to get it"
            )
