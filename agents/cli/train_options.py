"""The options of `llm-envs train` that every agent has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from agents.cli.options import NO_DEFAULT, Choice, EnvArgs, Flag, OptionalFloat, OptionalInt, OptionalPath
from agents.factory import SB3_AGENTS
from agents.objectives import PRESETS
from agents.policies.chat import ChatFormat
from agents.validation import check_at_least, check_positive

PROG = "llm-envs train"
_AGENTS = (
    f"{', '.join(PRESETS)}; of stable-baselines3: {', '.join(SB3_AGENTS)}. Default: grpo. Its own options, and "
    f"those for large models, several processes and vLLM: {PROG} AGENT --help."
)


@dataclass(frozen=True)
class CommonOptions:
    """Train a language model on a task, and measure what it learned."""

    agent: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(metavar="[AGENT]", help=_AGENTS, help_behavior_hint="")
    ] = "grpo"
    env: str = "llm_envs/Arithmetic-v0"
    """Id of the task."""
    env_args: EnvArgs = ()
    """Its arguments, such as operands=2."""
    policy: str = "builtin/tiny"
    """Hub name, folder or .gguf."""
    total_episodes: int = 11_520
    """Completions to learn from."""
    seed: int = 0
    """Equal seeds repeat a run."""
    run_dir: OptionalPath = None
    """Where results go; else a new folder in runs/."""
    resume: Flag = False
    """Go on with the run in --run-dir."""
    config: OptionalPath = None
    """YAML or JSON, or a run's config.json; typed wins."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Choice] = "auto"
    """auto, float32 or bfloat16."""
    threads: OptionalInt = None
    """CPU threads; else OMP_NUM_THREADS, or by size."""
    engine: Annotated[Literal["auto", "vllm"], Choice] = "auto"
    """What generates: auto or vllm."""
    lora_rank: OptionalInt = None
    """Train low-rank adapters of this rank (needs peft)."""
    eval_problems: int = 200
    """Held-out problems to ask."""
    eval_samples: int = 8
    """Completions of each problem."""
    checkpoint_every: int = 20
    """Updates between two checkpoints."""
    callback: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")] = ()
    """Further callbacks, such as my_module:MyCallback."""
    chat: ChatFormat = field(default_factory=ChatFormat)


@dataclass(frozen=True)
class FurtherOptions:
    """What larger models, several processes, vLLM and slow rewards need; every agent has them."""

    matmul_precision: Annotated[Literal["highest", "high", "medium"], Choice] = "highest"
    """highest, high or medium."""
    weights_dtype: Annotated[Literal["float32", "bfloat16"], Choice] = "float32"
    """Of the weights: float32 or bfloat16."""
    lora_alpha: OptionalFloat = None
    """Scale of adapters; else twice the rank."""
    lora_targets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("all-linear",)
    """Layers with adapters, or all-linear."""
    load_in: Annotated[Literal["4bit"] | None, Choice] = None
    """4bit: the model below adapters (needs bitsandbytes)."""
    gradient_checkpointing: Flag = False
    """Compute layers again in the backward pass."""
    engine_args: EnvArgs = ()
    """vLLM's, such as max_length=2048 memory_share=0.5."""
    server: Annotated[str | None, NO_DEFAULT] = None
    """With vllm, the address of a server that generates."""
    parallel: Annotated[Literal["auto", "ddp", "fsdp2"], Choice] = "auto"
    """Of processes: auto, ddp or fsdp2."""
    cpu_offload: Flag = False
    """With fsdp2, keep weights and moments on the host."""
    reward_deadline: OptionalFloat = 1800.0
    """Seconds for a reward call, or None."""


@dataclass(frozen=True)
class Train(FurtherOptions, CommonOptions):
    """All options of `llm-envs train` that do not belong to an agent."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "total_episodes", "threads", "lora_rank", "eval_problems", "eval_samples")
        check_at_least(self, 1, "checkpoint_every")
        check_at_least(self, 0, "seed")
        if self.engine != "vllm" and (self.server or self.engine_args):
            name = "server" if self.server else "engine_args"
            raise ValueError(f"{name} is for --engine vllm, and the engine is {self.engine}")
        check_positive(self, "reward_deadline", "lora_alpha")
