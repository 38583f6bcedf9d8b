"""Small agents of both views."""

from __future__ import annotations

import pytest
from stable_baselines3 import PPO

from agents import Callback, SB3Agent, SB3Config

ARITHMETIC = "llm_envs/Arithmetic-v0"
SMALL = {"num_envs": 16, "max_completion_tokens": 24, "max_prompt_tokens": 64}


class Recorder(Callback):
    def __init__(self, stop_after: int | None = None) -> None:
        self.records, self.stop_after = [], stop_after

    def on_update(self, record):
        self.records.append(record)
        return None if self.stop_after is None else record.update < self.stop_after


def make_agent(policy="builtin/tiny", algorithm=PPO, view="completion", *, seed=0, algorithm_kwargs=None, **config):
    kwargs = {"batch_size": 8} if algorithm is PPO else {}
    config = SB3Config(**{**SMALL, **config, "algorithm_kwargs": {**kwargs, **(algorithm_kwargs or {})}})
    return SB3Agent(policy, ARITHMETIC, algorithm, view, config=config, seed=seed, device="cpu")


@pytest.fixture
def small_agent():
    return make_agent


@pytest.fixture
def recorder():
    return Recorder
