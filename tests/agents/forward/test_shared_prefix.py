"""Packed tokens against their slow, plain twin: transformers' forward pass over every padded sequence, in float64."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from agents.engines import StaticCacheEngine
from agents.forward import UnsupportedModel, packed_model_of, shared_prefix
from agents.forward.attention import KEYWORD
from agents.policies import LanguageModelPolicy, load_policy
from agents.rollout import GroupBatch, SamplingParams

MODELS = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, all heads": ("llama", {"num_key_value_heads": 4}),
    "llama, one key head, wide": ("llama", {"num_key_value_heads": 1, "head_dim": 16}),
    "llama, scaled rope": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "llama, gelu": ("llama", {"hidden_act": "gelu"}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": 8}),
    "qwen2": ("qwen2", {}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, one layer with window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "qwen3, tied": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "gemma": ("gemma", {"head_dim": 8}),
    "gemma3": ("gemma3_text", {"head_dim": 8, "sliding_window": 8}),
}


def in_float64(norm):
    """transformers computes norms in float32 whatever the weights are; the twin must be exact."""

    def forward(x):
        eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        weight = norm.weight + (0.0 if hasattr(norm, "variance_epsilon") else 1.0)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight

    return forward


def pair(random_policy, name):
    """A policy with packed tokens and its plain twin, in float64, with equal weights that are not at their start."""
    architecture, fields = MODELS[name]
    fast = random_policy(architecture, **fields)
    assert fast.packed_model is not None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in fast.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    twin = random_policy(architecture, plain=True, **fields)  # its attention is still transformers'
    twin.model.load_state_dict(fast.model.state_dict())
    assert twin.model.config._attn_implementation != fast.model.config._attn_implementation
    assert twin.packed_model is None
    for policy in (fast, twin):
        policy.model.double()
        for module in policy.model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = in_float64(module)
    return fast, twin


def make_batch(vocabulary, prompts=(5, 9, 3), completions=(7, 1, 12, 4, 4, 4, 30, 2, 6), pad=0, seed=0) -> GroupBatch:
    """Random tokens; lengths are those of the prompts and of all completions."""
    generator = torch.Generator().manual_seed(seed)
    size = len(completions) // len(prompts)

    def padded(lengths, side):
        rows = [torch.randint(vocabulary, (n,), generator=generator) for n in lengths]
        pad_rows = torch.nn.utils.rnn.pad_sequence
        ids = pad_rows(rows, batch_first=True, padding_value=pad, padding_side=side)
        return ids, pad_rows([torch.ones_like(row) for row in rows], batch_first=True, padding_side=side)

    prompt_ids, prompt_mask = padded(prompts, "left")
    completion_ids, completion_mask = padded(completions, "right")
    zeros = torch.zeros(completion_ids.shape)
    return GroupBatch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=completion_ids,
        completion_mask=completion_mask,
        action_mask=completion_mask,
        sampler_logprobs=zeros,
        old_logprobs=zeros,
        ref_logprobs=None,
        rewards=torch.zeros(len(prompts), size),
        advantages=torch.zeros(len(prompts), size),
        total_sequences=len(completions),
        total_tokens=sum(completions),
    )


def assert_equal(fast, twin, batch, temperature=1.0, tolerance=1e-9):
    """Log-probabilities, and the gradient of a sum of them with weights of either sign."""
    mask = batch.completion_mask.bool()
    weights = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * mask
    results = []
    for policy in (fast, twin):
        policy.model.zero_grad()
        logprobs = policy.logprobs(batch, temperature)
        assert logprobs.dtype == torch.float64
        (logprobs * weights).sum().backward()
        results.append((logprobs.detach(), {name: p.grad for name, p in policy.trainable_parameters()}))
    (found, gradients), (expected, expected_gradients) = results
    assert ((found - expected)[mask].norm() / expected[mask].norm()).item() < tolerance
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        expected = expected_gradients[name]
        assert gradient is not None, name
        # a key's bias moves all scores of a query alike: its gradient is zero, and what is left is rounding
        scale = max(expected.norm().item(), 1e-3)
        assert (gradient - expected).norm().item() / scale < tolerance, name


@pytest.mark.parametrize("name", MODELS)
def test_logprobs_and_gradients_are_those_of_the_plain_pass(random_policy, name):
    fast, twin = pair(random_policy, name)
    assert_equal(fast, twin, make_batch(fast.model.config.vocab_size))


@pytest.mark.parametrize(
    ("prompts", "completions"),
    [
        ((6, 6), (9, 9, 9, 9)),  # nothing is padded
        ((6, 6), (9, 2, 5, 5)),
        ((6, 2), (5, 5, 5, 5)),
        ((4,), (3, 8, 1)),
        ((1, 1), (1, 1, 1, 1)),  # every completion is one token
        ((7, 3), (1, 1, 1, 5)),
        ((3, 5), (4, 6)),  # groups of one
    ],
)
@pytest.mark.parametrize("name", ["llama", "mistral, window"])
@pytest.mark.parametrize("blocks", ["one", "one a group"])
def test_lengths(random_policy, monkeypatch, name, prompts, completions, blocks):
    if blocks == "one a group":
        monkeypatch.setattr(shared_prefix, "_MASK_ENTRIES", 0)
    fast, twin = pair(random_policy, name)
    assert_equal(fast, twin, make_batch(fast.model.config.vocab_size, prompts, completions))


@pytest.mark.parametrize("temperature", [0.3, 1.7])
def test_temperature(random_policy, temperature):
    fast, twin = pair(random_policy, "llama")
    assert_equal(fast, twin, make_batch(fast.model.config.vocab_size), temperature)


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_padding_on_any_side_of_the_prompt(random_policy, side):
    fast, twin = pair(random_policy, "llama")
    batch = make_batch(fast.model.config.vocab_size, pad=5)
    where = {"left": (4, 0), "right": (0, 4), "both": (2, 3)}[side]
    pad = torch.nn.functional.pad
    wide = replace(
        batch,
        prompt_ids=pad(batch.prompt_ids, where, value=5),
        prompt_mask=pad(batch.prompt_mask, where),
        completion_ids=pad(batch.completion_ids, (0, 3), value=5),
        completion_mask=pad(batch.completion_mask, (0, 3)),
    )
    with torch.no_grad():
        found = fast.logprobs(wide)[:, : batch.completion_ids.shape[1]]
        assert torch.allclose(found, fast.logprobs(batch), atol=1e-12)
    if side == "left":  # the plain pass takes the last column of the prompt for its last token
        assert_equal(fast, twin, wide)


def test_a_padding_token_that_is_read_is_trained(random_policy):
    """torch gives an embedding's padding_idx no gradient; a prompt may hold that token."""
    fast, twin = pair(random_policy, "llama")
    pad = 3
    fast.model.get_input_embeddings().padding_idx = pad
    fast = LanguageModelPolicy(fast.model, fast.tokenizer)
    fast.model.double()
    batch = make_batch(fast.model.config.vocab_size, pad=pad)
    batch.prompt_ids[0, -1] = batch.completion_ids[0, 0] = pad
    assert_equal(fast, twin, batch)
    assert fast.model.get_input_embeddings().weight.grad[pad].ne(0).any()


