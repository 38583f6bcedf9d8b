"""`llm-envs audit`: attack a task's reward before anybody trains on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agents.cli.common import CheckFailed, UsageError, parse_env_args
from agents.cli.options import EnvArgs, EnvId, Flag, parse
from agents.validation import check_at_least
from llm_envs.audit import AuditReport, Verdict, audit_task

_STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIP: "dim"}


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs audit` with the words that follow it."""
    parse(Audit, arguments, "llm-envs audit").run()


@dataclass(frozen=True)
class Audit:
    """Attack a task's reward: a verdict and an example for each property."""

    env: EnvId
    """Id of the task, such as llm_envs/Arithmetic-v0 or my_tasks:demo/Doubling-v0."""
    env_args: EnvArgs = ()
    """Its arguments, such as operands=2."""
    problems: int = 20
    """How many problems are attacked."""
    seed: int = 0
    """Names the problems, and the noise of the attacks."""
    json: Flag = False
    """Print the report as JSON instead of a table."""

    def __post_init__(self) -> None:
        check_at_least(self, 2, "problems")
        check_at_least(self, 0, "seed")

    def run(self) -> None:
        """Audit and print the report.

        Raises:
            CheckFailed: A property does not hold.
            UsageError: The task refuses an argument.
        """
        arguments = parse_env_args(self.env_args)
        progress = Console(stderr=True)
        with progress.status("Auditing") as status:
            try:
                report = audit_task(
                    self.env,
                    problems=self.problems,
                    seed=self.seed,
                    on_progress=lambda part: status.update(f"Auditing: {part}"),
                    **arguments,
                )
            except (TypeError, ValueError) as error:
                raise UsageError(str(error)) from error
        if self.json:
            print(json.dumps(report.as_json(), indent=1))
        else:
            console = Console()
            console.print(_table(report))
            console.print(_summary(report), highlight=False)
        if not report.passed:
            raise CheckFailed(f"{len(report.failed)} properties of {report.task} do not hold")


def _table(report: AuditReport) -> Table:
    table = Table("Property", "Verdict", "What was found", "Example", title=report.task)
    for row in report.rows:
        verdict = Text(str(row.verdict), style=_STYLES[row.verdict])
        table.add_row(row.name, verdict, Text(row.detail), Text(row.example, overflow="fold"))
    return table


def _summary(report: AuditReport) -> str:
    counts = {verdict: sum(row.verdict is verdict for row in report.rows) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{report.problems} problems, seed {report.seed}: {told}. docs/audit.md says what each row means."
