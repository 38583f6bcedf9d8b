"""vLLM in the training process on a GPU, with sleep; skipped where vLLM is not installed."""

from __future__ import annotations

import pytest
import torch

from agents import GRPOAgent, GRPOConfig, SamplingParams, load_policy
from agents.engines.vllm import VLLMEngine
from agents.rollout import GroupBatch, Rollout


def test_it_sleeps_takes_new_weights_and_agrees_with_the_policy():
    pytest.importorskip("vllm")
    policy = load_policy("builtin/tiny", device="cuda", precision="float32")
    engine = VLLMEngine(policy, memory_share=0.1, enforce_eager=True)
    config = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=24)
    GRPOAgent(policy, "llm_envs/Arithmetic-v0", config=config, engine=engine).learn(48)
    prompt = list(range(5, 165))
    [group] = engine.generate([prompt], 4, SamplingParams(16), 1)
    engine.sleep()
    rollouts = [Rollout(0, "", prompt, completion, "", 0.0, "", None, None) for completion in group]
    batch = GroupBatch.from_rollouts(rollouts, 4, policy.pad_token_id, policy.device)
    with torch.no_grad():
        own = policy.logprobs(batch, 1.0)
    assert ((own - batch.sampler_logprobs).abs() * batch.completion_mask).max() < 1e-2
