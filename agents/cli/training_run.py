"""A training run: evaluate, learn, evaluate again; the run folder keeps everything."""

from __future__ import annotations

import functools
import json
import platform
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.base_agent import Agent
from agents.cli.agent_options import make_agent
from agents.cli.callbacks import load_callback
from agents.cli.common import UsageError, parse_env_args, quiet_loading, refuse_split, spec_with, use_threads
from agents.cli.config_file import read_record
from agents.cli.evaluate import run_checkpoint
from agents.cli.train_options import Train
from agents.evaluation import run_report
from agents.evaluation.held_out import EvaluationReport, evaluate
from agents.factory import load_agent
from agents.hardware import resolve_device
from agents.json_values import as_json
from agents.policies import load_policy
from agents.tracking.callback import AnyCallback
from agents.tracking.completions_file import CompletionsWriter
from agents.tracking.metrics_files import MetricsWriter, read_metrics
from agents.tracking.periodic_checkpoints import CheckpointEvery
from agents.tracking.progress import EvaluationProgress, TrainingProgress
from agents.tracking.run_config import deliver_evaluation

_NOT_RECORDED = ("run_dir", "resume", "config")
"""Options of one call, which say nothing about what is trained."""


class TrainingRun:
    """One call of `llm-envs train`.

    Args:
        train: The options of every agent.
        groups: The agent's own, see `agents.cli.agent_options.option_groups`.
    """

    def __init__(self, train: Train, groups: dict[str, Any]) -> None:
        self._train = train
        self._groups = groups
        self._console = Console()

    def run(self) -> None:
        """Evaluate, learn, evaluate again, and show the difference.

        Raises:
            UsageError: What was asked for cannot be done.
            KeyboardInterrupt: A second Ctrl-C; the last checkpoint is the end of the run.
        """
        quiet_loading()
        train, console = self._train, self._console
        further = [load_callback(name) for name in train.callback]
        torch.set_float32_matmul_precision(train.matmul_precision)
        agent, run_dir, threads = self._resumed() if train.resume else self._fresh()
        console.print(run_report.header(agent, run_dir, threads))
        save = functools.partial(agent.save, run_dir / "checkpoint")
        callbacks: list[AnyCallback] = [
            MetricsWriter(run_dir),
            CompletionsWriter(run_dir),
            CheckpointEvery(save, train.checkpoint_every),
            *further,
            TrainingProgress(console),
        ]
        agent.check_prompts()
        before = self._before(agent, run_dir, callbacks)
        interrupted = self._learn(agent, run_dir, callbacks)
        self._plot(run_dir, before, None)
        if interrupted:
            console.print("Stopped; what was learned is saved. Evaluating it (Ctrl-C again to skip) ...")
        after = self._evaluate(agent, "Held-out problems, after")
        after.save(run_dir / "evaluation_after.json")
        deliver_evaluation(callbacks, agent, after, "after", run_dir)
        self._plot(run_dir, before, after)
        run_report.print_comparison(console, before, after)
        console.print(f"Run folder: {run_dir}", highlight=False, soft_wrap=True)

    def _fresh(self) -> tuple[Agent, Path, int]:
        """A new agent, a new folder with the configuration in it, and the number of threads."""
        train = self._train
        refuse_split(train.env_args)
        spec = spec_with(train.env, train.env_args)
        run_dir = train.run_dir or _new_run_dir(train.env, train.agent, train.seed)
        if run_dir.is_dir() and any(run_dir.iterdir()):
            raise UsageError(f"{run_dir} is not empty; choose another --run-dir, or go on with it: --resume")
        policy = load_policy(
            train.policy,
            device=resolve_device(train.device),
            precision=train.precision,
            lora_rank=train.lora_rank,
            lora_seed=train.seed,
            chat=train.chat,
        )
        try:
            agent = make_agent(train.agent, policy, spec, self._groups, train.seed)
        except (TypeError, ValueError, AssertionError) as error:  # options that do not go together
            raise UsageError(str(error)) from error
        threads = use_threads(train.threads, policy)
        run_dir.mkdir(parents=True, exist_ok=True)
        record = json.dumps(self._record(agent, threads), indent=2)
        (run_dir / "config.json").write_text(record + "\n", encoding="utf-8")
        return agent, run_dir, threads

    def _resumed(self) -> tuple[Agent, Path, int]:
        """The agent of an earlier run as it was saved, the folder of the run, and the number of threads."""
        run_dir = self._train.run_dir or Path()
        checkpoint = run_checkpoint(run_dir)
        if checkpoint is None:
            raise UsageError(
                f"there is no checkpoint to go on with in {run_dir}: the run ended before it had one; delete the "
                "folder and start anew"
            )
        agent = load_agent(checkpoint, device=self._train.device)
        threads = use_threads(self._train.threads, agent.policy)
        started_with = read_record(run_dir / "config.json").get("ran_on", {}).get("threads", threads)
        if threads != started_with:
            self._console.print(
                f"The run was started with --threads {started_with}: with {threads} it will end with other weights."
            )
        return agent, run_dir, threads

    def _record(self, agent: Agent, threads: int) -> dict[str, Any]:
        """Everything that was asked for, in the form that --config reads, and what it ran on."""
        asked = {name: value for name, value in asdict(self._train).items() if name not in _NOT_RECORDED}
        asked |= {"env_args": as_json(parse_env_args(self._train.env_args))}
        asked |= {name: asdict(group) for name, group in self._groups.items()}
        asked["config"].pop("algorithm_kwargs", None)  # the group `algorithm` has them
        packages = ("llm-envs", "torch", "transformers", "gymnasium", "numpy", "stable-baselines3")
        ran_on = {
            "device": str(agent.policy.device),
            "device_name": torch.cuda.get_device_name() if agent.policy.device.type == "cuda" else platform.processor(),
            "precision": agent.policy.precision,
            "threads": threads,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in packages},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        return {**asked, "ran_on": ran_on}

    def _before(self, agent: Agent, run_dir: Path, callbacks: list[AnyCallback]) -> EvaluationReport:
        file = run_dir / "evaluation_before.json"
        if agent.num_updates > 0:
            if not file.is_file():
                raise UsageError(f"{file} is missing: what the policy could do before cannot be measured any more")
            return EvaluationReport.load(file)
        before = self._evaluate(agent, "Held-out problems, before")
        before.save(file)
        deliver_evaluation(callbacks, agent, before, "before", run_dir)
        return before

    def _learn(self, agent: Agent, run_dir: Path, callbacks: list[AnyCallback]) -> bool:
        """Learn and save; returns whether Ctrl-C ended it."""
        interrupted = False
        total_episodes = self._train.total_episodes
        if agent.num_episodes >= total_episodes:
            self._console.print(
                f"This run has its {agent.num_episodes} episodes; to go on, ask for more: --total-episodes"
            )
            return False
        try:
            agent.learn(total_episodes, callbacks, run_dir=run_dir)
        except KeyboardInterrupt:
            if agent.in_update:  # the second one
                self._console.print(
                    "Stopped in the middle of an update, which is not saved; the last checkpoint is as it was."
                )
                raise
            interrupted = True
        agent.save(run_dir / "checkpoint")
        return interrupted

    def _plot(self, run_dir: Path, before: EvaluationReport, after: EvaluationReport | None) -> None:
        file = run_dir / "learning_curve.png"
        run_report.plot_learning_curve(file, read_metrics(run_dir), before, after, before.figure)

    def _evaluate(self, agent: Agent, title: str) -> EvaluationReport:
        with EvaluationProgress(self._console, title) as progress:
            return evaluate(
                agent,
                problems=self._train.eval_problems,
                samples=self._train.eval_samples,
                on_progress=progress,
            )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is only on the path
        return "not installed"


def _new_run_dir(env: str, agent: str, seed: int) -> Path:
    """`runs/arithmetic-grpo-seed0-20260131-120000`."""
    name = env.rpartition("/")[2].rpartition("-v")[0].lower()
    return Path("runs") / f"{name}-{agent}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
