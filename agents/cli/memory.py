"""`llm-envs memory`: how much memory training a model would take."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from agents.cli.common import UsageError
from agents.cli.options import parse
from agents.memory import CannotEstimate, MemoryEstimate, Workload, estimate_memory

_GIB = 2**30


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs memory` with the words that follow it."""
    work = parse(Workload, arguments, "llm-envs memory")
    console = Console()
    try:
        estimate = estimate_memory(work)
    except CannotEstimate as error:
        raise UsageError(str(error)) from error
    size = f"{estimate.parameters / 1e6:,.0f} million parameters"
    size += "" if work.lora_rank is None else f", {estimate.trained / 1e6:,.1f} million trained"
    where = f"each of {work.devices} devices ({work.parallel})" if work.devices > 1 else "one device"
    console.print(f"{work.policy}: {size}; {where}, in GiB", highlight=False)
    console.print(table(estimate))
    console.print("Libraries, CUDA graphs and fragments of memory come on top: leave a tenth free.", highlight=False)


def table(estimate: MemoryEstimate) -> Table:
    """What a device holds, by phase."""
    found = Table("", "rollout", "update")
    found.columns[1].justify = found.columns[2].justify = "right"
    phases = [estimate.always | estimate.rollout, estimate.always | estimate.update]
    for name in dict.fromkeys([*phases[0], *phases[1]]):
        found.add_row(name, *(f"{phase[name] / _GIB:.2f}" if name in phase else "" for phase in phases))
    found.add_section()
    found.add_row("all", *(f"{sum(phase.values()) / _GIB:.2f}" for phase in phases))
    return found
