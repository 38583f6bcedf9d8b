"""Packed tokens and rollouts of many families, against each row alone by transformers."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from agents.engines import StaticCacheEngine
from agents.forward import TokenLogprobs, UnsupportedModel, packed_model_of
from agents.rollout import SamplingParams

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)
families = import_module("families")

PROMPTS, COMPLETIONS = [9, 4, 12], [[5, 1, 8], [3, 2, 8], [4, 7, 6]]
# windows of six and seven tokens are shorter than the prompts
TEMPERATURE = 0.8


@pytest.fixture(scope="module", params=list(families.FAMILIES))
def expected(request):
    """A model as it was made; its log-probabilities and gradients by the book; greedy tokens by `generate`."""
    model = families.make_model(request.param)
    batch = families.make_batch(PROMPTS, COMPLETIONS)
    logprobs = families.rows_alone(model, batch, TEMPERATURE)
    weights = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (logprobs * weights).sum().backward()
    prompt = batch.prompt_ids[:1][batch.prompt_mask[:1].bool()][None]
    with torch.no_grad():
        greedy = model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    return model, batch, logprobs.detach(), weights, families.gradients(model), greedy[0, prompt.shape[1] :].tolist()


@pytest.fixture(scope="module")
def packed(expected):
    return packed_model_of(expected[0])


def test_log_probabilities_and_gradients_are_those_of_each_row_alone(expected, packed):
    model, batch, logprobs, weights, gradients, _ = expected
    found = TokenLogprobs(model, packed)(batch, TEMPERATURE)
    torch.testing.assert_close(found, logprobs, rtol=0, atol=1e-6)  # norms and rotations of several are float32
    (found * weights * batch.completion_mask).sum().backward()
    got = families.gradients(model)
    assert got.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (got[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("capture", [None, lambda step: step], ids=["growing", "constant"])
def test_a_rollout_reports_the_log_probabilities_of_each_row_alone(expected, packed, capture):
    model, batch, *_ = expected
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(batch.prompt_ids, batch.prompt_mask, strict=True)]
    engine = StaticCacheEngine(families.policy_of(model, packed), capture=capture)
    groups = engine.generate(prompts, 3, SamplingParams(20), seed=0)
    assert len({len(completion.ids) for group in groups for completion in group}) > 1
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            with torch.no_grad():
                alone = families.logprobs_alone(model, torch.tensor(prompt), torch.tensor(completion.ids))
            torch.testing.assert_close(torch.tensor(completion.logprobs), alone.float(), rtol=0, atol=2e-5)


def test_greedy_decoding_is_what_generate_gives(expected, packed):
    model, batch, *_, greedy = expected
    prompt = batch.prompt_ids[0][batch.prompt_mask[0].bool()].tolist()
    policy = families.policy_of(model, packed)
    policy.end_token_ids = frozenset()
    [[completion]] = StaticCacheEngine(policy).generate([prompt], 1, SamplingParams(12, temperature=0.0), seed=0)
    assert completion.ids == greedy


def test_calls_without_packed_tokens_stay_what_they_are(expected, packed):
    """Also with padding on the left, where a row of padding sees no key at all."""
    model, batch, logprobs, *_ = expected
    with torch.no_grad():
        found = families.rows_alone(model, batch, TEMPERATURE)
        torch.testing.assert_close(found, logprobs, rtol=0, atol=1e-6)
        mask = torch.cat([batch.prompt_mask.repeat_interleave(batch.group_size, 0), batch.completion_mask], dim=1)
        ids = torch.cat([batch.prompt_ids.repeat_interleave(batch.group_size, 0), batch.completion_ids], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        length = batch.completion_ids.shape[1]
        padded = (logits[:, -length - 1 : -1] / TEMPERATURE).log_softmax(-1)
        padded = padded.gather(2, batch.completion_ids[:, :, None]).squeeze(2)
    real = batch.completion_mask.bool()
    torch.testing.assert_close(padded[real], logprobs[real], rtol=0, atol=1e-5)


def test_gradient_checkpointing_leaves_generate_what_it_is(expected, packed):
    model, batch, *_, greedy = expected
    model.gradient_checkpointing_enable()
    try:
        if packed.has_gradient:
            TokenLogprobs(model, packed)(batch, TEMPERATURE).sum().backward()
        model.zero_grad(set_to_none=True)
        prompt = batch.prompt_ids[:1][batch.prompt_mask[:1].bool()][None]
        with torch.no_grad():
            found = model.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    finally:
        model.gradient_checkpointing_disable()
    assert found[0, prompt.shape[1] :].tolist() == greedy


OLMOE = {"sliding_window": 6, "num_experts": 4, "num_experts_per_tok": 2}
PHIMOE = {"sliding_window": 6, "num_local_experts": 4, "num_experts_per_tok": 2}
LLAMA4 = {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
REFUSED = {
    "a window that its mask has not": ("olmoe", OLMOE, "other hidden states"),
    "a window in the mask alone": ("phimoe", PHIMOE, "not told so"),
    "a mask that layers make themselves": ("doge", {"head_dim": 8}, "masks of their own"),
    "chunked attention": ("llama4_text", LLAMA4, "chunked_attention"),
    "a recurrent mixer": ("mamba", {}, "linear_attention"),
    "a hybrid of attention and recurrence": ("qwen3_next", {"head_dim": 8, **families.EXPERTS}, "linear_attention"),
    "another hybrid": ("jamba", {}, "linear_attention"),
    "attention beside recurrence": ("falcon_h1", {"head_dim": 8}, "hybrid"),
    "short convolutions": ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}, "conv"),
    "attention of its own, bloom": ("bloom", {"n_layer": 4, "n_head": 4}, "attention"),
    "attention of its own, falcon": ("falcon", {"new_decoder_architecture": False}, "attention"),
    "attention of its own, mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 4, "max_seq_len": 64}, "attention"),
    "attention of its own, gptj": ("gptj", {**families.GPT2, "rotary_dim": 8}, "attention"),
    "rotations that change with the length": ("llama", {"rope_parameters": DYNAMIC}, "dynamic"),
}


@pytest.mark.parametrize(("family", "config", "reason"), list(REFUSED.values()), ids=list(REFUSED))
def test_what_packed_tokens_would_change_is_refused_and_left_alone(family, config, reason):
    model = families.make_model(family, **config)
    before = getattr(model.config, "_attn_implementation", None)
    with pytest.raises(UnsupportedModel, match=reason):
        packed_model_of(model)
    assert getattr(model.config, "_attn_implementation", None) == before
