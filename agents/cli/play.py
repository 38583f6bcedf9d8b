"""`llm-envs play`: a person answers the prompts and sees the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from rich.console import Console
from rich.text import Text

from agents.cli.common import spec_with
from agents.cli.options import EnvArgs, EnvId, OptionalInt, parse
from agents.validation import check_at_least


def run(arguments: Sequence[str]) -> None:
    """Run `llm-envs play` with the words that follow it."""
    parse(Play, arguments, "llm-envs play").run()


@dataclass(frozen=True)
class Play:
    """Answer a task's prompts yourself and see what the reward makes of it.

    An answer is one line, or goes on to the end of the ``` block that it opens.

    An empty line or Ctrl-D ends the game.
    """

    env: EnvId
    """Id of the environment, such as llm_envs/Arithmetic-v0 (see llm-envs list)."""
    env_args: EnvArgs = ()
    """Its arguments, such as operands=2."""
    seed: OptionalInt = None
    """Names the problems; by default they differ from game to game."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "seed")

    def run(self) -> None:
        """Ask until the person stops."""
        console = Console()
        env = gymnasium.make(spec_with(self.env, self.env_args))
        rewards: list[float] = []
        seed = self.seed
        while True:
            prompt, _ = env.reset(seed=seed)
            seed = None
            played = self._episode(console, env, str(prompt))
            if played is None:
                break
            reward, info = played
            rewards.append(reward)
            style = "green" if rewards[-1] > 0 else "red"
            console.print(
                Text.assemble(
                    (str(info["outcome"]), style),
                    f": reward {rewards[-1]:g}; your answer was read as {info['answer']!r}, ",
                    f"the reference is {info['reference']!r}\n",
                )
            )
        if rewards:
            played_all = "1 problem" if len(rewards) == 1 else f"{len(rewards)} problems"
            console.print(f"{played_all}, mean reward {sum(rewards) / len(rewards):.2f}", highlight=False)

    def _episode(
        self, console: Console, env: gymnasium.Env[Any, Any], message: str
    ) -> tuple[float, dict[str, Any]] | None:
        """Ask until the episode is over, and return its reward and last info; None where the person stops."""
        total = 0.0
        while True:
            console.print(Text(message, style="bold"))
            try:
                completion = _answer()
            except (EOFError, KeyboardInterrupt):
                console.print()
                return None
            if not completion:
                return None
            message, reward, terminated, truncated, info = env.step(completion)
            total += float(reward)
            if terminated or truncated:
                return total, info


def _answer() -> str:
    """What the person types: a line, or where it opens a ``` block, the lines to the end of that."""
    answer = input("> ")
    while answer.count("```") % 2:
        answer += "\n" + input("... ")
    return answer
