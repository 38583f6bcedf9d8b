"""Steps per second of the token view: the key-value cache beside a forward pass of everything written so far.

python benchmarks/token_view.py
"""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass

import torch
import transformers
import tyro

from agents import SB3Agent, SB3Config
from agents.sb3.prefixes import last_hidden


@dataclass(frozen=True)
class Arguments:
    """Collect tokens with stable-baselines3's loop, the two ways in turn, and print a Markdown table."""

    policy: str = "builtin/tiny"
    """A name for `load_policy`."""
    num_envs: int = 64
    """Episodes side by side."""
    tokens: int = 48
    """Tokens of a completion; end tokens are not drawn, so that every episode has this length."""
    rounds: int = 5
    """Rounds of each way; one round is `tokens` steps of all episodes."""


class Naive:
    """In the place of the cache: every prefix from its start, at every step."""

    def __init__(self, policy) -> None:
        self.policy = policy

    def clear(self) -> None:
        pass

    @torch.no_grad()
    def last_hidden(self, model, rows):
        return last_hidden(self.policy, model, rows)


def main(arguments: Arguments) -> None:
    """Print steps (tokens) per second of both, and their ratio."""
    torch.set_num_threads(1)
    config = SB3Config(num_envs=arguments.num_envs, n_steps=arguments.tokens, max_completion_tokens=arguments.tokens)
    agent = SB3Agent(arguments.policy, "llm_envs/Arithmetic-v0", view="token", config=config)
    head = agent.algorithm.policy.action_net
    ends = sorted(agent.policy.end_token_ids)
    head.register_forward_hook(lambda module, inputs, logits: logits.index_fill(1, torch.tensor(ends), -1e9))
    trunk = agent.algorithm.policy.features_extractor
    ways = {"cache": trunk.cache, "naive": Naive(agent.policy)}
    agent.algorithm.train = lambda: None  # collecting alone is timed
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(1 + arguments.rounds):  # the first warms up
        for name, way in ways.items():
            trunk.cache = way
            started = time.perf_counter()
            agent.algorithm.learn(arguments.num_envs * arguments.tokens, reset_num_timesteps=True)
            if round_ > 0:
                seconds[name].append(time.perf_counter() - started)
    steps = arguments.num_envs * arguments.tokens
    rates = {name: steps / statistics.median(values) for name, values in seconds.items()}
    ratio = statistics.median(b / a for a, b in zip(seconds["cache"], seconds["naive"], strict=True))
    print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, transformers {transformers.__version__}, ", end="")
    print(f"CPU ({platform.machine()}), 1 thread; {arguments.policy}\n")
    print(f"| {arguments.num_envs} episodes of {arguments.tokens} tokens | steps per second, median |")
    print("|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} |")
    print(f"| ratio, median of {arguments.rounds} pairs | {ratio:.1f} |")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