def test_gradient_checkpointing(random_policy):
    fast, twin = pair(random_policy, "llama")
    batch = make_batch(fast.model.config.vocab_size)
    runs = []
    layer = fast.model.model.layers[0].mlp.down_proj
    forward = layer.forward
    layer.forward = lambda x: runs.append(len(x)) or forward(x)
    fast.model.gradient_checkpointing_enable()
    assert_equal(fast, twin, batch)
    assert len(runs) == 2  # in the forward pass, and again in the backward pass
    fast.model.gradient_checkpointing_disable()
    assert_equal(fast, twin, batch)
    assert len(runs) == 3


def test_gradient_checkpointing_brings_no_dropout(random_policy):
    """OPT drops out in its layers, which gradient checkpointing needs to be told that they train."""
    policy = random_policy("opt", ffn_dim=64, word_embed_proj_dim=32, dropout=0.5)
    assert policy.packed_model is not None
    batch = make_batch(policy.model.config.vocab_size)
    expected = policy.logprobs(batch)
    policy.model.gradient_checkpointing_enable()
    found = policy.logprobs(batch)
    assert torch.equal(found, expected)
    gradients = []
    for logprobs in (expected, found):
        policy.model.zero_grad()
        logprobs[batch.completion_mask.bool()].sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for _, parameter in policy.trainable_parameters()]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-6)
    assert not any(layer.training for layer in policy.model.model.decoder.layers)


@pytest.mark.parametrize("name", ["stablelm", "bloom"])
def test_gradient_checkpointing_acts_in_padded_batches_too(random_policy, name):
    policy = random_policy(name, **({"n_layer": 2, "n_head": 4} if name == "bloom" else {}))
    batch = make_batch(policy.model.config.vocab_size)
    layer = next(module for module in policy.model.modules() if type(module).__name__.endswith("MLP"))
    runs = []
    layer.register_forward_pre_hook(lambda *_: runs.append(1))
    policy.model.gradient_checkpointing_enable()
    policy.logprobs(batch).sum().backward()
    assert len(runs) == 2  # in the forward pass, and again in the backward pass


