"""GRPO steps of ours on a given piece of work, timed, and what this machine could do at best.

Only public names of the packages are used, and of those only what older commits have too, so that `grpo_step.py
--against` can run this file with the packages of another checkout.

The limit of a step is the time that its matrix products take at the rate measured for large products in the same
process, or that reading its weights takes at the rate measured for memory, whichever is longer. Everything else
(attention, norms, sampling, the optimizer, Python) counts as nothing there, so no program reaches it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from agents import GRPO, GRPOAgent, GRPOConfig, LanguageModelPolicy
from agents.rollout import Completion
from llm_envs import Problem, register_task
from rewards import Outcome, RewardResult

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
    """The update learns from completions cut to lengths spread evenly from 1 to completion_tokens."""
    kl_coef: float = 0.0
    lora_rank: int | None = None
    """Of adapters on all linear layers, which are then all that is trained."""
    precision: Literal["float32", "bfloat16"] = "float32"
    matmul_precision: Literal["highest", "high"] = "highest"
    """Of float32 products, see torch.set_float32_matmul_precision."""
    path: Path = "fast"
    """fast: the default; plain: padded batches (`LanguageModelPolicy(plain=True)`); generate: those, and transformers'
    generate as rollout."""
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
    """A prompt is a number that names random tokens, and no token ends a completion."""

    prompt_tokens = 0
    end_token_ids = frozenset()  # type: ignore[assignment]

    def encode_prompts(self, prompts: Sequence[str], max_completion_tokens: int = 0, **limits: Any) -> list[list[int]]:
        """`prompt_tokens` random tokens for each prompt."""
        vocabulary = self.model.config.vocab_size
        return [
            torch.randint(vocabulary, (self.prompt_tokens,), generator=torch.Generator().manual_seed(int(n))).tolist()
            for n in prompts
        ]


_names = itertools.count()


class Step:
    """Steps of a `GRPOAgent` on some work, with rewards that alternate.

    Args:
        work: What to do.
        policy: A `Forced` one, on the work's device and in its precision, with `plain` where the work's path says so.
    """

    def __init__(self, work: Work, policy: Forced) -> None:
        self.work = work
        self.policy = policy
        policy.prompt_tokens = work.prompt_tokens
        config = GRPOConfig(
            prompts_per_update=work.prompts,
            group_size=work.group_size,
            epochs=1,
            minibatches=1,
            max_completion_tokens=work.completion_tokens,
            learning_rate=1e-6,
        )
        self._agent = GRPOAgent(policy, _task(), objective=GRPO(kl_coef=work.kl_coef), config=config)
        self._row: dict[str, float] = {}
        self._generate = self._agent.engine.generate if work.path != "generate" else self._by_transformers
        self._agent.engine.generate = self._rollout  # type: ignore[method-assign]

    def run(self) -> dict[str, float]:
        """One step; CPU and wall seconds of rollout and update, and how many tokens were learned from.

        The update is all of the step but the engine's work: environment, reward, loss and optimizer.
        """
        self._row = row = {}
        with timed(row, "step", self.work.device):
            self._agent.learn(self._agent.num_episodes + self.work.prompts * self.work.group_size)
        for clock in ("cpu", "wall"):
            row[f"update_{clock}"] = row.pop(f"step_{clock}") - row[f"rollout_{clock}"]
        row["tokens"] = sum(self.work.lengths)
        return row

    def _rollout(self, *args: Any) -> list[list[Completion]]:
        with timed(self._row, "rollout", self.work.device):
            groups = self._generate(*args)
        lengths = iter(self.work.lengths)
        return [[_cut(completion, next(lengths)) for completion in group] for group in groups]

    def _by_transformers(self, prompts: list[list[int]], *_: Any) -> list[list[Completion]]:
        work = self.work
        ids = torch.tensor(prompts, device=work.device).repeat_interleave(work.group_size, dim=0)
        with self.policy.autocast(), torch.no_grad():
            out = self.policy.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=work.completion_tokens,
                min_new_tokens=work.completion_tokens,
                do_sample=True,
                top_k=0,
                top_p=1.0,
                pad_token_id=0,
            )
        rows = [Completion(row, [-1.0] * len(row), True) for row in out[:, ids.shape[1] :].tolist()]
        return [rows[i : i + work.group_size] for i in range(0, len(rows), work.group_size)]


def _cut(completion: Completion, length: int) -> Completion:
    return replace(completion, ids=completion.ids[:length], logprobs=completion.logprobs[:length])


def _task() -> str:
    """The id of a new task whose prompts are numbers and whose rewards alternate between 0 and 1."""
    name = f"benchmark/Step{next(_names)}-v0"
    scored = itertools.count()

    def alternate(prompts: Any, completions: Sequence[str], references: Any) -> list[RewardResult]:
        return [RewardResult(float(next(scored) % 2), Outcome.SCORED) for _ in completions]

    @register_task(name, reward=alternate)
    def numbers(rng: Any) -> Problem:
        return Problem(str(rng.integers(2**31)), reference="")

    return name


@contextmanager
def timed(row: dict[str, float], name: str, device: str) -> Iterator[None]:
    """CPU seconds and wall seconds of the body."""
    if device != "cpu":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    if device != "cpu":
        torch.cuda.synchronize()
    row[f"{name}_cpu"], row[f"{name}_wall"] = time.process_time() - cpu, time.perf_counter() - wall


def machine_rates(device: str, precision: str) -> dict[str, float]:
    """Rates of this process: products of large matrices, GFLOP/s, and reading memory, GB/s; medians of 9.

    The first is PyTorch's or, where it is faster, that of oneDNN for float32 on a CPU. The second is of a sum over 512
    MiB.
    """
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    rows = 2048 if device == "cpu" else 8192
    a, b = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    memory = torch.ones(2**27, device=device)
    seconds = _seconds(lambda: torch.mm(a, b), device)
    if device == "cpu" and dtype == torch.float32 and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        by_onednn = _seconds(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""), device)
        seconds = min(seconds, by_onednn)
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
