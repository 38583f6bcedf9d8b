"""What callbacks are told of a run beside its updates: what it is made of, and evaluations around training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from agents.envs import spec_record
from agents.tracking.callback import AnyCallback, as_callback


def agent_config(agent: Any) -> dict[str, Any]:
    """The settings of an agent.

    Args:
        agent: An `agents.Agent`.

    Returns:
        `agent`, the name by which `make_agent` and `llm-envs train` know it, and one mapping for each group of options
        that `llm-envs train AGENT --help` shows: `config`, and `objective`, or `algorithm` for an agent of
        stable-baselines3. Values are numbers, texts and containers of them, but for objects that a Python program has
        put into `algorithm_kwargs` and for objectives that are no dataclasses, which have no options here.
    """
    config = asdict(agent.config)
    settings = {"agent": agent.name, "config": config}
    objective = getattr(agent, "objective", None)
    if objective is None:
        return {**settings, "algorithm": config.pop("algorithm_kwargs")}
    options = asdict(objective) if is_dataclass(objective) and not isinstance(objective, type) else {}
    return {**settings, "objective": options}


def run_config(agent: Any) -> dict[str, Any]:
    """What a run is made of, in the form that `llm-envs train --config` reads.

    The keys are `env` (its id, with the module that registers it where that is known), `env_args`, `policy` (a name),
    `seed`, `chat`, and those of `agent_config`; for an environment with wrappers also `env_wrappers` (their names),
    which `--config` refuses. The `config.json` of a run has these keys and the other options of the command line.

    Args:
        agent: An `agents.Agent`.
    """
    spec = spec_record(agent.env_spec)
    wrappers = {"env_wrappers": spec["env_wrappers"]} if spec["env_wrappers"] else {}
    return {
        "env": spec["env_id"],
        "env_args": spec["env_kwargs"],
        **wrappers,
        "policy": agent.policy.name,
        "seed": agent.seed,
        "chat": asdict(agent.policy.chat),
        **agent_config(agent),
    }


def deliver_evaluation(
    callback: AnyCallback | Sequence[AnyCallback] | None,
    agent: Any,
    report: Any,
    stage: str,
    run_dir: Path | None = None,
) -> None:
    """Give the report of an evaluation around training to the callbacks of the run.

    Args:
        callback: What `learn` gets or got; plain functions are told of updates only.
        agent: The `agents.Agent` that was evaluated.
        report: An `agents.EvaluationReport`.
        stage: `"before"` or `"after"` training.
        run_dir: The run folder, if there is one.
    """
    callbacks = as_callback(callback)
    callbacks.attach(agent, run_config(agent), run_dir)
    callbacks.on_evaluation(report, stage)
