"""How much memory training takes, estimated before any weight is loaded.

The model is made on PyTorch's device "meta", which has shapes and no numbers. What a layer keeps for the backward pass
is counted there, so that it holds for any architecture.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from agents.distributed import is_sharded
from agents.forward.packed_model import without_adapters
from agents.policies.loading import load_config
from agents.validation import check_at_least, check_types

if TYPE_CHECKING:
    from agents.grpo.agent import GRPOAgent

# what the fused head keeps (agents/forward/head.py): a chunk of logits and its gradient, and softmax values up to this
_CHUNK_BYTES = 2**26
_KEPT_BYTES = 2**29
_FEW_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Estimate the memory that training takes on each device."""

    policy: str = "builtin/tiny"
    """As for train: builtin/tiny, smollm2, a hub name, a local folder or a .gguf file."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the computation."""
    weights_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights; bfloat16 ones have float32 masters and bfloat16 gradients."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw, or adamw8bit, whose moments take 8 bits each."""
    load_in: Literal["4bit"] | None = None
    """4bit for the linear layers below adapters."""
    lora_rank: int | None = None
    """Rank of adapters; without it the whole model is trained."""
    has_reference: bool = True
    """Whether a frozen reference is kept on the device, for a KL penalty; adapters need none."""
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """ddp: each device has everything; fsdp2: weights, gradients and moments are sharded."""
    devices: int = 1
    """How many."""
    gradient_checkpointing: bool = False
    """Whether layers are computed again in the backward pass."""
    prompts: int = 32
    """Problems of an update."""
    group_size: int = 8
    """Completions of each."""
    prompt_tokens: int = 64
    """Of each prompt."""
    completion_tokens: int = 64
    """Of each completion."""
    micro_batch_size: int = 256
    """Completions of a forward and backward pass."""
    micro_batch_tokens: int | None = None
    """Tokens of a pass, in place of micro_batch_size."""

    def __post_init__(self) -> None:
        check_types(self)
        check_at_least(self, 1, "lora_rank", "devices", "prompts", "group_size", "prompt_tokens")
        check_at_least(self, 1, "completion_tokens", "micro_batch_size", "micro_batch_tokens")
        if self.load_in is not None and self.lora_rank is None:
            raise ValueError(f"load_in={self.load_in!r} is for the frozen model below adapters: give lora_rank too")
        if self.weights_dtype == "bfloat16" and self.precision == "float32":
            raise ValueError("weights_dtype='bfloat16' computes in bfloat16, got precision='float32'")
        if self.parallel == "fsdp2" and self.devices > 1:
            narrow = self.weights_dtype == "bfloat16" and self.lora_rank is None
            if narrow or self.load_in is not None or self.optimizer != "adamw":
                raise ValueError(
                    "parallel='fsdp2' shards float32 weights or adapters with AdamW alone, got "
                    f"weights_dtype={self.weights_dtype!r}, load_in={self.load_in!r}, optimizer={self.optimizer!r}"
                )


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on each device, by what they are for; what one phase alone needs is in that phase's dictionary.

    Attributes:
        parameters: Of the model, without adapters.
        trained: Parameters that are trained.
        always: During the whole run.
        rollout: Beside those, while completions are generated.
        update: Beside those, while the policy is updated.
    """

    parameters: int
    trained: int
    always: dict[str, int]
    rollout: dict[str, int]
    update: dict[str, int]

    @property
    def peak(self) -> int:
        """Bytes of the larger phase."""
        return sum(self.always.values()) + max(sum(self.rollout.values()), sum(self.update.values()))


class CannotEstimate(ValueError):
    """A model computes something that takes real numbers, so that what it keeps cannot be counted."""


def estimate_memory(work: Workload, config: Any = None, trained: int | None = None) -> MemoryEstimate:
    """Estimate what each device needs; libraries, fragments of memory and CUDA graphs come on top.

    Args:
        work: What is trained, and how.
        config: The model's, of transformers; None reads that of `work.policy`.
        trained: How many parameters are trained, where that is known.

    Raises:
        CannotEstimate: The model's forward pass needs real numbers.
        PolicyNotFound: There is no such model.
    """
    config = load_config(work.policy) if config is None else config
    model = _on_meta(config, torch.float32)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if trained is None:
        trained = parameters if work.lora_rank is None else _adapter_parameters(model, work.lora_rank)
    shards = work.devices if work.parallel == "fsdp2" else 1
    narrow = 2 if work.precision == "bfloat16" else 4
    # of a number that is trained: its weight, which takes part in the computation, and its gradient
    own = 2 if work.weights_dtype == "bfloat16" and work.lora_rank is None else 4
    weights = own * trained if work.lora_rank is None else 4 * trained + _frozen_bytes(model, narrow, work.load_in)
    moments = 8 if work.optimizer == "adamw" else 2
    always = {"weights": weights // shards, "moments of AdamW": moments * trained // shards}
    if own == 2:
        always["what bfloat16 leaves out"] = 2 * trained // shards
    if work.has_reference and work.lora_rank is None:
        always["reference"] = own * parameters // shards
    completions = -(-work.prompts // work.devices) * work.group_size
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cached = completions * work.completion_tokens + completions // work.group_size * work.prompt_tokens
    rollout = {"keys and values": 2 * narrow * cached * text.num_hidden_layers * heads * width}
    if shards > 1:
        rollout["gathered weights"] = narrow * parameters
    in_pass = min(max(work.micro_batch_size, work.group_size), completions)
    if work.micro_batch_tokens is not None:
        of_group = work.group_size * work.completion_tokens + work.prompt_tokens
        in_pass = min(max(1, work.micro_batch_tokens // of_group) * work.group_size, completions)
    tokens = in_pass * work.completion_tokens + in_pass // work.group_size * work.prompt_tokens
    layer = _kept_per_token(config, narrow)
    hidden = 4 * text.hidden_size
    kept = text.num_hidden_layers * (hidden if work.gradient_checkpointing else layer)
    update = {
        "gradients": own * trained // shards,
        "activations": tokens * kept + (tokens * layer if work.gradient_checkpointing else 0),
        "head": 2 * _CHUNK_BYTES + min(_KEPT_BYTES, 4 * in_pass * work.completion_tokens * text.vocab_size),
    }
    if narrow == 2 and own == 4 and work.lora_rank is None:
        update["weights in bfloat16"] = 2 * parameters // shards
    return MemoryEstimate(parameters, trained, always, rollout, update)


def estimate_of_run(agent: GRPOAgent, prompt_tokens: int) -> MemoryEstimate:
    """Estimate what an agent's training takes on each device.

    Args:
        agent: It has its policy, and has not learned yet.
        prompt_tokens: Of a long prompt of its task.

    Raises:
        CannotEstimate: The model's forward pass needs real numbers.
    """
    policy, config = agent.policy, agent.config
    work = Workload(
        policy=policy.name,
        precision=policy.precision,
        weights_dtype=policy.weights_dtype,
        optimizer=config.optimizer,
        load_in=policy.load_in,
        lora_rank=1 if policy.has_adapters else None,  # the true number of trained parameters is given below
        has_reference=policy.reference is not None and not policy.has_reference_elsewhere,
        parallel="fsdp2" if any(map(is_sharded, policy.model.parameters())) else "ddp",
        devices=agent.ranks.size,
        gradient_checkpointing=policy.gradient_checkpointing,
        prompts=config.prompts_per_update,
        group_size=config.group_size,
        prompt_tokens=prompt_tokens,
        completion_tokens=config.max_completion_tokens,
        micro_batch_size=config.micro_batch_size,
        micro_batch_tokens=config.micro_batch_tokens,
    )
    config_of_model = without_adapters(policy.model).config
    entries = config_of_model.to_dict()  # without the attention that a policy chose
    entries.pop("quantization_config", None)
    trained = sum(parameter.numel() for _, parameter in policy.trainable_parameters())
    return estimate_memory(work, type(config_of_model).from_dict(entries), trained)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process held at most: of a GPU what torch allocated, on a CPU all, libraries included.

    0 where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _on_meta(config: Any, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def _frozen_bytes(model: nn.Module, width: int, load_in: str | None) -> int:
    """Of a model below adapters; 4-bit numbers have a scale of 8 bits for 64 of them, and 4 bytes for 256 scales."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if load_in is None:
        return width * parameters
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    return width * (parameters - linear) + round(linear * (0.5 + 1 / 64 + 4 / (64 * 256)))


