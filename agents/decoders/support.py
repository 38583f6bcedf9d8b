"""Which models have a fast form: by their family, their modules, and a comparison with transformers' forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from agents.decoders.attention import attention
from agents.decoders.llama import Attend, LlamaLikeDecoder

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text")
"""`model_type` of the models that have a fast path."""

# those that change with the longest sequence of the batch make a prompt's keys depend on its completions
_FIXED_ROPE = {"default", "linear", "llama3", "yarn"}
# relative difference of the final hidden states in float32; 1e-6 to 1e-5 where both compute the same
_TOLERANCE = 1e-3


class UnsupportedModel(ValueError):
    """A model has no fast path; the message says why."""


def decoder_of(model: Any) -> LlamaLikeDecoder:
    """The fast form of a causal language model, which may have adapters on its linear layers.

    Raises:
        UnsupportedModel: The model is of another family, was changed, or is not what the fast form computes.
    """
    if hasattr(model, "peft_config"):
        kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in model.peft_config.values()}
        if kinds != {"LORA"}:
            raise UnsupportedModel(f"its adapters are of the kind {', '.join(sorted(kinds))}, not LORA")
        model = model.get_base_model()
    _check(model)
    decoder = LlamaLikeDecoder(model)
    _compare(decoder, model)
    return decoder


def _check(model: Any) -> None:
    """Refuse whatever `LlamaLikeDecoder` would compute differently.

    Raises:
        UnsupportedModel: Says what.
    """
    config = model.config
    family = getattr(config, "model_type", None)
    home = f"transformers.models.{str(family).removesuffix('_text')}.modeling_{str(family).removesuffix('_text')}"
    if family not in FAMILIES or type(model).__module__ != home or not type(model).__name__.endswith("ForCausalLM"):
        raise UnsupportedModel(f"{type(model).__name__} is none of the families {', '.join(FAMILIES)}")
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention"):
        if getattr(config, name, None):
            raise UnsupportedModel(f"its config sets {name}")
    kinds = getattr(model.model.rotary_emb, "rope_type", "default")
    kinds = set(kinds.values()) if isinstance(kinds, dict) else {kinds}
    if not kinds <= _FIXED_ROPE:
        raise UnsupportedModel(f"its rotary embedding is of the kind {', '.join(sorted(kinds - _FIXED_ROPE))}")
    if type(model.lm_head) is not nn.Linear:
        raise UnsupportedModel(f"its head is a {type(model.lm_head).__name__}, not a linear layer")
    for name, module in model.named_modules():
        if module._forward_pre_hooks or not all(map(_only_marks, module._forward_hooks.values())):
            raise UnsupportedModel(f"the module {name or 'itself'} has hooks")
        ours = type(module).__module__ in (home, "transformers.activations")
        if type(module).__name__.endswith("Norm") and not ours:
            raise UnsupportedModel(f"the norm {name} is not the family's")


def _only_marks(hook: Any) -> bool:
    """Whether it is what transformers adds for gradient checkpointing: the output is said to need a gradient."""
    owner = "PreTrainedModel.enable_input_require_grads.<locals>."
    return getattr(hook, "__module__", "").startswith("transformers.") and getattr(hook, "__qualname__", "").startswith(
        owner
    )


def _compare(decoder: LlamaLikeDecoder, model: Any) -> None:
    """Run a few tokens both ways: versions of transformers, and patches, may differ in what `_check` cannot see.

    Raises:
        UnsupportedModel: The hidden states differ.
    """
    length = 6
    ids = torch.arange(length, device=model.device) % model.config.vocab_size
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False), _in_float32():
        expected = model.model(input_ids=ids[None], use_cache=False).last_hidden_state[0]
        found = decoder.hidden(ids, torch.arange(length, device=model.device), _causal(decoder))
        difference = ((found - expected).norm() / expected.norm()).item()
    if not difference < _TOLERANCE:
        raise UnsupportedModel(f"its hidden states are not those of its family (relative difference {difference:.1e})")


@contextlib.contextmanager
def _in_float32() -> Iterator[None]:
    """Compute in float32 or float64, without TF32: in bfloat16, rounding alone makes differences of several percent."""
    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with _Widened():
            yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)


class _Widened(TorchFunctionMode):
    """Functions take operands of less than float32 as float32, each for the time of its call; no model is copied."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") == "__get__":  # an attribute
            return function(*args, **kwargs)
        if function in (nn.functional.embedding, Tensor.__getitem__):  # they read little of their operand
            return pytree.tree_map(_wide, function(*args, **kwargs))
        args, kwargs = pytree.tree_map(_wide, (args, kwargs))
        return function(*args, **kwargs)


def _wide(x: Any) -> Any:
    is_narrow = isinstance(x, Tensor) and x.is_floating_point() and x.dtype.itemsize < 4
    return x.float() if is_narrow else x


def _causal(decoder: LlamaLikeDecoder) -> Attend:
    """Attention within one sequence of few tokens."""

    def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        order = torch.arange(len(query), device=query.device)
        distance = order[:, None] - order
        window = decoder.windows[layer]
        mask = distance.ge(0) if window is None else distance.ge(0) & distance.lt(window)
        repeats = decoder.num_heads // decoder.num_kv_heads
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
        q, k, v = (t.transpose(0, 1)[None] for t in (query, key.to(query.dtype), value.to(query.dtype)))
        out = attention(q, k, v, mask, decoder.scale)
        return out[0].transpose(0, 1)

    return attend
