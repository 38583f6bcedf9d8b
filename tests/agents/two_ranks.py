"""One of two processes; `test_distributed.py` starts them. What they compute must be what one process does.

python two_ranks.py [cuda] [bfloat16]

With `cuda` each process takes a GPU, and NCCL connects them; `tests/gpu` starts them so. With `bfloat16` gradients are
compared as far as that precision goes.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from agents import GRPOAgent, GRPOConfig, LanguageModelPolicy
from agents.distributed import Passes, Ranks, is_sharded, local_rank, whole
from agents.engines.vllm import named_weights
from agents.forward.packed_model import without_adapters
from agents.objectives import PRESETS
from agents.policies import load_policy
from agents.rollout import Completion, Rollout
from llm_envs import Problem, register_task
from rewards import Outcome, RewardResult

G = 4
CONFIG = GRPOConfig(prompts_per_update=6, group_size=G, micro_batch_size=G, epochs=1, minibatches=2)
DEVICE = f"cuda:{local_rank()}" if "cuda" in sys.argv else "cpu"
PRECISION = "bfloat16" if "bfloat16" in sys.argv else "float32"
TOLERANCE = 0.4 if PRECISION == "bfloat16" else 1e-4 if "cuda" in sys.argv else 1e-6
"""Of gradients, as a share of the largest; a GPU adds up in an order of its own.

A gradient that is halved or doubled shows in bfloat16 too.
"""
TIMES = ("seconds_rollout", "seconds_update", "tokens_per_second")


def reward(prompts: list[str], completions: list[str], references: list[str]) -> list[RewardResult]:
    """Pays for texts of some lengths; a prompt with the reference "nothing" has no signal."""
    rewards = [
        float(reference != "nothing" and len(text) % 3 == 0)
        for text, reference in zip(completions, references, strict=True)
    ]
    return [RewardResult(value, Outcome.CORRECT if value else Outcome.WRONG) for value in rewards]


@register_task("test/SomeSignal-v0", reward=reward)
def some_signal(rng: np.random.Generator) -> Problem:
    """Prompts of unlike lengths; one of four is too long for the model, and every other one pays nothing."""
    number = int(rng.integers(100_000))
    words = 300 if number % 4 == 0 else number % 7
    return Problem(f"{number}" + " and" * words, reference="nothing" if number % 2 else "some")


class FixedEngine:
    """Completions that are a function of the prompt and nothing else, whichever rank asks."""

    def __init__(self, policy: LanguageModelPolicy, exact: bool, slow_rank: int | None = None) -> None:
        self.exact_logprobs = exact
        self._vocabulary = len(policy.tokenizer)
        self._is_slow = slow_rank is not None and slow_rank == Ranks.current().rank

    def sync_weights(self, policy: LanguageModelPolicy) -> None:
        pass

    def generate(self, prompt_ids: list[list[int]], group_size: int, sampling: Any, seed: int) -> list[Any]:
        if self._is_slow:
            time.sleep(1.0)
        return [[self._completion(ids, i, sampling) for i in range(group_size)] for ids in prompt_ids]

    def _completion(self, prompt: list[int], index: int, sampling: Any) -> Completion:
        rng = np.random.default_rng([*prompt, index])
        length = int(rng.integers(2, sampling.max_completion_tokens + 4))
        truncated = length > sampling.max_completion_tokens
        ids = rng.integers(5, self._vocabulary, size=min(length, sampling.max_completion_tokens)).tolist()
        return Completion(ids, (-rng.random(len(ids)) - 3).tolist(), truncated=truncated)


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
    return LanguageModelPolicy(model, tokenizer, name="random", device=DEVICE, precision=PRECISION)


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


def gradients(
    objective: str, parallel: str, offload: bool = False, **model: bool
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The whole gradients of both optimizer steps, and the figures of the update."""
    agent = GRPOAgent(
        make_policy(**model),
        "llm_envs/Arithmetic-v0",
        objective=PRESETS[objective](),
        config=CONFIG,
        parallel=parallel,
        cpu_offload=offload,
    )
    found = keep_gradients(agent)
    figures = agent._optimize(agent._make_batch(rollouts()), learning_rate=0.0)
    return found, figures