def test_every_embedding_trains_a_padding_token_that_is_read(random_policy):
    """peft keeps a copy of a module that is trained whole beside adapters."""
    peft = pytest.importorskip("peft")
    made = random_policy("llama")
    pad = 3
    made.model.get_input_embeddings().padding_idx = pad
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"], task_type="CAUSAL_LM")
    policy = LanguageModelPolicy(peft.get_peft_model(made.model, config), made.tokenizer)
    batch = make_batch(made.model.config.vocab_size)
    batch.prompt_ids[0, -1] = pad
    policy.logprobs(batch)[batch.completion_mask.bool()].sum().backward()
    [gradient] = [p.grad for name, p in policy.trainable_parameters() if "embed_tokens" in name]
    assert gradient[pad].ne(0).any()


def test_a_model_that_drops_keywords_is_padded_where_layers_are_computed_again(random_policy):
    """There, in the backward pass, nothing tells attention what the tokens belong to."""
    policy = random_policy("stablelm")
    assert policy.packed_model is not None
    batch = make_batch(policy.model.config.vocab_size)
    mask = batch.completion_mask.bool()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            policy.model.gradient_checkpointing_enable()
        assert policy.packed_model.has_gradient != checkpointing
        policy.model.zero_grad()
        policy.logprobs(batch)[mask].sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for _, parameter in policy.trainable_parameters()]))
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("has_adapters", [False, True])
def test_gradient_checkpointing_may_be_on_before_there_is_a_policy(random_policy, has_adapters):
    """transformers then leaves a hook on the embedding, which changes no number."""
    model, tokenizer = random_policy("llama").model, random_policy("llama").tokenizer
    if has_adapters:
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    batch = make_batch(model.config.vocab_size)
    results = []
    for policy in (LanguageModelPolicy(model, tokenizer), None):
        if policy is None:
            model.gradient_checkpointing_enable()
            policy = LanguageModelPolicy(model, tokenizer)
            assert any(module._forward_hooks for module in model.modules())
        assert policy.packed_model is not None
        policy.model.zero_grad()
        mask = batch.completion_mask.bool()
        logprobs = policy.logprobs(batch)[mask]
        logprobs.sum().backward()
        gradient = torch.cat([parameter.grad.flatten() for _, parameter in policy.trainable_parameters()])
        [[completion]] = StaticCacheEngine(policy).generate([[5, 6]], 1, SamplingParams(9), seed=0)
        results.append((logprobs.detach(), gradient, completion.ids))
    for found, expected in zip(*results, strict=True):
        assert found == expected if isinstance(found, list) else torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["llama, tied", "qwen2", "gemma"])
def test_adapters(random_policy, name):
    peft = pytest.importorskip("peft")
    fast, twin = pair(random_policy, name)
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    for policy in (fast, twin):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            policy.model = peft.get_peft_model(policy.model, config).double()
            for parameter_name, parameter in policy.model.named_parameters():
                if "lora_B" in parameter_name:
                    torch.nn.init.normal_(parameter, std=0.1)
    fast.packed_model = packed_model_of(fast.model)
    batch = make_batch(fast.model.config.vocab_size)
    mask = batch.completion_mask.bool()
    assert_equal(fast, twin, batch)
    reference, expected = fast.reference_logprobs(batch)[mask], twin.reference_logprobs(batch)[mask]
    assert torch.allclose(reference, expected, atol=1e-10)
    assert not torch.allclose(reference, fast.logprobs(batch)[mask], atol=1e-3)


