"""`LanguageModelPolicy`: a transformers causal language model that reads prompts and writes completions."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from agents.forward import PackedModel, TokenLogprobs, UnsupportedModel, packed_model_of
from agents.forward.packed_model import checkpointed_layers_train
from agents.forward.products import use_onednn_products
from agents.policies.chat import ChatFormat
from agents.rollout import GroupBatch, position_ids
from agents.validation import checked

Precision = Literal["auto", "float32", "bfloat16"]

_log = logging.getLogger(__name__)


class PromptTooLong(ValueError):
    """A prompt and its completion do not fit into the model's context."""


class LanguageModelPolicy:
    """A causal language model with its tokenizer, on one device.

    The parameters that are trained are float32, so that small updates are not rounded away; with precision bfloat16 the
    computation runs under autocast.

    Args:
        model: A transformers model with a language-model head.
        tokenizer: Its tokenizer. With a chat template, a prompt becomes a user turn; without one, plain text.
        name: What the policy was loaded from, for messages and checkpoints; by default what the model says.
        device: Where the model is put.
        precision: `"auto"` is bfloat16 on CUDA devices that have it, float32 elsewhere.
        chat: The turns that come before every prompt.
        plain: Compute in padded batches even where the model can take packed tokens: the slow twin that tests and
            benchmarks compare with. The model must be new: attention and products of one that another policy packs
            stay those of that policy.

    Raises:
        ValueError: `chat` has turns, and the tokenizer has no chat template to put them in.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "",
        device: torch.device | str = "cpu",
        precision: Precision = "auto",
        chat: ChatFormat | None = None,
        plain: bool = False,
    ) -> None:
        self.chat = chat or ChatFormat()
        if tokenizer.chat_template is None and self.chat != ChatFormat():
            raise ValueError(
                f"the tokenizer of {name or 'this model'} has no chat template for a system prompt or examples"
            )
        self.device = torch.device(device)
        self.model = model.to(device=self.device)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self.tokenizer = tokenizer
        self.name = name or getattr(model, "name_or_path", "")
        self.precision = resolve_precision(precision, self.device)
        # torch gives an embedding's padding_idx no gradient; several models pad with a token that they also read
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.padding_idx = None
        # sampling and scoring must see the same function: dropout would make the ratio noise
        self.model.eval()
        self.plain = plain
        self._reference: Any = None
        self._reference_packed: PackedModel | None = None
        if not plain:
            use_onednn_products(self.model)
        self.packed_model = None if plain else _packed(model, name)
        """The model for packed tokens; None where its architecture cannot take them, or `plain` was asked for."""

    # -- text and tokens ---------------------------------------------------------------------------------------------

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a completion: those of the generation config, and the tokenizer's."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = {configured} if isinstance(configured, int) else set(configured or ())
        if self.tokenizer.eos_token_id is not None:
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids)

    @property
    def pad_token_id(self) -> int:
        """What padding is filled with. Masks say what is padding, so any id will do where the tokenizer has none."""
        return (
            self.tokenizer.pad_token_id
            if self.tokenizer.pad_token_id is not None
            else min(self.end_token_ids, default=0)
        )

    @property
    def context_length(self) -> int | None:
        """How many tokens the model can attend to; None where its config does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def encode_prompts(self, prompts: Sequence[str], max_completion_tokens: int = 0) -> list[list[int]]:
        """Token ids of each prompt, with the chat template applied, ready for the completion to follow.

        Args:
            prompts: What the environment asks.
            max_completion_tokens: Room to leave in the context.

        Raises:
            PromptTooLong: A prompt and that room exceed the model's context.
        """
        encoded: dict[str, list[int]] = {}
        for prompt in prompts:
            if prompt not in encoded:
                encoded[prompt] = self._encode(prompt)
                needed = len(encoded[prompt]) + max_completion_tokens
                if self.context_length is not None and needed > self.context_length:
                    raise PromptTooLong(
                        f"a prompt of {len(encoded[prompt])} tokens and a completion of up to "
                        f"{max_completion_tokens} do not fit into the {self.context_length} tokens that "
                        f"{self.name or 'the model'} can attend to; "
                        f"shorten the prompt or lower max_completion_tokens. The prompt begins: {prompt[:80]!r}"
                    )
        return [encoded[prompt] for prompt in prompts]

    def _encode(self, prompt: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            ids = self.tokenizer(prompt)["input_ids"]
        else:
            text = self.tokenizer.apply_chat_template(
                self.chat.messages(prompt), tokenize=False, add_generation_prompt=True
            )
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError("a prompt became zero tokens; a model needs at least one to continue")
        return ids

    def encode_reply(self, reply: str, last_id: int) -> list[int]:
        """Token ids of an environment's message, to stand behind a completion and before the next one.

        Nothing that is in the context already becomes tokens again. With a chat template these are the end of the
        assistant's turn, unless `last_id` has ended it, the user's turn, and what opens the next one.

        Args:
            reply: The message.
            last_id: The last token of the completion.
        """
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer(f"\n{reply}\n", add_special_tokens=False)["input_ids"])
        mark = "(what the model wrote)"
        messages = [
            *self.chat.messages("?"),
            {"role": "assistant", "content": mark},
            {"role": "user", "content": reply},
        ]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = list(self.tokenizer(text.partition(mark)[2], add_special_tokens=False)["input_ids"])
        return ids[1:] if ids[:1] == [last_id] and last_id in self.end_token_ids else ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a completion, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    # -- log-probabilities -------------------------------------------------------------------------------------------

    def logprobs(self, batch: GroupBatch, temperature: float = 1.0) -> Tensor:
        """Log-probabilities of the completion tokens, with gradient.

        Args:
            batch: P prompts and N completions.
            temperature: The one the completions were sampled at, so that these are log-probabilities of the sampling
                distribution.

        Returns:
            (N, T) nats in float32; arbitrary where `completion_mask` is 0.
        """
        return self._logprobs(self.model, self.packed_model, batch, temperature)

    def _logprobs(self, model: Any, packed: PackedModel | None, batch: GroupBatch, temperature: float) -> Tensor:
        if packed is None or (torch.is_grad_enabled() and not packed.has_gradient):
            return self._plain_logprobs(model, batch, temperature)
        with self.autocast():
            return TokenLogprobs(model, packed)(batch, temperature)

    def _plain_logprobs(self, model: Any, batch: GroupBatch, temperature: float) -> Tensor:
        prompts = batch.prompt_ids.repeat_interleave(batch.group_size, dim=0)
        prompt_mask = batch.prompt_mask.repeat_interleave(batch.group_size, dim=0)
        input_ids = torch.cat([prompts, batch.completion_ids], dim=1)  # (N, Tp + T)
        mask = torch.cat([prompt_mask, batch.completion_mask], dim=1)
        completion_length = batch.completion_ids.shape[1]
        with self.autocast(), checkpointed_layers_train(model):
            logits = model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=position_ids(mask),
                use_cache=False,
                logits_to_keep=completion_length + 1,
            ).logits
        # the logits at one position predict the next token
        return token_logprobs(logits[:, -completion_length - 1 : -1], batch.completion_ids, temperature)

    @property
    def computes_in_float32(self) -> bool:
        """Whether all weights and products are float32, so that rollout and update differ by that rounding alone.

        They are not in bfloat16, with a bfloat16 base under adapters, or with TF32 on a GPU.
        """
        has_narrow_weights = any(p.is_floating_point() and p.dtype.itemsize < 4 for p in self.model.parameters())
        has_tf32 = self.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
        return self.precision == "float32" and not has_narrow_weights and not has_tf32

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run: autocast in bfloat16, nothing in float32."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    # -- the frozen reference ----------------------------------------------------------------------------------------

    @property
    def has_adapters(self) -> bool:
        """Whether the model is a peft model, whose base without adapters is the reference."""
        return hasattr(self.model, "disable_adapter")

    def freeze_reference(self) -> None:
        """Keep the policy as it is now as the reference; with adapters, the base model serves and nothing is copied."""
        if not self.has_adapters:
            self._set_reference(copy.deepcopy(self.model))

    def _set_reference(self, model: Any) -> None:
        if hasattr(model, "_require_grads_hook"):  # of gradient checkpointing, which a copy has no use for
            model.disable_input_require_grads()
        self._reference = model.requires_grad_(False)
        # that of the policy says that this one can be packed too
        self._reference_packed = None if self.packed_model is None else packed_model_of(model)

    @property
    def reference(self) -> Any:
        """The frozen copy, or None where there is none (adapters, or `freeze_reference` was not called)."""
        return self._reference

    @torch.no_grad()
    def reference_logprobs(self, batch: GroupBatch, temperature: float = 1.0) -> Tensor:
        """As `logprobs`, under the frozen reference and without gradient.

        Raises:
            RuntimeError: `freeze_reference` has not been called.
        """
        if self.has_adapters:
            with self.model.disable_adapter():
                return self._logprobs(self.model, self.packed_model, batch, temperature)
        if self._reference is None:
            raise RuntimeError("there is no reference: call freeze_reference() first")
        return self._logprobs(self._reference, self._reference_packed, batch, temperature)

    # -- parameters and files ----------------------------------------------------------------------------------------

    def trainable_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Name and parameter of everything that is trained (with adapters, those alone)."""
        return ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)

    @property
    def frozen_parameters(self) -> list[str]:
        """Names of the model's parameters that are not trained; empty with adapters, which are all that is."""
        if self.has_adapters:
            return []
        return [name for name, parameter in self.model.named_parameters() if not parameter.requires_grad]

    def save(self, folder: Path) -> None:
        """Write model (safetensors) and tokenizer in transformers' own layout, so that any tool loads them."""
        # adapters are on linear layers alone; without this, peft looks for the base model's config on the hub
        options = {"save_embedding_layers": False} if self.has_adapters else {}
        self.model.save_pretrained(folder, **options)
        self.tokenizer.save_pretrained(folder)


def resolve_precision(precision: Precision, device: torch.device) -> Literal["float32", "bfloat16"]:
    """What `"auto"` means on a device.

    Raises:
        ValueError: The precision is none of those that there are.
    """
    checked("precision", precision, Precision)
    if precision != "auto":
        return precision
    # older GPUs emulate it, slower than float32
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_bfloat16 else "float32"


def _packed(model: Any, name: str) -> PackedModel | None:
    try:
        return packed_model_of(model)
    except UnsupportedModel as reason:
        _log.warning("%s is computed in padded batches, which is slower: %s", name or "model", reason)
        return None


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Log-probability of each token under `softmax(logits / temperature)`.

    Args:
        logits: (N, T, V); cast to float32 where they are less.
        ids: (N, T).
        temperature: Positive.

    Returns:
        (N, T) nats, float32 at least.
    """
    scaled = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    chosen = scaled.gather(2, ids.unsqueeze(2)).squeeze(2)
    return chosen - scaled.logsumexp(dim=2)