def whole_update(objective: str, parallel: str, changed: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """The gradients and figures of two updates that draw, play, score and learn, and the prompts that they drew."""
    changed = dict(changed)
    exact, slow_rank = changed.pop("exact", True), changed.pop("slow_rank", None)
    config = replace(CONFIG, max_completion_tokens=10, too_long="skip", learning_rate=1e-6, **changed)
    policy = make_policy(tied=True, lora=False, checkpointing=False)
    policy.model.config.max_position_embeddings = 100
    engine = FixedEngine(policy, exact, slow_rank)
    made = PRESETS[objective]()
    agent = GRPOAgent(policy, "test/SomeSignal-v0", objective=made, config=config, parallel=parallel, engine=engine)
    found: dict[str, Any] = keep_gradients(agent)
    figures: dict[str, float] = {}
    for _ in range(2):
        record = agent._update(1000)
        update = f"update {record.update}"
        found[f"{update}: prompts"] = [(rollout.seed, rollout.prompt, rollout.text) for rollout in record.rollouts]
        figures |= {f"{update}: {name}": value for name, value in record.metrics.items() if name not in TIMES}
    return found, figures


def keep_gradients(agent: GRPOAgent) -> dict[str, torch.Tensor]:
    """A dictionary that gets the whole gradients of each optimizer step; the policy is moved from its reference."""
    found: dict[str, torch.Tensor] = {}

    def keep(*_: object) -> None:
        step = len(found)
        for name, parameter in agent._parameters.items():
            assert parameter.grad is not None, name
            found[f"{step} {name}"] = whole(parameter.grad).clone()

    agent.optimizer.register_step_pre_hook(keep)
    with torch.no_grad():
        for parameter in agent._parameters.values():
            parameter.mul_(1.05)
    return found


def check_weights_for_vllm(ranks: Ranks) -> None:
    """Those of a sharded policy, gathered one after the other, are those of the whole one."""
    for model in ({"tied": True, "lora": False}, {"tied": False, "lora": False}, {"tied": True, "lora": True}):
        policy = make_policy(**model, checkpointing=False)
        expected = {name: tensor.clone() for name, tensor in named_weights(without_adapters(policy.model))}
        Passes(policy, ranks, "fsdp2")
        found = dict(named_weights(without_adapters(policy.model)))
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            assert not is_sharded(tensor)
            assert (tensor - expected[name]).abs().max() <= 1e-7 * model["lora"], (model, name)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error", UserWarning)
    ranks = Ranks.current()
    assert ranks.size == 2
    check_weights_for_vllm(ranks)
    for objective, parallel, model in cases():
        with mock.patch.object(Ranks, "current", return_value=Ranks()):
            expected = gradients(objective, "auto", **{**model, "offload": False})
        check_equal(gradients(objective, parallel, **model), expected, (objective, parallel, model))
    for objective, changed in updates() if PRECISION == "float32" else []:
        with mock.patch.object(Ranks, "current", return_value=Ranks()):
            expected = whole_update(objective, "auto", changed)
        assert any(value > 0 for name, value in expected[1].items() if "prompts_skipped" in name)
        refilled = [value for name, value in expected[1].items() if "groups_sampled" in name]
        assert max(refilled, default=7) > 6, "no batch was sampled again"
        for parallel in ("ddp", "fsdp2"):
            check_equal(whole_update(objective, parallel, changed), expected, (objective, parallel, changed))


def check_equal(found: tuple[dict[str, Any], dict[str, float]], expected: Any, case: object) -> None:
    """Gradients to a share of the largest, figures to ten times that, anything else exactly."""
    gradients, figures = found
    expected_gradients, expected_figures = expected
    assert gradients.keys() == expected_gradients.keys(), (case, gradients.keys() ^ expected_gradients.keys())
    tensors = [gradient for gradient in expected_gradients.values() if isinstance(gradient, torch.Tensor)]
    largest = max(gradient.abs().max().item() for gradient in tensors)
    assert largest > 1e-3, case
    for name, gradient in gradients.items():
        if isinstance(gradient, torch.Tensor):
            difference = (gradient - expected_gradients[name]).abs().max().item()
            assert difference < TOLERANCE * largest, (case, name, difference / largest)
        else:
            assert gradient == expected_gradients[name], (case, name)
    assert figures.keys() == expected_figures.keys(), (case, figures.keys() ^ expected_figures.keys())
    for name, value in figures.items():
        other = expected_figures[name]
        assert abs(value - other) <= 10 * TOLERANCE * (1 + abs(value)), (case, name, value, other)


def cases() -> list[tuple[str, str, dict[str, bool]]]:
    plain = {"tied": True, "lora": False, "checkpointing": False}
    found = [
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
    found.append(("grpo", "fsdp2", plain | {"offload": True}))
    # in bfloat16 the gradients of this model's adapters are mostly rounding, in one process too
    return [case for case in found if PRECISION == "float32" or not case[2]["lora"]]


def updates() -> list[tuple[str, dict[str, Any]]]:
    """Objectives and settings of whole updates; every other group has no signal, and prompts that do not fit go."""
    return [
        ("dapo", {"max_refills": 3, "mask_truncated": True, "minibatches": 3}),
        ("dr-grpo", {"overlong_buffer": 4, "micro_batch_size": 8}),
        ("rloo", {"prompts_per_update": 5, "minibatches": 5, "epochs": 2, "slow_rank": 1}),
        ("gspo", {"exact": False, "minibatches": 1}),
        ("reinforce++", {"exact": False, "max_refills": 1, "minibatches": 3}),
    ]


if __name__ == "__main__":
    main()
    print("equal", sys.argv[1:])
