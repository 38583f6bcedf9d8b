"""Fixtures: a language model small enough for every test, made here and not downloaded."""

from __future__ import annotations

import copy
import os
from functools import cache

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings
from transformers import AutoConfig, AutoModelForCausalLM

import llm_envs  # noqa: F401  (registers the tasks)
from agents.policies import LanguageModelPolicy, load_policy

settings.register_profile("fuzz", max_examples=100_000, deadline=None)


@pytest.fixture(autouse=True)
def one_thread():
    """Tests run side by side; threads of one would take the cores of another."""
    torch.set_num_threads(1)


@cache
def _tokenizer():
    return load_policy("builtin/tiny").tokenizer


def make_random_policy(architecture: str, *, plain: bool = False, **extra) -> LanguageModelPolicy:
    """A randomly initialized two-layer model with the tokenizer of builtin/tiny: real code paths in milliseconds."""
    tokenizer = copy.deepcopy(_tokenizer())  # reading it takes most of a policy's time
    fields = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(architecture, **{**fields, **extra})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        return LanguageModelPolicy(model, tokenizer, name=architecture, plain=plain)


@pytest.fixture
def random_policy():
    """A function that makes a policy of a given architecture."""
    return make_random_policy


@pytest.fixture
def micro_policy() -> LanguageModelPolicy:
    """A small random Llama."""
    return make_random_policy("llama")
