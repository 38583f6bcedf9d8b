"""One of two processes of gloo; `test_distributed.py` starts them. What they compute must be what one process does."""

from __future__ import annotations

import sys
from unittest import mock

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agents import GRPOAgent, GRPOConfig, LanguageModelPolicy
from agents.distributed import Ranks, whole
from agents.objectives import PRESETS
from agents.policies import load_policy
from agents.rollout import Completion, Rollout

G = 4
CONFIG = GRPOConfig(prompts_per_update=6, group_size=G, micro_batch_size=G, epochs=1, minibatches=2)


TOKENIZER = load_policy("builtin/tiny").tokenizer


def make_policy(tied: bool, lora: bool, checkpointing: bool) -> LanguageModelPolicy:
    tokenizer = TOKENIZER
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    if checkpointing:
        model.gradient_checkpointing_enable()
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights="gaussian"))
        with torch.no_grad():  # both factors, or a half of the gradients would be zero
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
    return LanguageModelPolicy(model, tokenizer, name="random")


def rollouts() -> list[Rollout]:
    """Six groups of unlike sizes; the rewards of two of them do not differ."""
    rng = np.random.default_rng(0)
    found = []
    for group, size in enumerate([3, 30, 5, 4, 17, 6]):
        prompt = rng.integers(5, 50, size=4 + group).tolist()
        for i in range(G):
            ids = rng.integers(5, 50, size=size + i).tolist()
            written = Completion(ids, (-rng.random(len(ids)) - 3).tolist(), truncated=False)
            reward = 1.0 if group in (1, 3) else float(i % 2) * (group + 1)
            found.append(Rollout(group, "", prompt, written, "", reward, "", None, None))
    return found


def gradients(objective: str, parallel: str, **model: bool) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The whole gradients of both optimizer steps, and the figures of the update."""
    agent = GRPOAgent(
        make_policy(**model), "llm_envs/Arithmetic-v0", objective=PRESETS[objective](), config=CONFIG, parallel=parallel
    )
    found: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        step = len(found)
        for name, parameter in agent._parameters.items():
            assert parameter.grad is not None, (objective, parallel, model, name)
            found[f"{step} {name}"] = whole(parameter.grad).clone()

    agent.optimizer.register_step_pre_hook(keep)
    with torch.no_grad():  # a policy that has moved away from its reference
        for parameter in agent._parameters.values():
            parameter.mul_(1.05)
    figures = agent._optimize(agent._make_batch(rollouts()), learning_rate=0.0)
    return found, figures


def main() -> None:
    torch.set_num_threads(1)
    ranks = Ranks.current()
    assert ranks.size == 2
    for objective, parallel, model in cases():
        with mock.patch.object(Ranks, "current", return_value=Ranks()):
            expected, figures_of_one = gradients(objective, "auto", **model)
        found, figures = gradients(objective, parallel, **model)
        assert found.keys() == expected.keys()
        largest = max(gradient.abs().max().item() for gradient in expected.values())
        assert largest > 1e-3
        for name, gradient in found.items():
            difference = (gradient - expected[name]).abs().max().item()
            assert difference < 1e-6 * largest, (objective, parallel, model, name, difference / largest)
        assert figures.keys() == figures_of_one.keys()
        for name, value in figures.items():
            assert abs(value - figures_of_one[name]) <= 1e-5 * (1 + abs(value)), (name, value, figures_of_one[name])


def cases() -> list[tuple[str, str, dict[str, bool]]]:
    plain = {"tied": True, "lora": False, "checkpointing": False}
    return [
        (objective, parallel, plain | changed)
        for parallel in ("ddp", "fsdp2")
        for objective, changed in (
            ("grpo", {}),  # with a KL penalty
            ("dapo", {"tied": False}),
            ("reinforce++", {}),  # advantages of the whole batch
            ("grpo", {"lora": True}),
            ("gspo", {"checkpointing": True}),
        )
    ]


if __name__ == "__main__":
    main()
    print("equal", sys.argv[1:])
