"""Rollouts by vLLM against the policy's own forward pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agents import GRPOAgent, GRPOConfig, SamplingParams, load_policy
from agents.engines import StaticCacheEngine
from agents.engines.vllm import VLLMEngine
from agents.rollout import GroupBatch, Rollout

LONG = list(range(5, 165))  # longer than a block of vLLM's cache, which is 128 tokens on a CPU


@pytest.fixture(scope="module")
def policy():
    return load_policy("builtin/tiny")


@pytest.fixture(scope="module")
def engine(policy):
    return VLLMEngine(policy, enforce_eager=True, max_num_seqs=64)


def largest_difference(policy, prompts, groups, temperature=1.0) -> float:
    """Between the log-probabilities that an engine gave and the policy's."""
    rollouts = [
        Rollout(0, "", prompt, completion, "", 0.0, "", None, None)
        for prompt, group in zip(prompts, groups, strict=True)
        for completion in group
    ]
    batch = GroupBatch.from_rollouts(rollouts, len(groups[0]), 0)
    with torch.no_grad():
        own = policy.logprobs(batch, temperature)
    return ((own - batch.sampler_logprobs).abs() * batch.completion_mask).max().item()


def change(policy) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_the_policys(policy, engine, temperature):
    prompts = [policy.encode_prompts(["What is 3 + 4?"])[0], LONG]
    groups = engine.generate(prompts, 4, SamplingParams(24, temperature), 1)
    assert [len(group) for group in groups] == [4, 4]
    assert largest_difference(policy, prompts, groups, temperature) < 1e-4


def test_new_weights_are_used_everywhere(policy, engine):
    """The tied head's packed copy and the cached prefix of a long prompt would be old."""
    prompts = [LONG, LONG[:20]]
    engine.generate(prompts, 2, SamplingParams(8), 1)
    for _ in range(2):
        change(policy)
        assert largest_difference(policy, prompts, engine.generate(prompts, 2, SamplingParams(8), 1)) > 1e-2
        engine.sync_weights(policy)
        assert largest_difference(policy, prompts, engine.generate(prompts, 2, SamplingParams(8), 1)) < 1e-4


def test_seeds_repeat_and_prompts_do_not_share_noise(policy, engine):
    prompts = [policy.encode_prompts(["What is 3 + 4?"])[0]] * 3
    sampling = SamplingParams(24, 1.5)
    first, again, other = (engine.generate(prompts, 4, sampling, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    # with seeds next to each other a prompt's completions are those of the one before it, moved by one
    drawn = {tuple(completion.ids) for group in first for completion in group}
    assert len(drawn) >= 10
    assert first[0][1:] != first[1][:-1]


def test_greedy_is_that_of_the_own_engine(policy, engine):
    prompts = policy.encode_prompts(["What is 3 + 4?", "What is 20 - 7 + 5?"])
    sampling = SamplingParams(24, 0.0)
    expected = StaticCacheEngine(policy).generate(prompts, 2, sampling, 0)
    found = engine.generate(prompts, 2, sampling, 0)
    for group, wanted in zip(found, expected, strict=True):
        assert [c.ids for c in group] == [c.ids for c in wanted]
        assert [c.truncated for c in group] == [c.truncated for c in wanted]
        for c, w in zip(group, wanted, strict=True):
            assert c.logprobs == pytest.approx(w.logprobs, abs=1e-4)


def test_ends(policy, engine):
    prompts = policy.encode_prompts(["What is 3 + 4?"])
    [whole] = engine.generate(prompts, 8, SamplingParams(48), 3)
    assert any(not c.truncated for c in whole)
    for completion in whole:
        assert completion.truncated == (completion.ids[-1] not in policy.end_token_ids)
        assert len(completion.ids) == len(completion.logprobs) <= 48
    [cut] = engine.generate(prompts, 8, SamplingParams(2), 3)
    assert all(c.truncated and len(c.ids) == 2 for c in cut)
    [stopped] = engine.generate(prompts, 8, SamplingParams(48, stop=("=",)), 3)
    for completion in stopped:
        text = policy.decode(completion.ids)
        assert completion.truncated or "=" in text or completion.ids[-1] in policy.end_token_ids
        assert "=" not in policy.decode(completion.ids[:-1])
    assert any("=" in policy.decode(c.ids) for c in stopped)


def test_restricted_sampling(policy, engine):
    prompts = policy.encode_prompts(["What is 3 + 4?"])
    [group] = engine.generate(prompts, 16, SamplingParams(4, 2.0, top_k=1), 3)
    [[greedy]] = engine.generate(prompts, 1, SamplingParams(4, 0.0), 3)
    assert all(completion.ids == greedy.ids for completion in group)
    assert all(value == pytest.approx(0.0, abs=1e-5) for c in group for value in c.logprobs)


def test_an_agent_learns_with_it(engine, policy):
    agent = GRPOAgent(
        policy,
        "llm_envs/Arithmetic-v0",
        config=GRPOConfig(prompts_per_update=8, group_size=4),
        engine=engine,
    )
    agent.learn(64)
    prompts = policy.encode_prompts(["What is 3 + 4?"])
    assert largest_difference(policy, prompts, engine.generate(prompts, 2, SamplingParams(8), 1)) < 1e-4


def test_many_prompts_with_seeds(policy):
    """More than vLLM takes in one step: on a CPU it cannot turn back the noise of a prompt that it has a part of."""
    engine = VLLMEngine(policy, enforce_eager=True, max_num_seqs=64, max_num_batched_tokens=512)
    prompts = [LONG[i:] for i in range(40)]
    groups = engine.generate(prompts, 2, SamplingParams(4), 1)
    assert [len(group) for group in groups] == [2] * 40
    assert largest_difference(policy, prompts, groups) < 1e-4


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_each_of_two_processes_has_an_engine_and_whole_weights(parallel):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*launcher, "--nproc-per-node", "2", str(Path(__file__).with_name("vllm_ranks.py")), parallel]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert sorted(done.stdout.split("\n")[:2]) == [f"rank {rank} {parallel} close" for rank in (0, 1)]


def test_adapters_are_added_for_the_copy_alone():
    pytest.importorskip("peft")
    policy = load_policy("builtin/tiny", lora_rank=4)
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    before = {name: parameter.clone() for name, parameter in policy.model.named_parameters()}
    engine = VLLMEngine(policy, enforce_eager=True, max_num_seqs=16)
    for _ in range(3):
        engine.sync_weights(policy)
    for name, parameter in policy.model.named_parameters():
        assert torch.equal(parameter, before[name])  # frozen weights are in no checkpoint
    assert largest_difference(policy, [LONG], engine.generate([LONG], 2, SamplingParams(8), 1)) < 1e-4
