"""stable-baselines3's algorithms on the command line: their options, and those they share with GRPO."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from agents.cli.objective_options import ObjectiveName, ObjectiveOptions
from agents.grpo.config import GRPOConfig
from agents.sb3.config import SB3Config, View

AgentName = Literal["grpo", "ppo", "a2c"]
_SHARED = sorted({f.name for f in fields(SB3Config)} & {f.name for f in fields(GRPOConfig)})
IN_ALGORITHM = {"clip_range": "clip_range", "entropy_coef": "ent_coef"}
"""Options of objectives that stable-baselines3's algorithms have, and their names there."""
_OF_PPO_ALONE = ("batch_size", "n_epochs", "clip_range", "target_kl")


@dataclass(frozen=True)
class SB3Options:
    """Options of --agent ppo and a2c; None stands for the default, which docs/agents.md lists."""

    view: View | None = None
    """completion: a step is a whole completion; token: a step is a token."""
    num_envs: int | None = None
    """Episodes side by side."""
    n_steps: int | None = None
    """Steps of each episode's environment per update."""
    batch_size: int | None = None
    """Steps per optimizer step (ppo)."""
    n_epochs: int | None = None
    """How often an update goes through what it collected (ppo)."""
    vf_coef: float | None = None
    """Weight of the value loss."""
    gae_lambda: float | None = None
    """Lambda of generalized advantage estimation; it acts where an episode has several steps."""
    target_kl: float | None = None
    """An update stops when its estimate of KL(old, new) passes 1.5 times this (ppo)."""
    max_prompt_tokens: int | None = None
    """The longest prompt that fits into an observation."""

    def given(self) -> dict[str, Any]:
        """The options that were given."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def make(self, agent: AgentName, shared: GRPOConfig, objective: ObjectiveOptions) -> SB3Config:
        """The config of an `SB3Agent`.

        Args:
            agent: ppo or a2c.
            shared: What both kinds of agents have is read from it, such as the learning rate.
            objective: kl_coef, clip_range and entropy_coef are read from it.

        Raises:
            ValueError: An option was given that this agent does not have, or a value is out of range.
        """
        in_objective = {f.name: v for f in fields(objective) if (v := getattr(objective, f.name)) is not None}
        ours = self.given()
        foreign = set(in_objective) - {"kl_coef", *IN_ALGORITHM}
        foreign |= {
            f.name for f in fields(shared) if f.name not in _SHARED and getattr(shared, f.name) != f.default
        }  # given on the command line
        if agent != "ppo":
            foreign |= {name for name in _OF_PPO_ALONE if name in ours or name in in_objective}
        refuse(agent, foreign)
        in_config = {f.name for f in fields(SB3Config)}
        algorithm_kwargs = {name: value for name, value in ours.items() if name not in in_config and name != "view"}
        algorithm_kwargs |= {IN_ALGORITHM[name]: v for name, v in in_objective.items() if name in IN_ALGORITHM}
        return SB3Config(
            **{name: getattr(shared, name) for name in _SHARED},
            **{name: value for name, value in ours.items() if name in in_config},
            **{name: value for name, value in in_objective.items() if name == "kl_coef"},
            algorithm_kwargs=algorithm_kwargs,
        )


def check_options(
    agent: AgentName, sb3: SB3Options, shared: GRPOConfig, objective: ObjectiveName, options: ObjectiveOptions
) -> None:
    """Refuse options that the agent does not have.

    Raises:
        ValueError: There is one, or a value is not allowed.
    """
    if agent == "grpo":
        refuse(agent, set(sb3.given()))
        options.make(objective)
        return
    if objective != "grpo":
        raise ValueError(f"--agent {agent} has a loss of its own; --objective {objective} is one of --agent grpo")
    sb3.make(agent, shared, options)


def refuse(agent: str, names: set[str]) -> None:
    """Raise for options that an agent does not have.

    Raises:
        ValueError: There is one.
    """
    if names:
        options = ", ".join("--" + name.replace("_", "-") for name in sorted(names))
        raise ValueError(f"--agent {agent} has no option {options}")
