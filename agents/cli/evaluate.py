"""`llm-envs evaluate`: held-out accuracy of a run, or of any policy on any task."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from gymnasium.envs.registration import EnvSpec
from rich.console import Console

from agents.cli.common import (
    UsageError,
    check_writable,
    quiet_loading,
    refuse_several_processes,
    refuse_split,
    spec_with,
    use_threads,
)
from agents.cli.options import NO_DEFAULT, Choice, EnvArgs, OptionalFloat, OptionalInt, OptionalPath, parse
from agents.envs import env_spec, without_arguments
from agents.factory import load_agent
from agents.policies.chat import ChatFormat
from agents.tracking.progress import EvaluationProgress
from agents.validation import check_at_least, check_fraction, check_positive
from llm_envs.reward_deadline import end_process_after

if TYPE_CHECKING:  # loading torch is left to the functions, for `--help` is quick
    from agents.policies import LanguageModelPolicy
    from agents.policies.language_model import TooLong
    from agents.rollout import SamplingParams


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs evaluate` with the words that follow it."""
    parse(Evaluate, arguments, "llm-envs evaluate").run()


@dataclass(frozen=True)
class Evaluate:
    """Held-out accuracy of a run or a policy, greedy and sampled, with intervals."""

    run_or_policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_POLICY", help_behavior_hint="")]
    """A run folder that `llm-envs train` left, or a policy (builtin/tiny, smollm2, a hub name, a folder)."""
    env: Annotated[str | None, NO_DEFAULT] = None
    """Id of the environment; by default the one of the run."""
    env_args: EnvArgs = ()
    """Its arguments; by default those of the run."""
    split: Literal["test", "train"] = "test"
    """Held-out problems, or those of training."""
    problems: int = 200
    """How many different problems to ask."""
    samples: int = 8
    """Completions to sample of each problem."""
    temperature: OptionalFloat = None
    """Sampling temperature; by default the run's, or 1."""
    top_k: OptionalInt = None
    """Of the k most probable tokens; by default as the run."""
    top_p: OptionalFloat = None
    """Of tokens of this probability; by default as the run."""
    stop: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="STR ...", help_behavior_hint="")] = None
    """Texts that end a completion; by default the run's, or none."""
    max_completion_tokens: OptionalInt = None
    """A completion is cut at this length; else the run's, or 64."""
    too_long: Annotated[Literal["error", "skip", "truncate"] | None, Choice, NO_DEFAULT] = None
    """A prompt without room for a completion: error, skip or truncate; by default as the run, or error."""
    seed: int = 0
    """Names the problems and the sampling noise."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: OptionalInt = None
    """CPU threads; else OMP_NUM_THREADS, or by size."""
    reward_deadline: OptionalFloat = 1800.0
    """Seconds for a reward call, or None."""
    output: OptionalPath = None
    """A JSON file for the report and all completions."""
    chat: ChatFormat = field(default_factory=ChatFormat)

    def __post_init__(self) -> None:
        check_at_least(self, 1, "problems", "samples", "max_completion_tokens", "threads", "top_k")
        check_fraction(self, "top_p")
        check_positive(self, "reward_deadline")
        check_at_least(self, 0, "temperature", "seed")

    def run(self) -> None:
        """Evaluate and print the report."""
        from agents.evaluation.held_out import evaluate

        refuse_several_processes("evaluate")
        refuse_split(self.env_args)
        if self.output is not None:
            check_writable(self.output)
        quiet_loading()
        console = Console()
        policy, env, of_the_run, too_long = self._load()
        names = ("temperature", "top_k", "top_p", "stop", "max_completion_tokens")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        sampling = replace(of_the_run, **given)
        if self.env_args and not isinstance(env, str):
            env = without_arguments(env)
        spec = spec_with(env, self.env_args) if self.env_args or isinstance(env, str) else env
        use_threads(self.threads, policy)
        traceback = Path(tempfile.gettempdir()) / f"llm-envs-reward-deadline-{os.getpid()}.txt"
        with (
            end_process_after(self.reward_deadline, traceback),
            EvaluationProgress(console, f"Evaluating {self.run_or_policy}") as progress,
        ):
            report = evaluate(
                policy,
                spec,
                problems=self.problems,
                samples=self.samples,
                **asdict(sampling),
                split=self.split,
                seed=self.seed,
                on_progress=progress,
                too_long=self.too_long or too_long,
            )
        console.print(str(report), highlight=False, markup=False, soft_wrap=True)
        if self.output is not None:
            report.save(self.output)

    def _load(self) -> tuple[LanguageModelPolicy, str | EnvSpec, SamplingParams, TooLong]:
        """The policy, the environment (an id where the command line names one, else a spec), and how a run sampled.

        And what it did with prompts that are too long.
        """
        from agents.hardware import resolve_device
        from agents.policies import load_policy
        from agents.rollout import SamplingParams

        checkpoint = run_checkpoint(Path(self.run_or_policy))
        if checkpoint is not None:
            if self.chat != ChatFormat():
                raise UsageError(
                    "a run keeps the system prompt and examples it was trained with; leave these options out"
                )
            agent = load_agent(checkpoint, device=self.device)
            return agent.policy, self.env or agent.env_spec, agent.sampling, agent.too_long
        if self.env is None:
            raise UsageError(
                f"{self.run_or_policy!r} is no run folder; to evaluate a policy, say on which task: --env ID"
            )
        env_spec(self.env)  # a wrong id is found before a model is loaded
        policy = load_policy(self.run_or_policy, device=resolve_device(self.device), chat=self.chat)
        return policy, self.env, SamplingParams(), "error"


def run_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a path stands for: a run folder's, or itself; None where it is neither."""
    from agents.checkpoint import recover

    for candidate in (folder / "checkpoint", folder):
        recover(candidate)
        if (candidate / "agent.json").is_file():
            return candidate
    return None
