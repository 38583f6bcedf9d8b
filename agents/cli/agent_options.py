"""The agents that `llm-envs train` knows, and the options that each has of its own."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from gymnasium.envs.registration import EnvSpec

from agents.base_agent import Agent
from agents.cli.options import OptionalFloat, OptionalInt
from agents.evaluation.comparison import SB3_AGENTS
from agents.grpo.agent import GRPOAgent
from agents.grpo.config import GRPOConfig
from agents.objectives import PRESETS
from agents.policies import LanguageModelPolicy
from agents.sb3.config import SB3Config


@dataclass(frozen=True)
class A2COptions:
    """Arguments of stable-baselines3's algorithm under its own names; docs/agents.md lists the defaults."""

    vf_coef: OptionalFloat = None
    """Weight of the value loss."""
    ent_coef: OptionalFloat = None
    """Weight of the entropy bonus."""
    gae_lambda: OptionalFloat = None
    """Lambda of generalized advantage estimation; it acts where an episode has several steps."""


@dataclass(frozen=True)
class PPOOptions(A2COptions):
    """Arguments of stable-baselines3's algorithm under its own names; docs/agents.md lists the defaults."""

    clip_range: OptionalFloat = None
    """How far the probability ratio may move away from 1 and still count."""
    batch_size: OptionalInt = None
    """Steps per optimizer step."""
    n_epochs: OptionalInt = None
    """How often an update goes through what it collected."""
    target_kl: OptionalFloat = None
    """An update stops when its estimate of KL(old, new) passes 1.5 times this."""


def option_groups(agent: str) -> dict[str, Any]:
    """The dataclasses of an agent's own options with their defaults, by the name of the group.

    Args:
        agent: A name from `AGENT_NAMES`.
    """
    if agent in PRESETS:
        return {"config": GRPOConfig(), "objective": PRESETS[agent]()}
    algorithm = PPOOptions() if agent.startswith("ppo") else A2COptions()
    return {"config": SB3Config(), "algorithm": algorithm}


def make_agent(name: str, policy: LanguageModelPolicy, env: EnvSpec, groups: dict[str, Any], seed: int) -> Agent:
    """A new agent with the options of `option_groups`."""
    if name in PRESETS:
        return GRPOAgent(policy, env, objective=groups["objective"], config=groups["config"], seed=seed)
    import stable_baselines3

    from agents.sb3 import SB3Agent

    algorithm, view = SB3_AGENTS[name]
    given = {f.name: v for f in fields(groups["algorithm"]) if (v := getattr(groups["algorithm"], f.name)) is not None}
    config = replace(groups["config"], algorithm_kwargs=given)
    return SB3Agent(policy, env, getattr(stable_baselines3, algorithm), view, config=config, seed=seed)
