"""Which models compute packed tokens: found out by a few tokens, and not by a list of families."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from agents.forward.attention import IMPLEMENTATION, KEYWORD, AttentionLayer, UnsupportedModel
from agents.forward.head import LogitTransform
from agents.forward.packed_model import PackedModel, without_adapters
from agents.forward.shared_prefix import SharedPrefix
from agents.rollout import Completion, GroupBatch, Rollout

# a rotary embedding that changes with the longest sequence makes a prompt's keys depend on its completions
_LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
# kinds of layers whose attention is what a token sees back to its window
_ATTENTION_KINDS = {"full_attention", "sliding_attention"}
# relative difference of float32 numbers; 1e-6 to 1e-5 where both compute the same
_TOLERANCE = 1e-3
# a window shorter than the sequences that are tried
_FEW = 3
# logits of this size show every scale and soft cap
_LARGE_LOGIT = 50.0


def packed_model_of(model: Any) -> PackedModel:
    """A causal language model for packed tokens; from now on its attention is `agents.forward.attention`.

    Args:
        model: A transformers model with a language-model head, with adapters or without.

    Raises:
        UnsupportedModel: It would not compute the same. The model is then as it was.
    """
    language_model = without_adapters(model)
    before = getattr(language_model.config, "_attn_implementation", None)
    _check_config(language_model)
    batch = _few_tokens(language_model)
    with (
        torch.no_grad(),
        torch.autocast(language_model.device.type, enabled=False),
        _in_float32(),
        _short_window(language_model) as window,
    ):
        try:
            expected = _plain(model, language_model, batch)
            language_model.set_attn_implementation(IMPLEMENTATION)
            if language_model.config._attn_implementation != IMPLEMENTATION:
                raise UnsupportedModel("its attention cannot be replaced (it does not use transformers' interface)")
            return _packed_model(model, language_model, batch, expected, window)
        except Exception as error:
            if before is not None:
                language_model.set_attn_implementation(before)
            if isinstance(error, UnsupportedModel):
                raise
            raise UnsupportedModel(f"trying it ended with {type(error).__name__}: {error}") from error


def _few_tokens(language_model: Any) -> GroupBatch:
    """Two prompts of four tokens, each with two completions of three."""
    size = language_model.get_input_embeddings().weight.shape[0]
    rollouts = []
    for i in range(4):
        prompt = [(7 * token + 3) % size for token in range(4 * (i // 2), 4 * (i // 2) + 4)]
        completion = [(5 * token + 1) % size for token in range(3 * i, 3 * i + 3)]
        written = Completion(completion, [0.0] * 3, truncated=True)
        rollouts.append(Rollout(0, "", prompt, written, "", 0.0, "", None, None))
    return GroupBatch.from_rollouts(rollouts, 2, 0, language_model.device)


def _check_config(language_model: Any) -> None:
    """Refuse what a few tokens do not show.

    Raises:
        UnsupportedModel: Says what.
    """
    config = language_model.config.get_text_config()
    kinds = {kind for module in language_model.modules() for kind in _rope_types(module)}
    if kinds & _LENGTH_DEPENDENT_ROPE:
        named = ", ".join(sorted(kinds & _LENGTH_DEPENDENT_ROPE))
        raise UnsupportedModel(f"its rotary embedding ({named}) changes with the longest sequence of a batch")
    others = set(getattr(config, "layer_types", None) or ()) - _ATTENTION_KINDS
    if others:
        raise UnsupportedModel(f"it has layers of the kind {', '.join(sorted(others))}")
    if not isinstance(language_model.get_output_embeddings(), nn.Linear):
        kind = type(language_model.get_output_embeddings())
        raise UnsupportedModel(f"its head is a {kind.__module__}.{kind.__qualname__}, not a plain linear layer")


def _rope_types(module: nn.Module) -> list[str]:
    found = getattr(module, "rope_type", None)
    return list(found.values()) if isinstance(found, dict) else [found] if isinstance(found, str) else []


def _rows(batch: GroupBatch) -> Tensor:
    """(4, Tp + T), what a model reads without packing."""
    return torch.cat([batch.prompt_ids.repeat_interleave(batch.group_size, dim=0), batch.completion_ids], dim=1)


def _plain(model: Any, language_model: Any, batch: GroupBatch) -> Tensor:
    """(4, L, H), what the head reads where nothing is packed.

    Raises:
        UnsupportedModel: The logits are not what `LogitTransform` makes of the head's products.
    """
    head = language_model.get_output_embeddings()
    seen: list[Tensor] = []

    def enlarge(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        seen.append(inputs[0])
        largest = nn.functional.linear(inputs[0], module.weight, module.bias).abs().amax().clamp(min=1e-6)  # type: ignore[arg-type]
        seen.append(inputs[0] * (_LARGE_LOGIT / largest))
        return (seen[-1],)

    handle = head.register_forward_pre_hook(enlarge)
    try:
        logits = model(input_ids=_rows(batch), use_cache=False).logits
    finally:
        handle.remove()
    hidden, enlarged = seen
    found = LogitTransform.of_config(language_model.config.get_text_config())(head(enlarged))
    if not _difference(found, logits) < _TOLERANCE:
        raise UnsupportedModel("its logits are more than its head's products, and not what its config says of them")
    return hidden


def _packed_model(
    model: Any, language_model: Any, batch: GroupBatch, expected: Tensor, window: int | None
) -> PackedModel:
    """Compare the packed tokens' hidden states with those of the rows.

    Args:
        model: With adapters or without.
        language_model: Without.
        batch: What is computed.
        expected: (4, L, H), what the head reads where nothing is packed.
        window: The model's own, which is shorter for now.

    Raises:
        UnsupportedModel: They differ, or attention is not what the config says.
    """
    config = language_model.config.get_text_config()
    transform, stated = LogitTransform.of_config(config), _stated_windows(config)
    for drops_keywords in (False, True):
        packed = PackedModel(model, (), transform, drops_keywords)
        probe = _Probe(SharedPrefix(batch, {None, getattr(config, "sliding_window", None)}))
        tokens = probe.prefix.tokens
        try:
            hidden = packed.hidden(tokens.ids, tokens.positions, probe)
        except TypeError as error:
            if drops_keywords or KEYWORD not in str(error):
                raise
            continue  # its forward pass takes no keywords that it does not know
        if probe.calls:
            break
    layers = config.num_hidden_layers
    if list(probe.calls) != list(range(layers)):
        raise UnsupportedModel(
            f"its {layers} layers called transformers' attention {len(probe.calls)} times: some are something else"
        )
    if list(probe.calls.values()) != stated:
        raise UnsupportedModel("its config says that layers have a window, and its attention is not told so")
    # the packed tokens are the prompts', then those of the completions but for the last of each
    length = batch.prompt_ids.shape[1]
    of_prompts = expected[:: batch.group_size, :length].flatten(0, 1)
    difference = _difference(hidden, torch.cat([of_prompts, expected[:, length:-1].flatten(0, 1)]))
    if not difference < _TOLERANCE:
        raise UnsupportedModel(f"packed tokens give other hidden states (relative difference {difference:.1e})")
    windows = [window if short is not None else None for short in stated]
    return PackedModel(model, windows, transform, drops_keywords)


@dataclass(slots=True)
class _Probe:
    """Attends, and writes down the window that each layer's attention is told."""

    prefix: SharedPrefix
    calls: dict[int, int | None] = field(default_factory=dict)

    def attend(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if layer.index < 0:
            raise UnsupportedModel("its attention layers do not say their number (layer_idx)")
        if layer.index in self.calls:
            raise UnsupportedModel(f"layer {layer.index} calls attention twice")
        self.calls[layer.index] = layer.window
        return self.prefix.attend(layer, query, key, value)


@contextlib.contextmanager
def _short_window(language_model: Any) -> Iterator[int | None]:
    """Shorten the window of attention so far that a few tokens show what it does; gives the model's own."""
    config = language_model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if window is None:
        yield None
        return
    holders = [config, *(m for m in language_model.modules() if getattr(m, "sliding_window", None) == window)]
    try:
        for holder in holders:
            holder.sliding_window = min(window, _FEW)
        yield window
    finally:
        for holder in holders:
            holder.sliding_window = window


def _stated_windows(config: Any) -> list[int | None]:
    """The window of each layer, by the config."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window] * config.num_hidden_layers
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _difference(found: Tensor, expected: Tensor) -> float:
    """The relative difference; not a number where one of them is not finite."""
    return ((found - expected).norm() / expected.norm()).item()


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
