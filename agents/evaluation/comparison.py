"""Several agents on one task: the same start, the same held-out problems, the same sampling, a matched budget.

Each run has a folder of its own, named by a hash of all that its result depends on. A run that is finished is not run
again, one that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from agents.base_agent import Agent
from agents.checkpoint import recover
from agents.envs import importable_id
from agents.evaluation.estimates import Estimate, mean_estimate, paired_difference, proportion_estimate
from agents.evaluation.held_out import EvaluationReport, evaluate
from agents.factory import AGENT_NAMES, default_config, load_agent, make_agent
from agents.hardware import resolve_device
from agents.policies import LanguageModelPolicy, load_policy
from agents.policies.language_model import TooLong
from agents.tracking.callback import Callback
from agents.tracking.figures import ACCURACY, column_of
from agents.tracking.metrics_files import MetricsWriter, read_metrics
from agents.tracking.periodic_checkpoints import CheckpointEvery
from agents.tracking.run_config import agent_config, deliver_evaluation
from agents.validation import checked

PACKAGES = ("llm-envs", "torch", "transformers", "gymnasium", "numpy", "stable-baselines3")
_CHECKPOINT_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared, and how.

    Attributes:
        env: The task.
        policy: The start of all agents, a name for `load_policy`.
        agents: Names from `AGENT_NAMES`; the first is what the others' differences are to.
        seeds: Seeds of training; each agent is run with each.
        budget_episodes: Episodes to learn from, rounded up to an agent's whole updates.
        learning_rate: Of all agents; None leaves each its default.
        max_completion_tokens: Of training and evaluation.
        temperature: Of training and evaluation.
        problems: Held-out problems; the same for all.
        samples: Completions for each, beside the greedy one.
        too_long: What training and evaluation do with a prompt that leaves no room for a completion; see `GRPOConfig`.
        device: Where it runs.
    """

    env: EnvSpec
    policy: str
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    budget_episodes: int
    learning_rate: float | None = None
    max_completion_tokens: int = 64
    temperature: float = 1.0
    problems: int = 200
    samples: int = 8
    too_long: TooLong = "error"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_agents(self.agents)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be at least one, each once, got {self.seeds}")
        for name in ("budget_episodes", "problems", "samples", "max_completion_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        checked("too_long", self.too_long, TooLong)

    def load_start(self) -> LanguageModelPolicy:
        """The policy that every run starts from."""
        return load_policy(self.policy, device=resolve_device(self.device))

    def make_agent(self, name: str, seed: int) -> Agent:
        """A fresh agent."""
        shared: dict[str, Any] = {
            "max_completion_tokens": self.max_completion_tokens,
            "temperature": self.temperature,
            "too_long": self.too_long,
        }
        if self.learning_rate is not None:
            shared["learning_rate"] = self.learning_rate
        config = replace(default_config(name), **shared)
        return make_agent(name, self.load_start(), self.env, config=config, seed=seed)

    def evaluate(self, agent: Agent | LanguageModelPolicy) -> EvaluationReport:
        """Ask the held-out problems."""
        return evaluate(
            agent,
            self.env,
            problems=self.problems,
            samples=self.samples,
            temperature=self.temperature,
            max_completion_tokens=self.max_completion_tokens,
            too_long=self.too_long,
        )


def check_agents(agents: Sequence[str]) -> None:
    """Check names of agents.

    Raises:
        ValueError: There are none, one is unknown, or one is there twice.
    """
    if not agents or len(set(agents)) != len(agents):
        raise ValueError(f"agents must be at least one, each once, got {agents}")
    if unknown := [name for name in agents if name not in AGENT_NAMES]:
        raise ValueError(f"agents must be among {', '.join(AGENT_NAMES)}, got {', '.join(unknown)}")


@dataclass(frozen=True)
class Run:
    """One agent with one seed, finished.

    Attributes:
        agent: Its name.
        seed: Of training.
        counts: What it took: episodes, tokens, reward_calls, updates, optimizer_steps, seconds of learning.
        curve: After each update, cumulative `episodes`, `tokens`, `seconds`, and the `figure` of what it sampled.
        sampled: (problems,) the figure of the held-out samples by problem.
        greedy: (problems,) of greedy decoding.
        figure: What is compared: `"accuracy"`, `"reward"` where nothing is right or wrong, or what the task names.
    """

    agent: str
    seed: int
    counts: dict[str, float]
    curve: dict[str, list[float]]
    sampled: list[float]
    greedy: list[float]
    figure: str = ACCURACY


def compare(
    comparison: Comparison,
    folder: Path,
    callback: Callable[[str], Callback] | None = None,
    on_run: Callable[[Run], None] | None = None,
) -> tuple[EvaluationReport, list[Run]]:
    """Run what has not been run yet, agent by agent within each seed.

    Args:
        comparison: What to run.
        folder: Where runs are kept; what finished there under equal conditions is read instead of run.
        callback: From a title, a callback that watches the run.
        on_run: Called with each run when it is finished, also when it was finished by an earlier call.

    Returns:
        The evaluation of the start, and the runs.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the run under way was saved and goes on with the next call.
    """
    start = comparison.load_start()
    digest = weights_digest(start)
    file = folder / f"start-{_hash({**_conditions(comparison), 'weights': digest})}.json"
    if not file.is_file():
        comparison.evaluate(start).save(file)
    before = EvaluationReport.load(file)
    runs = []
    for seed in comparison.seeds:
        for name in comparison.agents:
            run = _run(comparison, folder, name, seed, digest, before.figure, callback)
            runs.append(run)
            if on_run is not None:
                on_run(run)
    return before, runs


def _run(
    comparison: Comparison,
    folder: Path,
    name: str,
    seed: int,
    digest: str,
    figure: str,
    callback: Callable[[str], Callback] | None,
) -> Run:
    agent = comparison.make_agent(name, seed)
    key = run_key(comparison, agent, digest) | ({} if figure == ACCURACY else {"figure": figure})
    run_folder = folder / f"{name}-seed{seed}-{_hash(key)}"
    result = run_folder / "result.json"
    if result.is_file():
        return Run(**json.loads(result.read_text(encoding="utf-8"))["run"])
    checkpoint = run_folder / "checkpoint"
    recover(checkpoint)
    if (checkpoint / "agent.json").is_file():
        agent = load_agent(checkpoint, comparison.env, device=comparison.device)
    watchers: list[Callback] = [MetricsWriter(run_folder)]
    save = functools.partial(agent.save, checkpoint)
    watchers.append(CheckpointEvery(save, _CHECKPOINT_EVERY))
    if callback is not None:
        watchers.append(callback(f"{name}, seed {seed}"))
    if agent.num_episodes < comparison.budget_episodes:
        try:
            agent.learn(comparison.budget_episodes, watchers, run_dir=run_folder)
        finally:
            if agent.num_updates > 0 and not agent.in_update:
                save()
    report = comparison.evaluate(agent)
    deliver_evaluation(watchers, agent, report, "after", run_folder)
    rows = read_metrics(run_folder)
    greedy, sampled = report.by_problem(figure)
    run = Run(
        agent=name,
        seed=seed,
        counts=_counts(rows),
        curve=_curve(rows, figure),
        sampled=sampled.tolist(),
        greedy=greedy.tolist(),
        figure=figure,
    )
    report.save(run_folder / "evaluation.json")
    result.write_text(json.dumps({"key": key, "run": asdict(run)}, indent=1, default=repr) + "\n", encoding="utf-8")
    return run


def run_key(comparison: Comparison, agent: Agent, digest: str) -> dict[str, Any]:
    """Everything that the result of a run depends on."""
    return {
        **_conditions(comparison),
        "weights": digest,
        "agent": agent_config(agent),
        "seed": agent.seed,
        "budget_episodes": comparison.budget_episodes,
    }


def _conditions(comparison: Comparison) -> dict[str, Any]:
    return {
        "env": importable_id(comparison.env),
        "env_kwargs": dict(comparison.env.kwargs),
        "max_completion_tokens": comparison.max_completion_tokens,
        "temperature": comparison.temperature,
        "problems": comparison.problems,
        "samples": comparison.samples,
        "too_long": comparison.too_long,
        "device": str(resolve_device(comparison.device)),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _hash(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@torch.no_grad()
def weights_digest(policy: LanguageModelPolicy) -> str:
    """A hash of a policy's weights: a name alone may stand for another model tomorrow."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _seconds(row: dict[str, Any]) -> float:
    return row["seconds_rollout"] + row["seconds_update"]


def _counts(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {
        "episodes": rows[-1]["episodes"],
        "tokens": round(sum(row["tokens_per_second"] * _seconds(row) for row in rows)),
        "reward_calls": round(sum(row["reward_calls"] for row in rows)),
        "updates": len(rows),
        "optimizer_steps": round(sum(row["optimizer_steps"] for row in rows)),
        "seconds": sum(map(_seconds, rows)),
    }


def _curve(rows: Sequence[dict[str, Any]], figure: str) -> dict[str, list[float]]:
    return {
        "episodes": [row["episodes"] for row in rows],
        "tokens": np.cumsum([row["tokens_per_second"] * _seconds(row) for row in rows]).round().tolist(),
        "seconds": np.cumsum([_seconds(row) for row in rows]).tolist(),
        figure: [row.get(column_of(figure), 0.0) for row in rows],
    }


# -- what came out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """One agent over its seeds.

    Two intervals, because there are two sources of chance: over problems, each averaged over the seeds, which says how
    these runs would do on other problems; over seeds (Student's t of the runs' means), which says how other runs would
    do on these problems. With three seeds the second is wide.

    Attributes:
        agent: Its name.
        sampled: The figure of the held-out samples (see `Run`), with the interval over problems.
        sampled_over_seeds: The same with the interval over seeds.
        greedy: Of greedy decoding, over problems.
        difference: That figure minus the first agent's, paired by problem; None for that agent itself.
        difference_over_seeds: The same, paired by seed.
        counts: Means over seeds.
    """

    agent: str
    sampled: Estimate
    sampled_over_seeds: Estimate
    greedy: Estimate
    difference: Estimate | None
    difference_over_seeds: Estimate | None
    counts: dict[str, float]


def summarize(runs: Sequence[Run]) -> list[Summary]:
    """One summary per agent, in the order of their first runs."""
    names = list(dict.fromkeys(run.agent for run in runs))
    is_share = runs[0].figure == ACCURACY
    over_problems = proportion_estimate if is_share else mean_estimate
    sampled = {
        name: np.array([run.sampled for run in runs if run.agent == name]) for name in names
    }  # (seeds, problems)
    first = sampled[names[0]]
    summaries = []
    for name in names:
        own = [run for run in runs if run.agent == name]
        by_problem, by_seed = sampled[name].mean(axis=0), sampled[name].mean(axis=1)
        over_seeds = mean_estimate(by_seed)
        is_first = name == names[0]
        summaries.append(
            Summary(
                agent=name,
                sampled=over_problems(by_problem),
                sampled_over_seeds=_within_one(over_seeds) if is_share else over_seeds,
                greedy=over_problems(np.array([run.greedy for run in own]).mean(axis=0)),
                difference=None if is_first else _difference(first.mean(axis=0), by_problem, is_share),
                difference_over_seeds=None if is_first else mean_estimate(by_seed - first.mean(axis=1)),
                counts={key: float(np.mean([run.counts[key] for run in own])) for key in own[0].counts},
            )
        )
    return summaries


def _difference(first: np.ndarray, by_problem: np.ndarray, is_share: bool) -> Estimate:
    return paired_difference(first, by_problem) if is_share else mean_estimate(by_problem - first)


def _within_one(estimate: Estimate) -> Estimate:
    """An interval of a share, cut to [0, 1]; that of a single run stays without bound."""
    if not np.isfinite(estimate.low):
        return estimate
    return Estimate(estimate.value, max(0.0, estimate.low), min(1.0, estimate.high))
