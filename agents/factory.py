"""Agents by name: what Python, `llm-envs train` and `llm-envs compare` make, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.grpo.config import GRPOConfig
from agents.objectives import PRESETS, Objective
from agents.sb3.config import SB3Config, View
from agents.validation import checked

if TYPE_CHECKING:  # loading torch is left to the functions: the command line reads the names alone
    from agents.base_agent import Agent
    from agents.distributed import Parallel
    from agents.engines import RolloutEngine
    from agents.envs import EnvLike
    from agents.policies import LanguageModelPolicy
    from agents.policies.precision import Precision

SB3_AGENTS: dict[str, tuple[str, View]] = {
    "ppo": ("PPO", "completion"),
    "a2c": ("A2C", "completion"),
    "ppo-token": ("PPO", "token"),
    "a2c-token": ("A2C", "token"),
}
"""Agents of stable-baselines3 by name: the class of the algorithm, and the view."""
AGENT_NAMES = (*PRESETS, *SB3_AGENTS)
"""The names of all agents; a `GRPOAgent` has the name of its objective."""


def default_config(name: str) -> GRPOConfig | SB3Config:
    """The config that an agent of this name has if none is given.

    Raises:
        ValueError: There is no such agent.
    """
    if name not in AGENT_NAMES:
        raise ValueError(f"there is no agent {name!r}; there are {', '.join(AGENT_NAMES)}")
    return GRPOConfig() if name in PRESETS else SB3Config()


def make_agent(
    name: str,
    policy: str | Path | LanguageModelPolicy,
    env: EnvLike,
    *,
    config: GRPOConfig | SB3Config | None = None,
    objective: Objective | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: Precision = "auto",
    engine: RolloutEngine | None = None,
    parallel: Parallel = "auto",
    cpu_offload: bool = False,
) -> Agent:
    """Make an agent by name.

    Args:
        name: One of `AGENT_NAMES`: an objective of `GRPOAgent`, such as `"grpo"` or `"rloo"`, or an algorithm of
            stable-baselines3, such as `"ppo"` or `"ppo-token"`.
        policy: A name for `load_policy`, or a loaded policy.
        env: An environment id, a spec, or an environment made by `gymnasium.make`.
        config: How much is collected and how it is updated; None is `default_config(name)`.
        objective: Replaces the objective of that name; for `GRPOAgent` alone.
        seed: Names the streams of problems and of noise.
        device: `"auto"` (CUDA where there is one), `"cpu"`, `"cuda"`, ...; a loaded policy stays where it is.
        precision: `"auto"`, `"float32"` or `"bfloat16"`, see `LanguageModelPolicy`.
        engine: What generates; None is the fastest engine that runs the policy's own model.
        parallel: How several processes divide the passes of a `GRPOAgent`, see `agents.distributed.Passes`.
        cpu_offload: See there.

    Raises:
        TypeError: The config is not one of this agent.
        ValueError: There is no such agent, or it takes no objective.
    """
    config = default_config(name) if config is None else config
    shared: dict[str, Any] = {"seed": seed, "device": device, "precision": precision, "engine": engine}
    if name in PRESETS:
        from agents.grpo.agent import GRPOAgent

        objective = PRESETS[name]() if objective is None else objective
        shared |= {"parallel": parallel, "cpu_offload": cpu_offload}
        return GRPOAgent(policy, env, objective=objective, config=config, **shared)  # type: ignore[arg-type]
    if objective is not None:
        raise ValueError(f"the agent {name!r} has a loss of its own and takes no objective, got {objective!r}")
    import stable_baselines3  # not before it is needed: it takes seconds

    from agents.sb3.agent import SB3Agent

    algorithm, view = SB3_AGENTS[name]
    made_by = getattr(stable_baselines3, algorithm)
    return SB3Agent(policy, env, made_by, view, config=config, **shared)  # type: ignore[arg-type]


def load_agent(
    path: str | Path,
    env: EnvLike | None = None,
    *,
    device: str = "auto",
    precision: Precision | None = None,
    engine: RolloutEngine | None = None,
    parallel: Parallel = "auto",
    cpu_offload: bool = False,
    objective: Objective | None = None,
    algorithm: Any = None,
) -> Agent:
    """Read what any agent's `save` wrote.

    Args:
        path: A checkpoint folder.
        env: Replaces the environment that was saved; needed where that had wrappers.
        device: Where to put the policy.
        precision: Of the computation; None is the one that was saved.
        engine: What generates; None is the fastest engine that runs the policy's own model.
        parallel: How several processes divide the passes of a `GRPOAgent`, see `agents.distributed.Passes`.
        cpu_offload: See there.
        objective: Replaces the objective of a `GRPOAgent`; needed where it is not one of this package.
        algorithm: Replaces the algorithm of an `SB3Agent`; needed where it is neither stable-baselines3's nor
            sb3-contrib's.

    Raises:
        CheckpointError: The folder is missing or incomplete.
        ValueError: An objective is given for an `SB3Agent`, or an algorithm for a `GRPOAgent`.
    """
    from agents import checkpoint

    checked("path", path, str | Path)
    options: dict[str, Any] = {"device": device, "precision": precision, "engine": engine}
    kind = checkpoint.read_record(Path(path)).get("agent", "GRPOAgent")
    foreign, given = ("objective", objective) if kind == "SB3Agent" else ("algorithm", algorithm)
    if given is not None:
        raise ValueError(f"{path} holds a {kind}, which has no {foreign}")
    if kind == "SB3Agent":
        from agents.sb3.agent import SB3Agent

        return SB3Agent.load(path, env, algorithm=algorithm, **options)
    from agents.grpo.agent import GRPOAgent

    options |= {"parallel": parallel, "cpu_offload": cpu_offload}
    return GRPOAgent.load(path, env, objective=objective, **options)
