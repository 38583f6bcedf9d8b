"""One of several processes that train together; `test_distributed.py` starts them by torchrun.

python train_ranks.py CHECKPOINT PARALLEL [kill]
"""

from __future__ import annotations

import os
import signal
import sys

import torch

from agents import GRPOAgent, GRPOConfig
from agents.distributed import whole

CONFIG = GRPOConfig(prompts_per_update=5, group_size=4, micro_batch_size=4)


def main(folder: str, parallel: str, *kill: str) -> None:
    torch.set_num_threads(1)
    agent = GRPOAgent("builtin/tiny", "llm_envs/Arithmetic-v0", config=CONFIG, parallel=parallel)

    def die(record) -> None:
        if kill and agent.ranks.rank == 1 and record.update == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    before = weights(agent)
    agent.learn(60, die)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(agent), strict=True))
    agent.save(folder)
    again = GRPOAgent.load(folder, parallel=parallel)
    same(agent, again)
    before = weights(agent)
    agent.learn(100)
    again.learn(100)
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(agent), strict=True))
    same(agent, again)
    if agent.ranks.is_first:
        print("the same")


def weights(agent) -> list[torch.Tensor]:
    return [whole(parameter).detach().clone() for parameter in agent.policy.model.parameters()]


def same(agent, other) -> None:
    for a, b in zip(weights(agent), weights(other), strict=True):
        assert torch.equal(a, b)


if __name__ == "__main__":
    main(*sys.argv[1:])
