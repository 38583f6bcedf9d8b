"""`llm-envs compare`: several agents on one task, from the same start, on a matched budget."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from agents.cli.common import (
    check_writable,
    quiet_loading,
    refuse_several_processes,
    refuse_split,
    spec_with,
    use_threads,
)
from agents.cli.options import Choice, EnvArgs, OptionalFloat, OptionalInt, parse
from agents.run_lock import run_lock
from agents.tracking.callback import Callback
from agents.tracking.progress import TrainingProgress
from agents.validation import check_at_least, check_positive
from llm_envs.reward_deadline import end_process_after

if TYPE_CHECKING:  # loading torch is left to `run`, for `--help` is quick
    from agents.evaluation.comparison import Run


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs compare` with the words that follow it."""
    parse(Compare, arguments, "llm-envs compare").run()


@dataclass(frozen=True)
class Compare:
    """Compare several agents on one task: same start, same problems, same budget.

    Ctrl-C keeps what was learned; the same command goes on where it stopped.
    """

    env: str = "llm_envs/Arithmetic-v0"
    """Id of the environment (see llm-envs list)."""
    env_args: EnvArgs = ()
    """Its arguments, such as operands=2."""
    agents: Annotated[tuple[str, ...], tyro.conf.arg(metavar="AGENT ...")] = ("grpo", "ppo")
    """Agents as llm-envs train names them; the first is what the others are compared with."""
    policy: str = "builtin/tiny"
    """What all start from: builtin/tiny, smollm2, a hub name, a local folder or a .gguf file."""
    seeds: int = 3
    """How many seeds each agent is run with: 0, 1, ..."""
    budget_episodes: int = 5_632
    """Completions that each run learns from, rounded up to whole updates."""
    learning_rate: OptionalFloat = None
    """Of all agents; by default each has its own."""
    max_completion_tokens: int = 64
    """A completion is cut at this length."""
    temperature: float = 1.0
    """Sampling temperature of training and evaluation."""
    problems: int = 200
    """How many different held-out problems to ask."""
    samples: int = 8
    """How many completions to sample for each of them, beside the greedy one."""
    too_long: Annotated[Literal["error", "skip", "truncate"], Choice] = "error"
    """A prompt without room for a completion: error, skip or truncate."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: OptionalInt = None
    """CPU threads; else OMP_NUM_THREADS, or by size."""
    reward_deadline: OptionalFloat = 1800.0
    """Seconds for a reward call, or None."""
    out: Path = Path("runs/compare")
    """Folder of the report (comparison.md, .json and .png) and of the runs."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "seeds", "budget_episodes", "problems", "samples", "threads", "max_completion_tokens")
        check_positive(self, "temperature", "learning_rate", "reward_deadline")
        from agents.evaluation.comparison import check_agents

        check_agents(self.agents)

    def run(self) -> None:
        """Run, write the report and show its tables."""
        import torch

        from agents.evaluation.comparison import Comparison, compare
        from agents.evaluation.comparison_report import write_report
        from agents.hardware import resolve_device

        refuse_several_processes("compare")
        refuse_split(self.env_args)
        quiet_loading()
        console = Console()
        comparison = Comparison(
            env=spec_with(self.env, self.env_args),
            policy=self.policy,
            agents=self.agents,
            seeds=tuple(range(self.seeds)),
            budget_episodes=self.budget_episodes,
            learning_rate=self.learning_rate,
            max_completion_tokens=self.max_completion_tokens,
            temperature=self.temperature,
            problems=self.problems,
            samples=self.samples,
            too_long=self.too_long,
            device=self.device,
        )
        check_writable(self.out / "comparison.md")
        threads = use_threads(self.threads, comparison.load_start())

        def watch(title: str) -> Callback:
            console.print(title, highlight=False)
            return TrainingProgress(console)

        def show(run: Run) -> None:
            mean = sum(run.sampled) / len(run.sampled)
            shown = f"accuracy {100 * mean:.1f} %" if run.figure == "accuracy" else f"{run.figure} {mean:.3f}"
            console.print(f"{run.agent}, seed {run.seed}: held-out {shown} sampled", highlight=False)

        try:
            with run_lock(self.out), end_process_after(self.reward_deadline, self.out / "reward_deadline.txt"):
                before, runs = compare(comparison, self.out, watch, show)
        except KeyboardInterrupt:
            console.print("Stopped; the same command goes on where it was saved.")
            raise
        packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "stable-baselines3"))
        device = resolve_device(self.device)
        cpu = f"CPU ({platform.machine()}), {threads} thread{'s' if threads > 1 else ''}"
        where = cpu if device.type == "cpu" else torch.cuda.get_device_name(device)
        text = write_report(self.out, comparison, before, runs, f"{time.strftime('%Y-%m-%d')}, {packages}, {where}")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        console.print(f"Report: {self.out / 'comparison.md'}", highlight=False, soft_wrap=True)
