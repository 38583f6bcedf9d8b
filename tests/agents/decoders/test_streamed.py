"""Rollouts that read their weights once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.decoders.linear_layers import Apart
from agents.decoders.streamed import can_stream, streamed
from agents.engines import StaticCacheEngine
from agents.kernels import few_rows
from agents.kernels.rounded import lacks_bfloat16
from agents.rollout import SamplingParams


@pytest.fixture
def calls(monkeypatch):
    """The weights of each call, and the weight that was to be fetched after them."""
    calls = []

    def spy(x, weights, next_weight):
        calls.append((list(weights), next_weight))
        return [x @ weight.t() for weight in weights]

    monkeypatch.setattr("agents.decoders.streamed.linears", spy)
    return calls


@pytest.mark.usefixtures("few_row_products")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_the_outputs_are_those_of_the_layers(dtype):
    apart = Apart(nn.Linear(64, 32), nn.Linear(64, 48, bias=False))
    last = nn.Linear(64, 100)
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    together, alone = streamed([apart, last], dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        for found, expected in zip([*together(x), alone(x)], [*apart(x), last(x)], strict=True):
            assert found.dtype == dtype
            torch.testing.assert_close(found, expected.to(dtype), rtol=tolerance, atol=tolerance)


def test_each_call_names_what_comes_next(calls):
    first, second, other, last = nn.Linear(8, 4), nn.Linear(8, 2), nn.Sequential(), nn.Linear(8, 16)
    stages = streamed([Apart(first, second), last, other, last], torch.float32)
    assert stages[2] is other
    for stage in stages:
        stage(torch.ones(3, 8))
    assert [len(weights) for weights, _ in calls] == [2, 1, 1]
    assert [following is last.weight for _, following in calls] == [True, False, False]
    assert calls[1][1] is None  # what comes then is no plain layer
    assert calls[2][1] is None


@pytest.mark.parametrize("is_there", [True, False])
def test_small_models_and_other_precisions_are_left_alone(monkeypatch, is_there):
    monkeypatch.setattr("agents.decoders.streamed.has_few_row_products", lambda: is_there)
    large, small = [nn.Linear(2048, 1024)], [nn.Linear(64, 64)] * 8
    assert can_stream(large, torch.float32) == is_there
    assert can_stream(large, torch.bfloat16) == (is_there and lacks_bfloat16())
    assert not can_stream(large, torch.float64)
    assert not can_stream(small, torch.float32)
    assert not can_stream([nn.Sequential(nn.Linear(2048, 1024))], torch.float32)


@pytest.mark.usefixtures("few_row_products")
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_rollout_is_that_of_pytorchs_products(random_policy, monkeypatch, architecture):
    policy = random_policy(architecture)
    prompts = [[5, 6, 7, 8], [9, 10]]
    used = []
    true = few_rows.linears
    monkeypatch.setattr("agents.decoders.streamed.linears", lambda *args: used.append(1) or true(*args))

    def generate():
        engine = StaticCacheEngine(policy)
        return engine.generate(prompts, 4, SamplingParams(20), torch.Generator().manual_seed(0))

    found = generate()
    assert used
    with torch.no_grad():  # the next rollout sees the weights of its time
        for _, parameter in policy.trainable_parameters():
            parameter.mul_(0.9)
    changed = generate()
    used.clear()
    monkeypatch.setattr("agents.kernels.split_products.has_split_products", lambda: False)
    monkeypatch.setattr("agents.decoders.streamed.has_few_row_products", lambda: False)
    expected_changed = generate()
    with torch.no_grad():
        for _, parameter in policy.trainable_parameters():
            parameter.div_(0.9)
    expected = generate()
    assert not used
    for ours, theirs in ((found, expected), (changed, expected_changed)):
        for group, expected_group in zip(ours, theirs, strict=True):
            for one, other in zip(group, expected_group, strict=True):
                assert one.ids == other.ids
                torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=0, atol=1e-4)
    assert found != changed
