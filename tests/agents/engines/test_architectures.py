"""Any transformers decoder works: left padding, cache, dropped rows and scoring agree with a plain forward pass."""

from __future__ import annotations

import pytest
import torch

from agents.engines import CachedEngine, StaticCacheEngine, default_engine
from agents.rollout import GroupBatch, Rollout, SamplingParams

PROMPTS = ["What is 1 + 1?", "What is 2 + 2 * 6 - 8 * (4 + 4)? End with \\boxed{answer}."]
ARCHITECTURES = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8},
    "phi3": {},
    "smollm3": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4},
}


def captured_engine(policy):
    """Steps of constant size where the model can be packed."""
    is_plain = policy.packed_model is None
    return default_engine(policy) if is_plain else StaticCacheEngine(policy, capture=lambda step: step)


@pytest.mark.parametrize("make_engine", [CachedEngine, default_engine, captured_engine])
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "mamba"])
def test_sampled_and_scored_logprobs_are_those_of_a_plain_forward(random_policy, name, make_engine):
    policy = random_policy(name, **ARCHITECTURES[name])
    prompt_ids = policy.encode_prompts(PROMPTS)
    groups = make_engine(policy).generate(prompt_ids, 3, SamplingParams(16), seed=0)
    rollouts = [
        Rollout(0, "", ids, completion, "", 0.0, "", None, None)
        for ids, group in zip(prompt_ids, groups, strict=True)
        for completion in group
    ]
    batch = GroupBatch.from_rollouts(rollouts, 3, policy.pad_token_id)
    scored = policy.logprobs(batch).detach()
    for i, rollout in enumerate(rollouts):
        ids, prompt = rollout.completion.ids, rollout.prompt_ids
        with torch.no_grad():
            logprobs = policy.model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        plain = [logprobs[len(prompt) - 1 + t, token].item() for t, token in enumerate(ids)]
        assert rollout.completion.logprobs == pytest.approx(plain, abs=1e-4)
        assert scored[i, : len(ids)].tolist() == pytest.approx(plain, abs=1e-4)


def test_a_recurrent_model_is_refused_with_a_reason(random_policy):
    policy = random_policy("mamba", **ARCHITECTURES["mamba"])
    with pytest.raises(NotImplementedError, match="MambaForCausalLM does not keep"):
        CachedEngine(policy).generate(policy.encode_prompts(PROMPTS), 2, SamplingParams(4), seed=0)
