"""Fixtures: a language model small enough for every test, made here and not downloaded."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import llm_envs  # noqa: F401  (registers the tasks)
from agents.policies import LanguageModelPolicy, load_policy


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side; threads of one would take the cores of another."""
    torch.set_num_threads(1)


@pytest.fixture
def micro_policy() -> LanguageModelPolicy:
    """A randomly initialized two-layer Llama with the tokenizer of builtin/tiny: real code paths in milliseconds."""
    tokenizer = load_policy("builtin/tiny").tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    return LanguageModelPolicy(model, tokenizer, name="micro")
