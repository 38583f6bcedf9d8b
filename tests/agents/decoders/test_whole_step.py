"""A decode step as one operator, against the same step as Python calls it and against PyTorch's operators."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from agents.engines import StaticCacheEngine
from agents.kernels import decoding
from agents.kernels.loading import vector_flags
from agents.policies import LanguageModelPolicy
from agents.rollout import SamplingParams

pytestmark = pytest.mark.skipif(vector_flags() is None, reason="this CPU has neither AVX-512 nor AVX2")

PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [9, 10], [3, 4, 5]]
ARCHITECTURES = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 24},
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
}
CASES = [*ARCHITECTURES, "llama, adapters", "qwen2, adapters of some layers", "gemma3_text, adapters"]


@pytest.fixture(autouse=True)
def for_small_models(monkeypatch, few_row_products):
    """All that large models take."""
    assert decoding.has_fused_decoding()
    monkeypatch.setattr("agents.decoders.llama._LARGE", 0)


@pytest.fixture
def whole_steps(monkeypatch):
    """How many lines each whole step had."""
    counts = []
    true = decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda x, *args: counts.append(len(x)) or true(x, *args))
    return counts


def make(random_policy, case):
    """With norms and biases that are seen, and so many end tokens that lines end at different lengths."""
    name, _, adapters = case.partition(", ")
    policy = random_policy(name, **ARCHITECTURES[name])
    if adapters:
        peft = pytest.importorskip("peft")
        targets = ["q_proj", "up_proj", "down_proj"] if "some" in adapters else "all-linear"
        config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM")
        policy = LanguageModelPolicy(peft.get_peft_model(policy.model, config), policy.tokenizer)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    policy.model.generation_config.eos_token_id = list(range(0, len(policy.tokenizer), 15))
    return policy


def generate(policy, tokens=60):
    return StaticCacheEngine(policy).generate(PROMPTS, 7, SamplingParams(tokens), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("case", CASES)
def test_a_whole_step_is_its_parts(random_policy, whole_steps, monkeypatch, case):
    """Bit by bit, until too few lines are left for the operator."""
    policy = make(random_policy, case)
    found = generate(policy)
    assert max(whole_steps) > 16
    assert min(whole_steps) < 8
    assert min(whole_steps) >= 4
    whole_steps.clear()
    monkeypatch.setattr("agents.decoders.llama.whole_step", lambda *_: None)
    assert generate(policy) == found
    assert not whole_steps


@pytest.mark.parametrize("case", CASES)
def test_a_rollout_is_that_of_pytorchs_operators(random_policy, whole_steps, monkeypatch, case):
    policy = make(random_policy, case)
    found = generate(policy)
    assert whole_steps
    monkeypatch.setattr(decoding, "has_fused_decoding", lambda: False)
    monkeypatch.setattr("agents.kernels.split_products.has_split_products", lambda: False)
    monkeypatch.setattr("agents.decoders.streamed.has_few_row_products", lambda: False)
    for group, expected_group in zip(found, generate(policy), strict=True):
        for one, other in zip(group, expected_group, strict=True):
            assert one.ids == other.ids
            torch.testing.assert_close(torch.tensor(one.logprobs), torch.tensor(other.logprobs), rtol=0, atol=1e-4)


def another_layer(policy):
    policy.model.model.layers[1].mlp.down_proj = _Doubled(64, 32, bias=False)


def another_activation(policy):
    policy.model.model.layers[1].mlp.act_fn = nn.GELU()


def another_eps(policy):
    policy.model.model.layers[1].input_layernorm.variance_epsilon = 0.1


class _Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("change", [another_layer, another_activation, another_eps])
def test_what_the_operator_does_not_compute_goes_without(random_policy, whole_steps, monkeypatch, change):
    policy = random_policy("llama")
    change(policy)
    policy = LanguageModelPolicy(policy.model, policy.tokenizer)
    found = generate(policy, 20)
    assert not whole_steps
    monkeypatch.setattr(decoding, "has_fused_decoding", lambda: False)
    expected = generate(policy, 20)
    assert [[one.ids for one in group] for group in found] == [[one.ids for one in group] for group in expected]


def test_bfloat16_and_float64_go_without(random_policy, whole_steps):
    for dtype in (torch.float64, torch.bfloat16):
        policy = random_policy("llama")
        model = policy.model.to(dtype).requires_grad_(False)  # what is trained is float32
        generate(LanguageModelPolicy(model, policy.tokenizer), 20)
    mixed = random_policy("llama")
    generate(LanguageModelPolicy(mixed.model, mixed.tokenizer, precision="bfloat16"), 20)
    assert not whole_steps


def test_the_weights_are_those_of_now(random_policy, whole_steps):
    policy = random_policy("llama")
    engine = StaticCacheEngine(policy)

    def logprobs():
        [[one], *_] = engine.generate([[5, 6]] * 4, 1, SamplingParams(12, temperature=0), torch.Generator())
        return one.logprobs

    before = logprobs()
    with torch.no_grad():
        policy.model.model.layers[1].mlp.down_proj.weight.mul_(3)
    assert logprobs() != before
    assert whole_steps


def test_layers_that_do_not_fit_are_refused():
    layers = decoding.Layers([None] * (len(decoding.LAYER_TENSORS) + 1), [None], [0], 1e-5, 0.0, 1.0)
    own, prompts, lines = torch.zeros(1, 2, 4, 2, 3, 8), torch.zeros(1, 2, 1, 2, 5, 8), torch.zeros(4, dtype=torch.long)
    angles = [torch.zeros(4, 1, 4)]
    cache = decoding.Cache(prompts, own, 1, lines, None)
    with pytest.raises(RuntimeError, match="must be those of 1 layers"):
        decoding.decode(torch.zeros(4, 32), angles, angles, layers, cache)
    layers = decoding.Layers([None] * (len(decoding.LAYER_TENSORS) + 2), [None], [1], 1e-5, 0.0, 1.0)
    with pytest.raises(RuntimeError, match="places in cos and sin"):
        decoding.decode(torch.zeros(4, 32), angles, angles, layers, cache)
