"""One GRPO step of ours on a given piece of work, timed, and what this machine could do at best.

The limit of a step is the time that its matrix products take at the rate measured for large products in the same
process, or that reading its weights takes at the rate measured for memory, whichever is longer. Everything else
(attention, norms, sampling, the optimizer, Python) counts as nothing there, so no program reaches it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from agents import GRPO, GRPOAgent, GRPOConfig
from agents.engines import CachedEngine, cached, default_engine, static_cache
from agents.engines.completions import GrowingCompletions
from agents.kernels import product
from agents.kernels.rounded import is_rounded
from agents.policies import LanguageModelPolicy
from agents.rollout import Completion, Rollout, SamplingParams

Path = Literal["fast", "plain", "generate"]


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
    lora_rank: int | None = None
    """Of adapters on all linear layers, which are then all that is trained."""
    precision: Literal["float32", "bfloat16"] = "float32"
    matmul_precision: Literal["highest", "high"] = "highest"
    """Of float32 products, see torch.set_float32_matmul_precision."""
    own_products: bool = True
    """Whether to use the products of agents.kernels; without, PyTorch's alone."""
    path: Path = "fast"
    """fast: the default; plain: transformers' forward passes; generate: those, and its generate as rollout."""
    steps: int = 5
    device: str = "cpu"

    @property
    def lengths(self) -> list[int]:
        """Of the completions that are learned from, spread in an order that mixes them over the groups."""
        n = self.prompts * self.group_size
        if not self.variable:
            return [self.completion_tokens] * n
        return [1 + (i * 7 % n) * (self.completion_tokens - 1) // (n - 1) for i in range(n)]


class Forced(LanguageModelPolicy):
    """No token ends a completion."""

    end_token_ids = frozenset()  # type: ignore[assignment]


class Step:
    """Steps of GRPO on some work, with rewards that alternate.

    Args:
        work: What to do.
        policy: A `Forced` one, on the work's device and in its precision.
    """

    def __init__(self, work: Work, policy: LanguageModelPolicy) -> None:
        self.work = work
        self.policy = policy
        config = GRPOConfig(
            prompts_per_update=work.prompts,
            group_size=work.group_size,
            epochs=1,
            minibatches=1,
            max_completion_tokens=work.completion_tokens,
            learning_rate=1e-6,
        )
        engine = default_engine(policy) if work.path == "fast" else CachedEngine(policy)
        objective = GRPO(kl_coef=work.kl_coef)
        self._agent = GRPOAgent(policy, "llm_envs/Arithmetic-v0", objective=objective, config=config, engine=engine)
        self._generator = torch.Generator().manual_seed(0)

    def run(self) -> dict[str, float]:
        """One step; CPU and wall seconds of rollout and update, and how many tokens were learned from."""
        work = self.work
        shape = (work.prompts, work.prompt_tokens)
        prompts = torch.randint(self.policy.model.config.vocab_size, shape, generator=self._generator).tolist()
        row: dict[str, float] = {}
        with timed(row, "rollout", work.device):
            completions = self._rollout(prompts)
        completions = [
            replace(completion, ids=completion.ids[:length], logprobs=completion.logprobs[:length])
            for completion, length in zip(completions, work.lengths, strict=True)
        ]
        rollouts = [
            Rollout(0, "", prompts[i // work.group_size], completion, "", float(i % 2), "", None, None)
            for i, completion in enumerate(completions)
        ]
        with timed(row, "update", work.device):
            self._agent._optimize(self._agent._make_batch(rollouts), 1e-6)
        row["tokens"] = sum(work.lengths)
        return row

    def _rollout(self, prompts: list[list[int]]) -> list[Completion]:
        work, agent = self.work, self._agent
        if work.path != "generate":
            sampling = SamplingParams(work.completion_tokens)
            with ending_at(work.lengths):
                groups = agent.engine.generate(prompts, work.group_size, sampling, agent.generator)
            return [completion for group in groups for completion in group]
        ids = torch.tensor(prompts, device=work.device).repeat_interleave(work.group_size, dim=0)
        with agent.policy.autocast():
            out = agent.policy.model.generate(
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


@contextmanager
def ending_at(lengths: list[int]) -> Iterator[None]:
    """Let completions of our engines end there, in the order of their places, as if they had drawn an end token."""

    class Ending(GrowingCompletions):
        def append(self, ids: list[int], logprobs: list[float]) -> list[int]:
            kept = super().append(ids, logprobs)
            return [line for line in kept if len(self._ids[self.live[line]]) < lengths[self.live[line]]]

    modules = (cached, static_cache)
    for module in modules:
        module.GrowingCompletions = Ending  # type: ignore[misc]
    try:
        yield
    finally:
        for module in modules:
            module.GrowingCompletions = GrowingCompletions  # type: ignore[misc]


@contextmanager
def timed(row: dict[str, float], name: str, device: str) -> Iterator[None]:
    """CPU seconds and wall seconds of the body."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    if device != "cpu":
        torch.cuda.synchronize()
    row[f"{name}_cpu"], row[f"{name}_wall"] = time.process_time() - cpu, time.perf_counter() - wall


def machine_rates(device: str, precision: str) -> dict[str, float]:
    """Rates of this process: products of large matrices, GFLOP/s, and reading memory, GB/s; medians of 9.

    Only large products reach the first rate (PyTorch's or ours, whichever is higher). The second is of a sum over 512
    MiB.
    """
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    rows = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    memory = torch.ones(2**27, device=device)
    seconds = _seconds(lambda: product(a, b), device)
    if not is_rounded(a, b):  # else PyTorch's take minutes
        seconds = min(seconds, _seconds(lambda: torch.mm(a, b), device))
    reading = _seconds(lambda: memory.sum(), device)
    return {"gflops": 2 * rows**3 / seconds / 1e9, "gbytes": memory.numel() * 4 / reading / 1e9}


def _seconds(call: Callable[[], Any], device: str) -> float:
    # waiting for a GPU takes as long as a tenth of reading 512 MiB
    calls = 1 if device == "cpu" else 20
    times = []
    for _ in range(11):
        row: dict[str, float] = {}
        with timed(row, "it", device):
            for _ in range(calls):
                call()
        times.append((row["it_wall"] if device != "cpu" else row["it_cpu"]) / calls)
    return statistics.median(times[2:])


def limits(work: Work, model: Any, rates: dict[str, float]) -> dict[str, float]:
    """Seconds that rollout and update take at least: their matrix products at the rate of products, or their reading.

    An update multiplies each real token with each weight three times (forward, and twice backward, or once where only
    adapters are trained, whose own products count as nothing); prompts count once. A decode step reads all weights once
    for all rows that have not ended.
    """
    model = model if work.lora_rank is None else model.get_base_model()
    head = model.lm_head.weight.numel()
    layers = sum(
        p.numel()
        for name, p in model.model.named_parameters()
        if p.ndim == 2 and "embed" not in name and "lora_" not in name
    )
    n = work.prompts * work.group_size
    prompt_tokens = work.prompts * work.prompt_tokens
    passes = (3 if work.lora_rank is None else 2) + (work.kl_coef > 0)
    learned = 2 * passes * (layers * (prompt_tokens + sum(work.lengths) - n) + head * sum(work.lengths))
    flops, bytes_ = rates["gflops"] * 1e9, rates["gbytes"] * 1e9
    size = 4 if work.precision == "float32" else 2
    rollout = 2 * (layers * prompt_tokens + head * work.prompts) / flops
    for step in range(1, work.completion_tokens):
        rows = sum(length > step for length in work.lengths)
        rollout += max(2 * rows * (layers + head) / flops, size * (layers + head) / bytes_)
    return {"rollout_limit": rollout, "update_limit": learned / flops}
