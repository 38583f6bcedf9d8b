"""One of two processes of gloo, each with a vLLM of its own; `test_vllm_engine.py` starts them."""

from __future__ import annotations

import sys

from agents import GRPOAgent, GRPOConfig, SamplingParams, load_policy
from agents.engines.vllm import VLLMEngine
from tests.vllm.test_vllm_engine import LONG, largest_difference


def main(parallel: str) -> None:
    policy = load_policy("builtin/tiny")
    config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
    agent = GRPOAgent(policy, "llm_envs/Arithmetic-v0", config=config, parallel=parallel)  # type: ignore[arg-type]
    assert agent.ranks.size == 2
    agent.engine = VLLMEngine(policy, enforce_eager=True, max_num_seqs=16)
    agent.learn(32)
    groups = agent.engine.generate([LONG], 2, SamplingParams(8), 1)
    with agent.whole_weights():
        difference = largest_difference(policy, [LONG], groups)
    print(f"rank {agent.ranks.rank} {parallel} {'close' if difference < 1e-4 else difference}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
