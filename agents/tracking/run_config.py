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
        `agent` (the name of its class) and `config`; then `objective` (the name of its class) and `objective_options`
        for an agent that has an objective, `algorithm` and `view` for one of stable-baselines3. Values are numbers,
        texts and containers of them, but for objects in `algorithm_kwargs`.
    """
    settings: dict[str, Any] = {"agent": type(agent).__name__, "config": asdict(agent.config)}
    objective = getattr(agent, "objective", None)
    if objective is None:
        return {**settings, "algorithm": type(agent.algorithm).__name__, "view": agent.view}
    options = asdict(objective) if is_dataclass(objective) and not isinstance(objective, type) else {}
    return {**settings, "objective": type(objective).__name__, "objective_options": options}


def run_config(agent: Any) -> dict[str, Any]:
    """What a run is made of.

    The keys are `env_id`, `env_kwargs`, `env_wrappers` (names), `policy` (a name), `seed`, and those of `agent_config`;
    for an environment of `gymnasium.register` also `env_made_by`, its entry points and settings.

    Args:
        agent: An `agents.Agent`.
    """
    return {
        **spec_record(agent.env_spec),
        "env_kwargs": dict(agent.env_spec.kwargs),
        "policy": agent.policy.name,
        "seed": agent.seed,
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
