"""One process of `grpo_step.py`: steps of ours on a given piece of work, timed; prints one line of JSON."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import resource
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
import tyro

from agents import GRPO, GRPOAgent, GRPOConfig, load_policy
from agents.engines import CachedEngine, default_engine
from agents.hardware import keep_freed_memory
from agents.policies import LanguageModelPolicy
from agents.rollout import Completion, Rollout, SamplingParams


@dataclass(frozen=True)
class Work:
    """What a step does."""

    model: str = "smollm2"
    prompts: int = 4
    group_size: int = 8
    prompt_tokens: int = 44
    completion_tokens: int = 48
    variable: bool = False
    """Completions end at lengths spread evenly from 1 to completion_tokens, instead of all there."""
    kl_coef: float = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    path: Literal["fast", "plain", "generate"] = "fast"
    """fast: the default; plain: transformers' forward passes; generate: those, and its generate as rollout."""
    steps: int = 3
    device: str = "cpu"


class Forced(LanguageModelPolicy):
    """No token ends a completion."""

    end_token_ids = frozenset()  # type: ignore[assignment]


def main(work: Work) -> None:
    torch.set_num_threads(1)
    if work.device == "cpu" and work.path == "fast":
        keep_freed_memory()  # as the command line does
    loaded = load_policy(work.model, precision=work.precision)
    policy = Forced(
        loaded.model, loaded.tokenizer, device=work.device, precision=work.precision, plain=work.path != "fast"
    )
    config = GRPOConfig(
        prompts_per_update=work.prompts,
        group_size=work.group_size,
        epochs=1,
        minibatches=1,
        max_completion_tokens=work.completion_tokens,
        learning_rate=1e-6,
    )
    engine = default_engine(policy) if work.path == "fast" else CachedEngine(policy)
    agent = GRPOAgent(
        policy, "llm_envs/Arithmetic-v0", objective=GRPO(kl_coef=work.kl_coef), config=config, engine=engine
    )
    generator = torch.Generator().manual_seed(0)
    vocabulary = policy.model.config.vocab_size
    shape = (work.prompts, work.prompt_tokens)
    rows = []
    for _ in range(work.steps):
        prompts = torch.randint(vocabulary, shape, generator=generator).tolist()
        row: dict[str, float] = {}
        with timed(row, "rollout", work.device):
            completions = rollout(work, agent, prompts)
        if work.variable:
            completions = cut(work, completions)
        rollouts = [
            Rollout(0, "", prompts[i // work.group_size], completion, "", float(i % 2), "", None, None)
            for i, completion in enumerate(completions)
        ]
        with timed(row, "update", work.device):
            batch = agent._make_batch(rollouts)
            agent._optimize(batch, 1e-6)
        row["tokens"] = sum(len(completion.ids) for completion in completions)
        rows.append(row)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if work.device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**30
    print(json.dumps({"steps": rows, "peak_gib": peak, "torch": torch.__version__}))


def rollout(work: Work, agent: GRPOAgent, prompts: list[list[int]]) -> list[Completion]:
    if work.path != "generate":
        sampling = SamplingParams(work.completion_tokens)
        groups = agent.engine.generate(prompts, work.group_size, sampling, agent.generator)
        return [completion for group in groups for completion in group]
    ids = torch.tensor(prompts, device=work.device).repeat_interleave(work.group_size, dim=0)
    model = agent.policy.model
    with agent.policy.autocast():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=work.completion_tokens,
            min_new_tokens=work.completion_tokens,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            pad_token_id=0,
        )
    return [Completion(row, [-1.0] * len(row), True) for row in out[:, ids.shape[1] :].tolist()]


def cut(work: Work, completions: list[Completion]) -> list[Completion]:
    """Lengths spread evenly, in an order that mixes them over the groups."""
    n = len(completions)
    lengths = [1 + (i * 7 % n) * (work.completion_tokens - 1) // (n - 1) for i in range(n)]
    return [
        replace(completion, ids=completion.ids[:length], logprobs=completion.logprobs[:length])
        for completion, length in zip(completions, lengths, strict=True)
    ]


@contextmanager
def timed(row: dict[str, float], name: str, device: str):
    """CPU seconds and wall seconds of the body."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    if device != "cpu":
        torch.cuda.synchronize()
    row[f"{name}_cpu"], row[f"{name}_wall"] = time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main(tyro.cli(Work))
