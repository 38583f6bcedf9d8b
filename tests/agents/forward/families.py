"""Tiny random models of many families, and their log-probabilities by the book: each row alone, nothing packed."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from agents.rollout import Completion, GroupBatch, Rollout

VOCABULARY = 97
SMALL = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": None, "eos_token_id": 1,
}  # fmt: skip
GPT2 = {"n_positions": 64, "n_embd": 32, "n_layer": 4, "n_head": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DEEPSEEK = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12, "n_group": 1, "topk_group": 1,
    "num_key_value_heads": 4,
}  # fmt: skip
WINDOW = {"head_dim": 8, "sliding_window": 6}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 2},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": 6},
    "ministral": {"head_dim": 8, "sliding_window": 6},
    "gemma": {"head_dim": 8},
    "gemma2": {**WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": WINDOW,
    "vaultgemma": {**WINDOW, "query_pre_attn_scalar": 8},
    "gpt_neox": {},
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "phi": {},
    "phi3": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.1},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": 6},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"logit_scale": 0.3, "sliding_window": 6, "head_dim": 8},
    "nanochat": {},
    "starcoder2": {},
    "stablelm": {},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3_moe": {**EXPERTS, "head_dim": 8},
    "gpt_oss": {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "smollm3": {},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "deepseek_v3": DEEPSEEK,
    "exaone4": {"sliding_window": 6},
    "ernie4_5": {},
    "helium": {"head_dim": 8},
    "seed_oss": {"head_dim": 8},
    "lfm2": {"layer_types": ["full_attention"] * 4},
    "arcee": {},
    "hunyuan_v1_dense": {"head_dim": 8},
}
"""`model_type` and what its config has beside `SMALL`."""


def make_model(family: str, **config: Any) -> Any:
    """A random model in float64, with gains and biases that are not those of an initialization."""
    options = FAMILIES.get(family, {}) | config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(SMALL | options))).double().eval()
    with contextlib.suppress(AttributeError, ValueError):  # models without experts
        model.set_experts_implementation("eager")
    for parameter in model.parameters():
        parameter.data += (0.02 if parameter.ndim > 1 else 0.1) * torch.randn_like(parameter)
    if model.get_input_embeddings() is not None:
        model.get_input_embeddings().padding_idx = None
    return model


def make_batch(prompts: list[int], completions: list[list[int]]) -> GroupBatch:
    """Random tokens: prompts of these lengths, with completions of these lengths."""
    generator = torch.Generator().manual_seed(0)

    def tokens(length: int) -> list[int]:
        return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()

    rollouts = []
    for length, of_group in zip(prompts, completions, strict=True):
        prompt = tokens(length)
        for each in of_group:
            ids = tokens(each)
            completion = Completion(ids, [-1.0] * each, True)
            rollouts.append(Rollout(0, "", prompt, completion, "", float(each % 2), "", None, None))
    return GroupBatch.from_rollouts(rollouts, len(completions[0]), pad_token_id=0)


def rows_alone(model: Any, batch: GroupBatch, temperature: float) -> Tensor:
    """(N, T) log-probabilities with gradient, each row in a call of its own; 0 behind its end."""
    rows = []
    for row, (ids, mask) in enumerate(zip(batch.completion_ids, batch.completion_mask.bool(), strict=True)):
        group = row // batch.group_size
        prompt = batch.prompt_ids[group][batch.prompt_mask[group].bool()]
        found = logprobs_alone(model, prompt, ids[mask], temperature)
        rows.append(torch.nn.functional.pad(found, (0, len(ids) - len(found))))
    return torch.stack(rows)


def logprobs_alone(model: Any, prompt: Tensor, completion: Tensor, temperature: float = 1.0) -> Tensor:
    """(T,) log-probabilities of a completion after a prompt."""
    logits = model(input_ids=torch.cat([prompt, completion])[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, completion[:, None]).squeeze(1)


def gradients(model: Any) -> dict[str, Tensor]:
    """What parameters have gathered; it is taken away from them."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def policy_of(model: Any, packed: Any) -> Any:
    """What an engine asks of a policy, without a tokenizer."""
    return SimpleNamespace(
        model=model,
        packed_model=packed,
        computes_in_float32=True,
        device=torch.device("cpu"),
        end_token_ids=frozenset({5, 6, 7}),
        pad_token_id=0,
        decode=str,
        autocast=contextlib.nullcontext,
    )
