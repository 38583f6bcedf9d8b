"""Several processes that train one model: what each of them computes, and what they tell each other.

All ranks run the same program with the same random numbers. Each plays the episodes of its share of the prompts; then
every rank gets all rollouts. Advantages, divisors, the order of minibatches and every decision are computed from this
global batch, on each rank in the same way, as one process would. Only rollouts and forward and backward passes are
divided. The passes run under PyTorch's own engines: `DistributedDataParallel` or `fully_shard`.

Programs are started by `torchrun`, `accelerate launch` or Slurm's `srun`. No other module knows ranks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from agents.policies import LanguageModelPolicy
from agents.rollout import GroupBatch
from agents.validation import checked

T = TypeVar("T")
Parallel = Literal["auto", "ddp", "fsdp2"]

# rollouts and rewards of one rank may take much longer than those of another
_TIMEOUT = timedelta(hours=4)
# bytes for each parameter: float32 weight, gradient and two moments of AdamW
_BYTES_PER_PARAMETER = 16
# share of a GPU's memory that they may take; activations and the cache of rollouts need the rest
_SHARE_OF_MEMORY = 0.5


class NotDistributed(RuntimeError):
    """Several processes were asked for, and this one is alone."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run; without `torchrun` there is one, and everything here does nothing.

    Attributes:
        rank: The number of this process.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Those that were started together with this process; joins them first where that has not been done.

        Raises:
            NotDistributed: Several processes were asked for, and this one was told of no others.
        """
        if not dist.is_initialized():
            _join()
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of a sequence; the parts of all ranks, one behind the other, are the whole."""
        bounds = [len(items) * rank // self.size for rank in (self.rank, self.rank + 1)]
        return items[bounds[0] : bounds[1]]

    def gather(self, items: list[T]) -> list[T]:
        """The lists of all ranks, one behind the other."""
        if self.size == 1:
            return items
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def of_first(self, value: T) -> T:
        """What rank 0 has."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def first_that_is(self, value: T | None) -> T | None:
        """What the first rank has that has something other than None."""
        return next((found for found in self.gather([value]) if found is not None), None)

    def any(self, flag: bool) -> bool:
        """Whether it is true on one of the ranks."""
        return any(self.gather([flag]))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks of tensors of one shape, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def sum_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The sums over ranks of named numbers, in the order of the ranks."""
        total: dict[str, float] = {}
        for part in self.gather([dict(figures)]):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def micro_batches(
        self, groups: Tensor, tokens: Sequence[int], fits: Callable[[Sequence[int]], bool]
    ) -> list[Tensor | None]:
        """This rank's micro-batches of the groups of an optimizer step.

        Every rank gets about as many tokens, and the same number of micro-batches, so that none waits for another.

        Args:
            groups: (K,) indices of groups; those of one rank keep their order.
            tokens: Of each of the K groups.
            fits: Whether a micro-batch may hold these groups together (positions in `groups`); one always may.

        Returns:
            Indices of groups, in parts; None where this rank has nothing more to compute and others have.
        """
        if self.size == 1:
            return [groups[part] for part in _parts(range(len(groups)), fits)]
        loads = [0] * self.size
        mine: list[list[int]] = [[] for _ in loads]
        for i in sorted(range(len(groups)), key=lambda i: (-tokens[i], i)):
            least = min(range(self.size), key=lambda rank: (loads[rank], rank))
            loads[least] += tokens[i]
            mine[least].append(i)
        of_ranks = [_parts(sorted(part), fits) for part in mine]
        own: list[Tensor | None] = [groups[part] for part in of_ranks[self.rank]]
        return own + [None] * (max(map(len, of_ranks)) - len(own))


def _parts(items: Iterable[int], fits: Callable[[Sequence[int]], bool]) -> list[list[int]]:
    """Numbers in their order, in parts that are as long as fits; a part has one at least."""
    parts: list[list[int]] = []
    for item in items:
        if parts and fits([*parts[-1], item]):
            parts[-1].append(item)
        else:
            parts.append([item])
    return parts


def _join() -> None:
    """Join the process group that a launcher has prepared, if one has.

    Raises:
        NotDistributed: There are several processes, and nothing says how they reach each other (`Ranks.current`).
    """
    if "RANK" not in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        _take_slurms_numbers()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ:
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
        # nobody destroys the group: DDP's reducer would be its last owner, and free it while it holds Python's lock,
        # which gloo's threads wait for (seen to hang at the end of 1 in 10 programs)
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
        return
    # `accelerate launch --cpu --num_processes 2` tells its one process where the first is, and of no others
    if "MASTER_ADDR" in os.environ and "ACCELERATE_MIXED_PRECISION" in os.environ and "RANK" not in os.environ:
        raise NotDistributed(
            "accelerate was asked for several processes and started one: with --cpu it needs MPI for more. Use "
            "torchrun --nproc-per-node N -m agents.cli train ..."
        )


def _take_slurms_numbers() -> None:
    """Put what `srun` says of this process where `torchrun` would.

    The first host of the step is the one that the others connect to, at a port that depends on the job.
    """
    hosts = os.environ["SLURM_STEP_NODELIST"]
    found = subprocess.run(["scontrol", "show", "hostnames", hosts], check=True, capture_output=True, text=True)
    os.environ.setdefault("MASTER_ADDR", found.stdout.split()[0])
    os.environ.setdefault("MASTER_PORT", str(20_000 + int(os.environ["SLURM_JOB_ID"]) % 10_000))
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_STEP_NUM_TASKS"]
    os.environ["LOCAL_WORLD_SIZE"] = str(_tasks_of_host(os.environ["SLURM_STEP_TASKS_PER_NODE"]))


def _tasks_of_host(counts: str) -> int:
    """How many tasks of the step this host has, from Slurm's list such as `4(x2),3`: two hosts with 4, one with 3."""
    found: list[int] = []
    for part in counts.split(","):
        count, _, times = part.partition("(x")
        found += [int(count)] * int(times.rstrip(")") or 1)
    return found[int(os.environ.get("SLURM_NODEID", 0))]


def local_rank() -> int:
    """The number of this process among those of its host."""
    return int(os.environ.get("LOCAL_RANK", 0))


def is_first_to_say(text: str) -> bool:
    """Whether no other process of the run has said this; of what all of them have to say, one does.

    Where the others cannot be asked, because this process has not joined them yet, it is rank 0.
    """
    if not dist.is_initialized():
        return os.environ.get("RANK", "0") == "0"
    try:
        return bool(dist.distributed_c10d._get_default_store().add(f"llm-envs said {text}", 1) == 1)
    except RuntimeError:  # the process that keeps the list has ended
        return True


class Passes:
    """The forward and backward passes of a policy, by one process or divided over ranks.

    Args:
        policy: Its model is wrapped; with `fsdp2` its parameters are sharded from now on.
        ranks: The processes.
        parallel: `"ddp"`, every rank has the whole model; `"fsdp2"`, weights, gradients and moments are sharded
            (`fully_shard` on each layer); `"auto"` is `fsdp2` where they would take more than half of a GPU.
        cpu_offload: Whether sharded parameters, gradients and moments stay in the memory of the host; `"auto"` is then
            `fsdp2`.

    Raises:
        ValueError: There is no such way, or one process alone was to shard, or `ddp` was to offload.
    """

    def __init__(
        self, policy: LanguageModelPolicy, ranks: Ranks, parallel: Parallel = "auto", cpu_offload: bool = False
    ) -> None:
        self._ranks = ranks
        self._policy = policy
        self._scores: Any = None
        self._reference: nn.Module | None = None
        checked("parallel", parallel, Parallel)
        if ranks.is_first:
            _warn_of_accelerate(policy)
        if cpu_offload and parallel == "ddp":
            raise ValueError("cpu_offload=True is of parallel='fsdp2'; with 'ddp' every process keeps the whole model")
        if ranks.size == 1:
            if parallel == "fsdp2" or cpu_offload:
                asked = "parallel='fsdp2'" if parallel == "fsdp2" else "cpu_offload=True"
                raise ValueError(f"{asked} shards over several processes, and this is one: start it by torchrun")
            return
        self._scores = _Scores(policy.model, policy.logprobs)
        if policy.reference is not None:
            self._reference = _Scores(policy.reference, policy.reference_logprobs)
        if _resolved("fsdp2" if cpu_offload else parallel, policy) == "ddp":
            self._scores = DistributedDataParallel(self._scores)
        else:
            if (reason := _why_not_sharded(policy)) is not None:
                raise ValueError(f"parallel='fsdp2' {reason}: use parallel='ddp'")
            for scores in filter(None, (self._scores, self._reference)):
                _shard(scores, policy, cpu_offload)

    def logprobs(self, batch: GroupBatch, temperature: float) -> Tensor:
        """(N, T) log-probabilities of the completion tokens, with gradient; every rank has to call it as often."""
        compute = self._policy.logprobs if self._scores is None else self._scores
        logprobs: Tensor = compute(batch, temperature)
        return logprobs

    def reference_logprobs(self, batch: GroupBatch, temperature: float) -> Tensor:
        """(N, T) log-probabilities under the frozen reference, without gradient; every rank has to call it as often."""
        if self._scores is None:
            return self._policy.reference_logprobs(batch, temperature)
        scores, without_adapters = self._reference, contextlib.nullcontext()
        if scores is None:
            scores, without_adapters = self._scores, self._policy.model.disable_adapter()
        with torch.no_grad(), without_adapters:
            logprobs: Tensor = scores(batch, temperature)
        return logprobs

    @contextlib.contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward pass of a micro-batch; the last one of a step adds up the ranks' gradients."""
        if isinstance(self._scores, DistributedDataParallel) and not last:
            with self._scores.no_sync():
                yield
            return
        if isinstance(self._scores, FSDPModule):
            self._scores.set_requires_gradient_sync(last)
        yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's part of the loss; the engines average over ranks, and here it is a sum."""
        (loss * self._ranks.size).backward()

    @contextlib.contextmanager
    def whole_weights(self) -> Iterator[None]:
        """Every rank has all weights while it generates: then ranks may take different numbers of steps."""
        modules = [] if self._scores is None else self._scores.modules()
        sharded = [module for module in modules if isinstance(module, FSDPModule)]
        for module in sharded:
            module.set_reshard_after_forward(False)
            module.unshard()
        try:
            yield
        finally:
            for module in sharded:
                module.reshard()
                module.set_reshard_after_forward(module is not self._scores)


class _Scores(nn.Module):
    """Log-probabilities as the forward pass of a module, which is what PyTorch's engines wrap."""

    def __init__(self, model: nn.Module, logprobs: Any) -> None:
        super().__init__()
        self.model = model
        self._logprobs = logprobs

    def prepare(self) -> None:
        """Nothing by itself; a call of the module, for engines that get ready at the first one."""

    def forward(self, batch: GroupBatch, temperature: float) -> Tensor:
        logprobs: Tensor = self._logprobs(batch, temperature)
        return logprobs.clone()  # FSDP2 warns of views


def _resolved(parallel: Parallel, policy: LanguageModelPolicy) -> Literal["ddp", "fsdp2"]:
    if parallel != "auto":
        return parallel
    if policy.device.type != "cuda" or _why_not_sharded(policy) is not None:
        return "ddp"
    needed = sum(
        p.numel() * (_BYTES_PER_PARAMETER if p.requires_grad else p.element_size()) for p in policy.model.parameters()
    )
    available = torch.cuda.get_device_properties(policy.device).total_memory
    return "fsdp2" if needed > _SHARE_OF_MEMORY * available else "ddp"


def _why_not_sharded(policy: LanguageModelPolicy) -> str | None:
    """What about a policy cannot be sharded; None where all can."""
    if policy.load_in is not None:
        return f"cannot shard a model of load_in={policy.load_in!r}"
    if any(parameter.dtype == torch.bfloat16 for _, parameter in policy.trainable_parameters()):
        return "shards float32 weights, not weights_dtype='bfloat16'"
    if policy.has_reference_elsewhere:
        return "shards the reference beside the policy, not on reference_device='cpu'"
    return None


def _shard(scores: Any, policy: LanguageModelPolicy, cpu_offload: bool) -> None:
    """Shard each layer by itself, and what is left of the model with the module that is called."""
    narrow = policy.precision == "bfloat16"
    precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if narrow else MixedPrecisionPolicy()
    pinned = policy.device.type == "cuda"  # memory that a GPU can read; without one there is none
    offload = CPUOffloadPolicy(pin_memory=pinned) if cpu_offload else OffloadPolicy()
    for layer in _layers(scores):
        fully_shard(layer, mp_policy=precision, offload_policy=offload)
    fully_shard(scores, mp_policy=precision, offload_policy=offload)
    # the first module that is called becomes the root of the others: this one, and not the first layer of a rollout
    register_fsdp_forward_method(scores, "prepare")
    scores.prepare()
    scores.reshard()


def _warn_of_accelerate(policy: LanguageModelPolicy) -> None:
    """Say that what `accelerate launch` was asked for is not what divides the work here, or what it computes in."""
    variables = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}
    variables |= {
        "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
        "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config",
    }
    for variable, asked in variables.items():
        if os.environ.get(variable, "false").lower() == "true":
            warnings.warn(
                f"accelerate was asked for {asked}, which has no effect here: parallel= says how processes divide the "
                "work (--parallel auto, ddp or fsdp2)",
                stacklevel=4,
            )
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", "None", "bf16" if policy.precision == "bfloat16" else "no"):
        warnings.warn(
            f"accelerate was asked for mixed precision {asked}, which has no effect here: this policy computes in "
            f"{policy.precision}; precision= (--precision) chooses",
            stacklevel=4,
        )


def _layers(scores: nn.Module) -> list[nn.Module]:
    """The decoder layers: the modules of the longest list."""
    lists = [module for module in scores.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=lambda module: sum(p.numel() for p in module.parameters()), default=[]))


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, whole on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process has a part of it alone."""
    return isinstance(tensor, DTensor)


def whole_on_first(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, whole in the memory of rank 0's host; every rank has to call it.

    One that was sharded is empty on the other ranks: they write nothing, and would fill their hosts.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    found = tensor.full_tensor()
    return found.cpu() if dist.get_rank() == 0 else torch.empty(0, dtype=found.dtype)


def whole_state(model: nn.Module, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """The weights of a sharded model, or those of some names, see `whole_on_first`."""
    state = model.state_dict()
    return {name: whole_on_first(tensor) for name, tensor in state.items() if names is None or name in names}


def sharded_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, such as a moment of AdamW, as its parameter lies."""
    value = value.to(parameter.device)
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)
    return value
