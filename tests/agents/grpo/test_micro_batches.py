"""Micro-batches by tokens, and smaller ones where memory runs out: the gradient stays that of the whole step."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from agents import GRPOAgent, GRPOConfig, load_agent
from agents.distributed import Ranks
from agents.grpo.micro_batches import MicroBatches, UpdateOutOfMemory
from agents.objectives import PRESETS
from agents.rollout import Completion, Rollout

ARITHMETIC = "llm_envs/Arithmetic-v0"
G = 4


def rollouts() -> list[Rollout]:
    """Eight groups of unlike lengths, each with something to teach."""
    rng = np.random.default_rng(0)
    found = []
    for group, size in enumerate([3, 40, 5, 4, 17, 6, 2, 9]):
        prompt = rng.integers(5, 50, size=4 + 2 * group).tolist()
        for i in range(G):
            ids = rng.integers(5, 50, size=size + i).tolist()
            written = Completion(ids, (-rng.random(len(ids)) - 3).tolist(), truncated=False)
            found.append(Rollout(group, "", prompt, written, "", float(i % 2), "", None, None))
    return found


def agent_of(policy, objective="grpo", **config) -> GRPOAgent:
    config = {"prompts_per_update": 8, "group_size": G, "epochs": 1, "minibatches": 1} | config
    return GRPOAgent(policy, ARITHMETIC, objective=PRESETS[objective](), config=GRPOConfig(**config))


def limit_memory(agent: GRPOAgent, fits) -> list[int]:
    """Let passes of batches that do not fit end as on a GPU, some of them in the backward pass; gives all sizes."""
    sizes: list[int] = []
    compute = agent.policy.logprobs

    def logprobs(batch, temperature=1.0):
        tokens = int(batch.prompt_mask.sum() + batch.completion_mask.sum())
        sizes.append(tokens)
        out = compute(batch, temperature)
        if fits(len(batch.completion_ids), tokens):
            return out
        if not out.requires_grad or len(sizes) % 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        def fail(gradient):
            raise torch.OutOfMemoryError("CUDA out of memory in the backward pass")

        out.register_hook(fail)
        return out

    agent.policy.logprobs = logprobs
    return sizes


def gradients(agent: GRPOAgent) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    found = {}
    agent.optimizer.register_step_pre_hook(
        lambda *_: found.update({name: p.grad.clone() for name, p in agent._parameters.items()})
    )
    figures = agent._optimize(agent._make_batch(rollouts()), learning_rate=0.0)
    return found, figures


def assert_alike(found, expected) -> None:
    for name, gradient in expected[0].items():
        assert (found[0][name] - gradient).abs().max() < 1e-6 * (gradient.abs().max() + 1e-3), name
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        assert found[1][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("tokens", [1, 100, 250, 10_000])
def test_the_gradient_is_that_of_micro_batches_by_rows(random_policy, plain, tokens):
    expected = gradients(agent_of(random_policy("llama")))
    assert_alike(gradients(agent_of(random_policy("llama", plain=plain), micro_batch_tokens=tokens)), expected)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("limit", [1, 60, 200, 1_000])
def test_micro_batches_hold_whole_groups_and_no_more_tokens_than_asked_for(random_policy, plain, limit):
    agent = agent_of(random_policy("llama", plain=plain), micro_batch_tokens=limit)
    batch = agent._make_batch(rollouts())
    parts = agent._micro_batches._parts(batch, torch.arange(8))
    assert torch.cat(parts).tolist() == list(range(8))
    for part in parts:
        selected = batch.select_groups(part)
        if plain:
            computed = len(selected.completion_ids) * (selected.prompt_ids.shape[1] + selected.completion_ids.shape[1])
        else:
            computed = int(selected.prompt_mask.sum() + selected.completion_mask.sum())
        assert computed <= limit or len(part) == 1
    if limit == 1_000:
        assert len(parts) < 8


def test_ranks_take_as_many_passes_of_at_most_so_many_tokens(random_policy):
    batch = agent_of(random_policy("llama"))._make_batch(rollouts())
    config = GRPOConfig(prompts_per_update=8, group_size=G, micro_batch_tokens=120)
    of_ranks = [
        MicroBatches(config, Ranks(rank, 3), is_padded=False)._parts(batch, torch.arange(8)) for rank in range(3)
    ]
    assert len({len(parts) for parts in of_ranks}) == 1
    assert sorted(int(i) for parts in of_ranks for part in parts if part is not None for i in part) == list(range(8))


@pytest.mark.parametrize("objective", ["grpo", "dapo"])
@pytest.mark.parametrize(
    ("config", "fits"),
    [
        ({}, lambda rows, tokens: rows <= 2 * G),
        ({}, lambda rows, tokens: rows <= G),
        ({"micro_batch_size": 3 * G}, lambda rows, tokens: tokens <= 220),
        ({"micro_batch_tokens": 10_000}, lambda rows, tokens: tokens <= 220),
    ],
)
def test_out_of_memory_halves_and_the_gradient_is_the_same(random_policy, caplog, objective, config, fits):
    expected = gradients(agent_of(random_policy("llama"), objective))
    agent = agent_of(random_policy("llama"), objective, **config)
    limit_memory(agent, fits)
    with caplog.at_level(logging.WARNING):
        found = gradients(agent)
    assert_alike(found, expected)
    halvings = agent._micro_batches.take_halvings()
    assert halvings >= 1
    assert agent._micro_batches.take_halvings() == 0
    lines = [record.message for record in caplog.records if "out of memory" in record.message]
    assert len(lines) == halvings
    assert "going on with micro_batch_" in lines[0]


def test_a_smaller_micro_batch_stays_for_the_rest_of_the_run_and_after_it_was_saved(tmp_path):
    agent = agent_of("builtin/tiny", max_completion_tokens=24)
    limit_memory(agent, lambda rows, tokens: rows <= G)
    metrics = []
    agent.learn(96, lambda record: metrics.append(record.metrics["out_of_memory"]))
    assert sum(metrics) >= 1
    assert metrics[-1] == 0
    agent.save(tmp_path / "agent")
    halvings = load_agent(tmp_path / "agent", device="cpu")._micro_batches.halvings
    assert halvings == agent._micro_batches.halvings >= 1


def test_passes_without_gradient_are_halved_too(random_policy):
    agent = agent_of(random_policy("llama"), top_k=20, epochs=2)  # scores again under the policy
    limit_memory(agent, lambda rows, tokens: rows <= 2 * G)
    found = agent._make_batch(rollouts()).old_logprobs
    expected = agent_of(random_policy("llama"), top_k=20, epochs=2)._make_batch(rollouts()).old_logprobs
    assert torch.allclose(found, expected, atol=1e-6)


def test_too_little_for_one_group_is_said_with_remedies(random_policy):
    agent = agent_of(random_policy("llama"))
    before = [parameter.detach().clone() for parameter in agent._parameters.values()]
    limit_memory(agent, lambda rows, tokens: False)
    with pytest.raises(
        UpdateOutOfMemory, match=r"one group of 4 completions.*micro_batch_size.*adamw8bit.*GiB|backward"
    ):
        gradients(agent)
    assert all(torch.equal(a, b) for a, b in zip(before, agent._parameters.values(), strict=True))


def test_one_of_several_processes_cannot_halve_alone(random_policy):
    agent = agent_of(random_policy("llama"))
    batch = agent._make_batch(rollouts())
    parts = MicroBatches(agent.config, Ranks(0, 2), is_padded=False)

    def fail(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UpdateOutOfMemory, match="one of 2 processes ran out of memory"):
        parts.within(fail, batch, torch.arange(8))


def test_other_errors_are_not_taken_for_it(random_policy):
    agent = agent_of(random_policy("llama"))

    def fail(_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        agent._micro_batches.within(fail, agent._make_batch(rollouts()), torch.arange(8))


@pytest.mark.parametrize("value", [0, -5, 2.5, "many"])
def test_a_number_of_tokens_is_a_positive_integer(value):
    with pytest.raises((ValueError, TypeError), match="micro_batch_tokens"):
        GRPOConfig(micro_batch_tokens=value)
