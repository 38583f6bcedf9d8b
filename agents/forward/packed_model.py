"""`PackedModel`: a transformers model that computes packed tokens of several sequences by its own modules."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from agents.forward.attention import KEYWORD, AttentionContext, context_for_models_that_drop_keywords
from agents.forward.head import LogitTransform, token_logprobs_of_hidden
from agents.forward.shared_prefix import SharedPrefix
from agents.rollout import GroupBatch


class PackedModel:
    """The forward pass of a model without its own idea of a batch: one dimension of S tokens.

    Attention is left to an `AttentionContext`, because an update (shared prompts) and a rollout (a cache) do it in ways
    of their own. Made by `agents.forward.support.packed_model_of`, which checks that the model computes the same.

    Args:
        model: A transformers model with a language-model head, with adapters or without.
        windows: The windows of its layers' attention, see `AttentionLayer`.
        transform: What the model does to the products of its head.
        drops_keywords: Whether its layers do not hand on keywords that they do not know.

    Attributes:
        windows: Those of all layers, each once.
    """

    def __init__(
        self, model: Any, windows: Iterable[int | None], transform: LogitTransform, drops_keywords: bool = False
    ) -> None:
        self._language_model = without_adapters(model)
        self._trunk = trunk(model)
        self._drops_keywords = drops_keywords
        self.windows = set(windows)
        self._transform = transform

    @property
    def has_gradient(self) -> bool:
        """Whether the backward pass finds the context: not where it computes layers again that drop keywords."""
        return not (self._drops_keywords and any(map(_is_checkpointed, _layers_that_checkpoint(self._language_model))))

    def hidden(self, ids: Tensor, positions: Tensor, context: AttentionContext) -> Tensor:
        """What the head reads.

        Args:
            ids: (S,) tokens.
            positions: (S,), each counted from the start of its own sequence.
            context: The attention between the tokens.

        Returns:
            (S, H).
        """
        arguments: dict[str, Any] = {
            "input_ids": ids[None],
            "position_ids": positions[None],
            "use_cache": False,
            # a mask of four dimensions is handed on and not read: transformers builds none for S x S tokens
            "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
        }
        dropping: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self._drops_keywords:
            dropping = context_for_models_that_drop_keywords(context)
        else:
            arguments[KEYWORD] = context
        with dropping, checkpointed_layers_train(self._language_model):
            return self._trunk(**arguments).last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """What the head reads (S, H) to logits (S, V)."""
        return self._transform(self._language_model.get_output_embeddings()(hidden))

    def token_logprobs(self, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """Log-probabilities (M,) of targets (M,), given what the head reads (M, H); see `token_logprobs_of_hidden`."""
        head = self._language_model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        return token_logprobs_of_hidden(hidden, head.weight, bias, targets, temperature, self._transform)


class TokenLogprobs(nn.Module):
    """A packed model as a module whose forward pass gives log-probabilities: what engines for several devices wrap.

    Args:
        model: The transformers model; its parameters are this module's.
        packed: The same model for packed tokens.
    """

    def __init__(self, model: Any, packed: PackedModel) -> None:
        super().__init__()
        self.model = model
        self._packed = packed

    def forward(self, batch: GroupBatch, temperature: float) -> Tensor:
        """Log-probabilities of the completion tokens of whole groups.

        Returns:
            (N, T) nats, float32 at least; 0 where `completion_mask` is 0.
        """
        prefix = SharedPrefix(batch, self._packed.windows)
        tokens = prefix.tokens
        hidden = self._packed.hidden(tokens.ids, tokens.positions, prefix)
        # a group shares its prompt's last token: an index would add up its gradients in the order in which threads
        # come, and a seed would not repeat a run; this operator adds them in the order of the rows
        predicting = nn.functional.embedding(tokens.sources, hidden)
        logprobs = self._packed.token_logprobs(predicting, tokens.targets, temperature)
        out = logprobs.new_zeros(batch.completion_ids.numel())
        return out.index_copy(0, tokens.target_slots, logprobs).view(batch.completion_ids.shape)


def without_adapters(model: Any) -> Any:
    """The transformers model with the head, inside a peft model or by itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def trunk(model: Any) -> Any:
    """What a causal language model, with adapters or without, has below its head."""
    return without_adapters(model).base_model


@contextlib.contextmanager
def checkpointed_layers_train(model: nn.Module) -> Iterator[None]:
    """Let gradient checkpointing take effect in a forward pass with gradient, although a policy is in evaluation mode.

    It looks at `training` of the layers alone. While they compute, and compute again in the backward pass, they are in
    evaluation mode: without dropout. Afterwards they are as before: in training mode they would drop the key-value
    cache of `generate`.
    """
    if not torch.is_grad_enabled():  # a step of decoding does not look through the modules
        yield
        return
    layers = [layer for layer in _layers_that_checkpoint(model) if _is_checkpointed(layer)]
    before = [(layer.training, layer._gradient_checkpointing_func) for layer in layers]
    try:
        for layer, (_, checkpoint) in zip(layers, before, strict=True):
            layer.training = True
            layer._gradient_checkpointing_func = functools.partial(_checkpoint_in_evaluation, layer, checkpoint)
        yield
    finally:
        for layer, (training, checkpoint) in zip(layers, before, strict=True):
            layer.training = training
            layer._gradient_checkpointing_func = checkpoint


def _checkpoint_in_evaluation(
    layer: nn.Module, checkpoint: Callable[..., Any], run: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    def run_in_evaluation(*inputs: Any, **options: Any) -> Any:
        training, layer.training = layer.training, False
        try:
            return run(*inputs, **options)
        finally:
            layer.training = training

    return checkpoint(run_in_evaluation, *args, **kwargs)


def _layers_that_checkpoint(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "_gradient_checkpointing_func")]


def _is_checkpointed(layer: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers renames the attribute of models, not of layers
        return bool(layer.gradient_checkpointing)