def _adapter_parameters(model: nn.Module, rank: int) -> int:
    """Of adapters on all linear layers but the head."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    return rank * sum(layer.in_features + layer.out_features for layer in layers)


def _kept_per_token(config: Any, width: int) -> int:
    """Bytes that a layer keeps of each token for its backward pass: what a second layer adds to those of the first.

    Attention that keeps its scores, as the one of this device may, adds a part that grows with the square of the
    length; packed tokens have none, and two lengths tell the parts apart.
    """
    dtype = torch.bfloat16 if width == 2 else torch.float32
    lengths = (_FEW_TOKENS, 2 * _FEW_TOKENS)
    try:
        short, long = (_kept(config, 2, dtype, tokens) - _kept(config, 1, dtype, tokens) for tokens in lengths)
    except Exception as error:  # of any model's code, which was not written for shapes without numbers
        raise CannotEstimate(
            f"what {config.model_type} keeps for its backward pass cannot be counted without its weights"
        ) from error
    return (4 * short - long) // (2 * _FEW_TOKENS)


def _kept(config: Any, layers: int, dtype: torch.dtype, tokens: int) -> int:
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    model = _on_meta(config, dtype)
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # held, so that no storage is freed and another takes its place
        # a mask of four dimensions is taken as given: making one would need numbers
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device="meta")
        output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    del output
    return sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
