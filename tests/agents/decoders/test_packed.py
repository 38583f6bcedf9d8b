from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.decoders.packed import _has_bfloat16, can_pack, packed
from agents.engines import StaticCacheEngine
from agents.policies import load_policy
from agents.rollout import SamplingParams

pytestmark = pytest.mark.skipif(not can_pack(torch.device("cpu")), reason="oneDNN's packed weights are for x86 CPUs")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 5, 32, 96, 97, 300])
@torch.no_grad()
def test_packed_layers_compute_the_same(dtype, has_bias, rows):
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(700, 800, bias=has_bias)
    for parameter in linear.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(rows, 700, generator=generator)
    layer = packed(linear, dtype)
    if dtype == torch.bfloat16 and not _has_bfloat16():
        assert layer is linear
        return
    assert layer is not linear
    expected = linear.to(dtype)(x.to(dtype)).float()
    found = layer(x)
    assert found.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert ((found.float() - expected).norm() / expected.norm()).item() < tolerance


@pytest.mark.parametrize(
    ("linear", "dtype"),
    [(nn.Linear(8, 8), torch.float32), (nn.Linear(1000, 1000), torch.float64), (nn.Identity(), torch.bfloat16)],
)
def test_what_would_not_gain_is_left_alone(linear, dtype):
    assert packed(linear, dtype) is linear


def test_bfloat16_is_packed_where_onednn_has_it(monkeypatch):
    """Without AVX-512, arranging the weights raises an error."""
    linear = nn.Linear(64, 64)
    monkeypatch.setattr("agents.decoders.packed._has_bfloat16", lambda: False)
    assert packed(linear, torch.bfloat16) is linear


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rollout_sees_the_weights_of_its_time(monkeypatch, precision):
    """What is prepared for one rollout is not used in the next, after an update."""
    monkeypatch.setattr("agents.decoders.packed._MIN_ENTRIES", 0)
    policy = load_policy("builtin/tiny", precision=precision)
    engine = StaticCacheEngine(policy)
    ids = policy.encode_prompts(["What is 1 + 1?"])

    def generate():
        [group] = engine.generate(ids, 8, SamplingParams(12), torch.Generator().manual_seed(0))
        return group

    first = generate()
    assert generate() == first
    with torch.no_grad():
        for _, parameter in policy.trainable_parameters():
            parameter.mul_(0.8)
    changed = generate()
    assert [completion.ids for completion in changed] != [completion.ids for completion in first]
    monkeypatch.setattr("agents.decoders.llama.can_pack", lambda device: False)
    if precision == "float32":
        assert [completion.ids for completion in generate()] == [completion.ids for completion in changed]
