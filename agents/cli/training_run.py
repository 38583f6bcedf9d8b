"""A training run: evaluate, learn, evaluate again; the run folder keeps everything."""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import time
import warnings
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.base_agent import Agent
from agents.checkpoint import CheckpointError
from agents.cli.agent_options import make_agent
from agents.cli.callbacks import load_callback
from agents.cli.common import UsageError, parse_env_args, quiet_loading, refuse_split, spec_with, use_threads
from agents.cli.config_file import read_record
from agents.cli.evaluate import run_checkpoint
from agents.cli.failures import save_traceback
from agents.cli.train_options import Train
from agents.distributed import Ranks
from agents.engines.vllm import VLLMEngine
from agents.engines.vllm_server import VLLMServerEngine
from agents.evaluation import run_report
from agents.evaluation.held_out import EvaluationReport, evaluate
from agents.factory import load_agent
from agents.grpo.agent import GRPOAgent
from agents.hardware import DeviceNotFound, resolve_device
from agents.interrupts import Terminated, deferred_interrupt
from agents.json_values import as_json
from agents.memory import CannotEstimate, estimate_of_run, peak_memory
from agents.policies import PolicyNotFound, PromptTooLong, load_policy
from agents.run_lock import LOCK_FILE, run_lock
from agents.tracking import files
from agents.tracking.callback import AnyCallback
from agents.tracking.completions_file import CompletionsWriter
from agents.tracking.metrics_files import MetricsWriter, read_metrics
from agents.tracking.periodic_checkpoints import CheckpointEvery
from agents.tracking.progress import EvaluationProgress, TrainingProgress
from agents.tracking.run_config import deliver_evaluation, run_config
from agents.tracking.training_warnings import TrainingWarning, WarningsWriter, read_warnings
from llm_envs.reward_deadline import end_process_after

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

    def run(self) -> None:
        """Evaluate, learn, evaluate again, and show the difference.

        Raises:
            UsageError: What was asked for cannot be done.
            RunInUse: Another process works in the run folder.
            KeyboardInterrupt: A second Ctrl-C, or SIGTERM or SIGHUP; the last checkpoint is the end of the run.
        """
        self._ranks = Ranks.current()
        self._console = Console(quiet=not self._ranks.is_first)
        quiet_loading()
        warnings.simplefilter("ignore", TrainingWarning)  # the display has them
        train = self._train
        further = [load_callback(name) for name in train.callback]
        torch.set_float32_matmul_precision(train.matmul_precision)
        with contextlib.ExitStack() as stack:
            if train.resume:
                run_dir = train.run_dir or Path()
                self._lock(run_dir, stack)
                self._ranks.wait()
                agent, threads = self._resumed(run_dir)
            else:
                run_dir = self._ranks.of_first(train.run_dir or _new_run_dir(train.env, train.agent, train.seed))
                if self._ranks.is_first:
                    _refuse_used(run_dir)
                agent, threads = self._made()
                self._lock(run_dir, stack)
                self._begin(agent, run_dir, threads)
            stack.enter_context(end_process_after(train.reward_deadline, run_dir / "reward_deadline.txt"))
            try:
                self._go_on(agent, run_dir, threads, further)
            except FloatingPointError as error:
                if self._ranks.is_first:
                    WarningsWriter(run_dir).write(agent.num_updates + 1, "diverged", str(error))
                raise
            except Exception as error:
                save_traceback(error, run_dir)
                raise

    @property
    def _command(self) -> str:
        """How a person starts such a run."""
        size = self._ranks.size
        return "llm-envs train" if size == 1 else f"torchrun --nproc-per-node {size} -m agents.cli train"

    def _lock(self, run_dir: Path, stack: contextlib.ExitStack) -> None:
        """Keep other runs out of the folder; of several processes of one run, the first one does."""
        if self._ranks.is_first:
            stack.enter_context(run_lock(run_dir))

    def _go_on(self, agent: Agent, run_dir: Path, threads: int, further: list[AnyCallback]) -> None:
        """Do what the run has not done yet."""
        train, console = self._train, self._console
        console.print(run_report.header(agent, run_dir, threads))
        save = functools.partial(agent.save, run_dir / "checkpoint")
        callbacks: list[AnyCallback] = [CheckpointEvery(save, train.checkpoint_every), *further]
        if self._ranks.is_first:
            callbacks = [
                MetricsWriter(run_dir),
                CompletionsWriter(run_dir),
                WarningsWriter(run_dir, functools.partial(run_report.print_warning, console)),
                *callbacks,
                TrainingProgress(console),
            ]
        agent.check_prompts()
        before = self._before(agent, run_dir, callbacks)
        memory = self._estimate_memory(agent, before)
        interrupted = self._learn(agent, run_dir, callbacks)
        if self._ranks.is_first:
            self._compare_memory(agent, run_dir, memory)
            self._plot(run_dir, before, None)
        if interrupted:
            console.print("Stopped; what was learned is saved. Evaluating it (Ctrl-C again to skip) ...")
        after = self._evaluate(agent, "Held-out problems, after")
        deliver_evaluation(callbacks, agent, after, "after", run_dir)
        if not self._ranks.is_first:
            return
        after.save(run_dir / "evaluation_after.json")
        self._plot(run_dir, before, after)
        run_report.print_comparison(console, before, after)
        run_report.print_warnings(console, [row["warning"] for row in read_warnings(run_dir)], before, after)
        console.print(f"Run folder: {run_dir}", highlight=False, soft_wrap=True)

    def _made(self) -> tuple[Agent, int]:
        """A new agent, and the number of threads; nothing is written."""
        train = self._train
        refuse_split(train.env_args)
        spec = spec_with(train.env, train.env_args)
        try:
            policy = load_policy(
                train.policy,
                device=resolve_device(train.device),
                precision=train.precision,
                weights_dtype=train.weights_dtype,
                lora_rank=train.lora_rank,
                lora_alpha=train.lora_alpha,
                lora_targets=train.lora_targets,
                lora_seed=train.seed,
                load_in=train.load_in,
                gradient_checkpointing=train.gradient_checkpointing,
                chat=train.chat,
            )
            options = {"parallel": train.parallel, "cpu_offload": train.cpu_offload}
            agent = make_agent(train.agent, policy, spec, self._groups, train.seed, **options)
        except (CheckpointError, DeviceNotFound, PolicyNotFound, PromptTooLong):
            raise
        except (TypeError, ValueError, AssertionError, NotImplementedError) as error:  # options that do not go together
            raise UsageError(str(error)) from error
        return self._with_engine(agent), use_threads(train.threads, policy)

    def _with_engine(self, agent: Agent) -> Agent:
        """The agent with the engine that was asked for.

        Raises:
            UsageError: It is one that this agent cannot use.
        """
        if self._train.engine == "vllm":
            if not isinstance(agent, GRPOAgent):
                raise UsageError(
                    f"--engine vllm is for agents of group-relative objectives, and not {self._train.agent}"
                )
            arguments = parse_env_args(self._train.engine_args)
            try:
                if self._train.server is None:
                    agent.engine = VLLMEngine(agent.policy, **arguments)
                else:
                    agent.engine = VLLMServerEngine(agent.policy, self._train.server, **arguments)
            except (TypeError, ValueError) as error:
                raise UsageError(f"--engine vllm: {error}") from error
        if isinstance(agent, GRPOAgent):
            try:
                agent.check_engine()
            except ValueError as error:
                raise UsageError(str(error)) from error
        return agent

    def _begin(self, agent: Agent, run_dir: Path, threads: int) -> None:
        """Write what a run can be gone on from: its configuration, and a first checkpoint."""
        if self._ranks.is_first:
            _refuse_used(run_dir)  # again, now that no other process can write there
            files.write_text(run_dir / "config.json", json.dumps(self._record(agent, threads), indent=2) + "\n")
        agent.save(run_dir / "checkpoint")

    def _resumed(self, run_dir: Path) -> tuple[Agent, int]:
        """The agent of an earlier run as it was saved, and the number of threads."""
        checkpoint = run_checkpoint(run_dir)
        ran_on = read_record(run_dir / "config.json").get("ran_on", {})
        if checkpoint is not None:
            is_alone = self._ranks.size == 1  # what several processes have sharded, one goes on with whole
            agent = load_agent(
                checkpoint,
                device=self._train.device,
                parallel="auto" if is_alone else self._train.parallel,
                cpu_offload=self._train.cpu_offload and not is_alone,
            )
            agent = self._with_engine(agent)
            threads = use_threads(self._train.threads, agent.policy)
        elif ran_on:  # it was killed in its first moments
            agent, threads = self._made()
            agent.save(run_dir / "checkpoint")
        else:
            raise UsageError(
                f"there is no checkpoint to go on with in {run_dir}, and no run has written its config.json; "
                "delete the folder and start anew"
            )
        processes = self._ranks.size
        for name, now in (("--threads", threads), ("--device", str(agent.policy.device)), ("processes", processes)):
            if (then := ran_on.get(name.lstrip("-"), now)) != now:
                self._console.print(
                    f"The run was started with {name} {then}: with {now} it will end with other weights."
                )
        return agent, threads

    def _record(self, agent: Agent, threads: int) -> dict[str, Any]:
        """Everything that was asked for, in the form that --config reads, and what it ran on."""
        asked = {name: value for name, value in asdict(self._train).items() if name not in _NOT_RECORDED}
        asked |= {name: as_json(parse_env_args(asked[name])) for name in ("env_args", "engine_args")}
        packages = ("llm-envs", "torch", "transformers", "gymnasium", "numpy", "stable-baselines3")
        ran_on = {
            "device": str(agent.policy.device),
            "device_name": torch.cuda.get_device_name() if agent.policy.device.type == "cuda" else platform.processor(),
            "precision": agent.policy.precision,
            "threads": threads,
            "processes": self._ranks.size,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in packages},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        return {**run_config(agent), **asked, "ran_on": ran_on}

    def _before(self, agent: Agent, run_dir: Path, callbacks: list[AnyCallback]) -> EvaluationReport:
        file = run_dir / "evaluation_before.json"
        if agent.num_updates > 0:
            if not file.is_file():
                raise UsageError(f"{file} is missing: what the policy could do before cannot be measured any more")
            return EvaluationReport.load(file)
        # after a kill before the first saved update it is measured again: the same figures, for callbacks too
        before = self._evaluate(agent, "Held-out problems, before")
        if self._ranks.is_first:
            before.save(file)
        deliver_evaluation(callbacks, agent, before, "before", run_dir)
        return before

    def _estimate_memory(self, agent: Agent, before: EvaluationReport) -> int | None:
        """Bytes that learning will take on each device, said and returned; None for agents of other packages."""
        if not isinstance(agent, GRPOAgent):
            return None
        prompts = [rollout.prompt for rollout in before.rollouts]
        longest = max(map(len, agent.policy.encode_prompts(prompts, too_long="truncate")))
        try:
            estimate = estimate_of_run(agent, longest)
        except CannotEstimate as error:
            self._console.print(f"Memory: no estimate, {error}", highlight=False)
            return None
        self._console.print(run_report.memory_line(estimate), highlight=False)
        return estimate.peak

    def _compare_memory(self, agent: Agent, run_dir: Path, estimated: int | None) -> None:
        """Say, and write, what the run took beside what was estimated."""
        if estimated is None or not (peak := peak_memory(agent.policy.device)):
            return
        record = {"estimated_bytes": estimated, "peak_bytes": peak, "device": agent.policy.device.type}
        files.write_text(run_dir / "memory.json", json.dumps(record) + "\n")
        self._console.print(run_report.peak_line(estimated, peak, agent.policy.device.type), highlight=False)

    def _learn(self, agent: Agent, run_dir: Path, callbacks: list[AnyCallback]) -> bool:
        """Learn and save; returns whether Ctrl-C ended it.

        Raises:
            KeyboardInterrupt: A second Ctrl-C came before the update was finished, or while it was saved.
            Terminated: SIGTERM or SIGHUP came; what was learned is saved.
        """
        total_episodes = self._train.total_episodes
        if agent.num_episodes >= total_episodes:
            self._console.print(
                f"This run has its {agent.num_episodes} episodes; to go on, ask for more: --total-episodes"
            )
            return False
        stop: KeyboardInterrupt | None = None
        try:
            agent.learn(total_episodes, callbacks, run_dir=run_dir)
        except KeyboardInterrupt as error:
            if agent.in_update:  # the second one
                self._console.print(
                    "Stopped in the middle of an update, which is not saved; the last checkpoint is as it was."
                )
                raise
            stop = error
        with deferred_interrupt() as interruption:
            agent.save(run_dir / "checkpoint")
        if isinstance(stop, Terminated):
            with contextlib.suppress(OSError):  # the terminal may be what has gone
                self._console.print(
                    f"Stopped by {stop}; what was learned is saved. To go on: {self._command} --resume --run-dir "
                    f"{run_dir}",
                    highlight=False,
                    soft_wrap=True,
                )
            raise stop
        interruption.raise_if_set()
        return stop is not None

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


def _refuse_used(run_dir: Path) -> None:
    """Refuse a folder with something in it, but for what a process leaves that is killed before its run begins.

    Raises:
        UsageError: There is something.
    """
    leftovers = {LOCK_FILE, f"config.json{files.NEW}"}
    if run_dir.is_dir() and any(file.name not in leftovers for file in run_dir.iterdir()):
        raise UsageError(f"{run_dir} is not empty; choose another --run-dir, or go on with it: --resume")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is only on the path
        return "not installed"


def _new_run_dir(env: str, agent: str, seed: int) -> Path:
    """`runs/arithmetic-grpo-seed0-20260131-120000`."""
    name = env.rpartition("/")[2].rpartition("-v")[0].lower()
    return Path("runs") / f"{name}-{agent}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
