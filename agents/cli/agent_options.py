"""The agents that `llm-envs train` knows, and the options that each has of its own."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import EnvSpec

from agents import factory
from agents.cli.options import OptionalFloat, OptionalInt
from agents.grpo.config import GRPOConfig
from agents.objectives import PRESETS
from agents.sb3.config import SB3Config
from agents.validation import check_at_least, check_at_most, check_positive

if TYPE_CHECKING:
    from agents.base_agent import Agent
    from agents.policies import LanguageModelPolicy


@dataclass(frozen=True)
class A2COptions:
    """Arguments of stable-baselines3's algorithm under its own names; docs/agents.md lists the defaults."""

    vf_coef: OptionalFloat = None
    """Weight of the value loss."""
    ent_coef: OptionalFloat = None
    """Weight of the entropy bonus."""
    gae_lambda: OptionalFloat = None
    """Lambda of generalized advantage estimation; it acts where an episode has several steps."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "vf_coef", "ent_coef", "gae_lambda")
        check_at_most(self, 1, "gae_lambda")


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

    def __post_init__(self) -> None:
        A2COptions.__post_init__(self)
        check_positive(self, "clip_range", "target_kl")
        check_at_least(self, 1, "n_epochs")
        check_at_least(self, 2, "batch_size")


def option_groups(agent: str) -> dict[str, Any]:
    """The dataclasses of an agent's own options with their defaults, by the name of the group.

    Args:
        agent: A name from `AGENT_NAMES`.
    """
    if agent in PRESETS:
        return {"config": GRPOConfig(), "objective": PRESETS[agent]()}
    algorithm = PPOOptions() if agent.startswith("ppo") else A2COptions()
    return {"config": SB3Config(), "algorithm": algorithm}


def make_agent(
    name: str, policy: LanguageModelPolicy, env: EnvSpec, groups: dict[str, Any], seed: int, **options: Any
) -> Agent:
    """A new agent with the options of `option_groups`; `options` are further ones of `agents.factory.make_agent`."""
    config, algorithm = groups["config"], groups.get("algorithm")
    if algorithm is not None:
        given = {f.name: v for f in fields(algorithm) if (v := getattr(algorithm, f.name)) is not None}
        config = replace(config, algorithm_kwargs=given)
    return factory.make_agent(name, policy, env, config=config, objective=groups.get("objective"), seed=seed, **options)
