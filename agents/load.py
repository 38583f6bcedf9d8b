"""`load_agent`: a checkpoint of whichever agent."""

from __future__ import annotations

from pathlib import Path

from agents import checkpoint
from agents.base_agent import Agent
from agents.envs import EnvLike


def load_agent(path: str | Path, env: EnvLike | None = None, *, device: str = "auto") -> Agent:
    """Read what any agent's `save` wrote.

    Args:
        path: A checkpoint folder.
        env: Replaces the environment that was saved; needed where that had wrappers.
        device: Where to put the policy.

    Raises:
        CheckpointError: The folder is missing or incomplete.
    """
    if checkpoint.read_record(Path(path)).get("agent") == "SB3Agent":
        from agents.sb3 import SB3Agent  # loads stable-baselines3, which nothing else needs

        return SB3Agent.load(path, env, device=device)
    from agents.grpo.agent import GRPOAgent

    return GRPOAgent.load(path, env, device=device)