def test_the_frozen_reference_is_packed_too(random_policy):
    fast, twin = pair(random_policy, "llama")
    batch = make_batch(fast.model.config.vocab_size)
    for policy in (fast, twin):
        policy.freeze_reference()
    for module in (*fast.reference.modules(), *twin.reference.modules()):
        if isinstance(module, LlamaRMSNorm | GemmaRMSNorm):
            module.forward = in_float64(module)
    with torch.no_grad():
        for policy in (fast, twin):
            for _, parameter in policy.trainable_parameters():
                parameter.mul_(1.1)
    mask = batch.completion_mask.bool()
    reference = fast.reference_logprobs(batch)
    assert torch.allclose(reference[mask], twin.reference_logprobs(batch)[mask], atol=1e-10)
    assert not torch.allclose(reference[mask], fast.logprobs(batch)[mask], atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lower_precisions_are_near(random_policy, precision):
    exact, _ = pair(random_policy, "llama")
    batch = make_batch(exact.model.config.vocab_size)
    with torch.no_grad():
        expected = exact.logprobs(batch)
        policy = LanguageModelPolicy(exact.model.float(), exact.tokenizer, precision=precision)
        found = policy.logprobs(batch)
    error = ((found - expected).norm() / expected.norm()).item()
    assert found.dtype == torch.float32
    assert error < (1e-5 if precision == "float32" else 3e-2)
    assert precision == "float32" or error > 1e-5  # it did compute in bfloat16


@pytest.mark.parametrize(("name", "fields"), [("bloom", {"n_layer": 2, "n_head": 4}), ("mamba", {"state_size": 4})])
def test_other_architectures_take_the_plain_pass_and_one_message_says_so(random_policy, caplog, name, fields):
    with caplog.at_level(logging.WARNING):
        policy = random_policy(name, **fields)
        batch = make_batch(100)
        policy.logprobs(batch)
        policy.logprobs(batch)
    assert policy.packed_model is None
    assert len([record for record in caplog.records if "padded batches" in record.getMessage()]) == 1


def change_head(model):
    model.lm_head = torch.nn.Sequential(model.lm_head)


def change_rope(model):
    model.model.rotary_emb.rope_type = "dynamic"


def change_logits(model):
    forward = model.forward

    def scaled(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output

    model.forward = scaled


def change_attention(model, share=0.5):
    """Something that is there for packed tokens alone."""
    forward = model.model.layers[1].self_attn.forward

    def changed(*args, **kwargs):
        output, weights = forward(*args, **kwargs)
        return output + (share * output.roll(1, -1) if kwargs.get(KEYWORD) else 0.0), weights

    model.model.layers[1].self_attn.forward = changed


def change_forward(model):
    def broken(*args, **kwargs):
        raise RuntimeError("no kernel for this")

    model.forward = broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_head, "Sequential"),
        (change_forward, "RuntimeError: no kernel for this"),
        (change_rope, "dynamic"),
        (change_logits, "its logits are more"),
        (change_attention, "relative difference"),
    ],
)
def test_what_packed_tokens_would_not_follow_is_refused(micro_policy, change, message):
    change(micro_policy.model)
    with pytest.raises(UnsupportedModel, match=message):
        packed_model_of(micro_policy.model)


def hook(model):
    model.model.layers[0].register_forward_hook(lambda module, inputs, output: output * 1.1)


def other_norm(model):
    model.model.norm = torch.nn.LayerNorm(32, dtype=torch.float64)


def other_code(model):
    forward = model.model.layers[1].mlp.forward
    model.model.layers[1].mlp.forward = lambda x: 2 * forward(x)


@pytest.mark.parametrize("change", [hook, other_norm, other_code])
def test_a_changed_model_computes_what_it_was_changed_to(random_policy, change):
    fast, twin = pair(random_policy, "llama")
    for policy in (fast, twin):
        change(policy.model)
    assert_equal(fast, twin, make_batch(fast.model.config.vocab_size))


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "gemma", "gemma3_text"])
def test_models_of_low_precision_are_compared_without_its_rounding(random_policy, name):
    """Of real models it makes differences of several percent, as large as those of a changed model."""
    model = random_policy(name).model
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(15)
    model.to(torch.bfloat16)
    ids = torch.arange(6)
    with torch.no_grad():
        rounded = model.model(input_ids=ids[None], use_cache=False).last_hidden_state[0].double()
        exact = copy.deepcopy(model).float().model(input_ids=ids[None], use_cache=False).last_hidden_state[0].double()
    assert (rounded - exact).norm() / exact.norm() > 5e-3
    packed_model_of(model)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    change_attention(model, share=0.02)
    with pytest.raises(UnsupportedModel, match=r"relative difference \d\.\de-0[123]"):
        packed_model_of(model)


def test_the_comparison_leaves_the_precision_of_products_as_it_was(micro_policy):
    try:
        torch.set_float32_matmul_precision("high")
        packed_model_of(micro_policy.model)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_gradient_repeats_with_several_threads():
    policy = load_policy("builtin/tiny")
    batch = make_batch(40, prompts=(8,), completions=(2,) * 1024)  # all add to the gradient of one token
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(4):
            policy.model.zero_grad()
            policy.logprobs(batch, 1.0).sum().backward()
            gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
