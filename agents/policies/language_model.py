"""`LanguageModelPolicy`: a transformers causal language model that reads prompts and writes completions."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from agents.forward import PackedModel, TokenLogprobs, packed_model_of
from agents.forward.head import token_logprobs
from agents.forward.packed_model import checkpointed_layers_train, without_adapters
from agents.forward.products import use_onednn_products
from agents.policies.chat import ChatFormat
from agents.policies.model_support import packed_or_none, refuse_several_devices
from agents.policies.precision import Precision, WeightsDtype, convert, resolve_precision
from agents.rollout import GroupBatch, position_ids
from llm_envs.chat_template import (
    MARK,
    ConversationRefused,
    TemplateMarks,
    completion_text,
    full_text,
    opened_reasoning_of_ids,
    rendered,
    template_marks,
)

TooLong = Literal["error", "skip", "truncate"]
"""What is done with a prompt that leaves no room for a completion: an error, another problem, or its end alone."""
_PROBES = ("(the environment's message)", "(the system's)", "(an example)", "(its solution)")


class PromptTooLong(ValueError):
    """A prompt and its completion do not fit into the model's context."""


class UnsuitableTokenizer(ValueError):
    """A tokenizer has tokens that the model does not know, or a chat template that does not show a conversation."""


class LanguageModelPolicy:
    """A causal language model with its tokenizer, on one device.

    The parameters that are trained are float32, so that small updates are not rounded away; with precision bfloat16 the
    computation runs under autocast. With `weights_dtype="bfloat16"` they are bfloat16, and an agent's optimizer keeps
    the bits that bfloat16 leaves out (`agents.adamw`). Adapters are always float32, and then it is the dtype of the
    frozen model below them.

    Args:
        model: A transformers model with a language-model head.
        tokenizer: Its tokenizer. With a chat template, a prompt becomes a user turn; without one, plain text.
        name: What the policy was loaded from, for messages and checkpoints; by default what the model says.
        device: Where the model is put.
        precision: `"auto"` is bfloat16 on CUDA devices that have it, float32 elsewhere.
        chat: The turns that come before every prompt.
        weights_dtype: `"float32"` or `"bfloat16"`, of the parameters; bfloat16 makes the precision bfloat16 too.
        plain: Compute in padded batches even where the model can take packed tokens: the slow twin that tests and
            benchmarks compare with. The model must be new: attention and products of one that another policy packs
            stay those of that policy.

    Raises:
        UnsuitableTokenizer: `chat` has turns, and the tokenizer has no chat template, or one that leaves them out; or
            the tokenizer has a token beyond the model's embedding.
        ValueError: bfloat16 weights were to be computed with in float32.
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
        weights_dtype: WeightsDtype = "float32",
        plain: bool = False,
    ) -> None:
        self.chat = chat or ChatFormat()
        if tokenizer.chat_template is None and self.chat != ChatFormat():
            raise UnsuitableTokenizer(
                f"the tokenizer of {name or 'this model'} has no chat template for a system prompt or examples"
            )
        self.device = torch.device(device)
        refuse_several_devices(model)
        self.precision = resolve_precision(precision, self.device, weights_dtype)
        self.weights_dtype: WeightsDtype = weights_dtype
        self.model = convert(model, weights_dtype).to(device=self.device)
        self.tokenizer = tokenizer
        self._marks_read, self._marks_read_from = TemplateMarks(), (None, 0)
        self._template_of_turns: str | None = None
        self.name = name or getattr(model, "name_or_path", "")
        self._refuse_unknown_tokens()
        if self.chat != ChatFormat():
            self._refuse_hidden_turns(self.tokenizer.chat_template)
        # torch gives an embedding's padding_idx no gradient; several models pad with a token that they also read
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.padding_idx = None
        # sampling and scoring must see the same function: dropout would make the ratio noise
        self.model.eval()
        self.plain = plain
        self.gradient_checkpointing = False
        self._reference: Any = None
        self._reference_packed: PackedModel | None = None
        if not plain:
            use_onednn_products(self.model)
        self.packed_model = None if plain else packed_or_none(model, name)
        """The model for packed tokens; None where its architecture cannot take them, or `plain` was asked for."""

    def checkpoint_gradients(self) -> None:
        """Compute layers again in the backward pass, instead of keeping what they computed.

        Raises:
            ValueError: The model does not know how.
        """
        model = without_adapters(self.model)
        if not model.supports_gradient_checkpointing:
            raise ValueError(f"gradient_checkpointing: {type(model).__name__} of transformers does not have it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a name to come
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.gradient_checkpointing = True

    # -- text and tokens ---------------------------------------------------------------------------------------------

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a completion.

        They are those of the generation config, the tokenizer's, and the one by which the chat template ends a turn.
        """
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = {configured} if isinstance(configured, int) else set(configured or ())
        if self.tokenizer.eos_token_id is not None:
            ids.add(self.tokenizer.eos_token_id)
        return frozenset(ids) | self._marks.turn_end_ids

    @property
    def _marks(self) -> TemplateMarks:
        """Of the tokenizer's present template and vocabulary, either of which may be changed after loading."""
        read_from = (self.tokenizer.chat_template, len(self.tokenizer))
        if read_from != self._marks_read_from:
            self._marks_read, self._marks_read_from = template_marks(self.tokenizer), read_from
        return self._marks_read

    @property
    def pad_token_id(self) -> int:
        """What padding is filled with. Masks say what is padding, so any id will do where the tokenizer has none."""
        known = self.tokenizer.pad_token_id
        if known is not None and known < self._embedding_rows:
            return int(known)
        return min(self.end_token_ids, default=0)

    @property
    def context_length(self) -> int | None:
        """How many tokens the model can attend to; None where its config does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def encode_prompts(
        self,
        prompts: Sequence[str],
        max_completion_tokens: int = 0,
        *,
        max_prompt_tokens: int | None = None,
        too_long: TooLong = "error",
    ) -> list[list[int]]:
        """Token ids of each prompt, with the chat template applied, ready for the completion to follow.

        Args:
            prompts: What the environment asks.
            max_completion_tokens: Room to leave in the context.
            max_prompt_tokens: A further limit; None for none.
            too_long: `"truncate"` takes as much of the end of a prompt as fits; the template, a system prompt and
                examples stay whole. Otherwise such a prompt is an error.

        Raises:
            PromptTooLong: A prompt and that room exceed the model's context.
        """
        limit = self._prompt_limit(max_completion_tokens, max_prompt_tokens)
        encoded: dict[str, list[int]] = {}
        for prompt in prompts:
            if prompt not in encoded:
                ids = self._encode(prompt)
                if limit is not None and len(ids) > limit:
                    ids = self._shortened(prompt, len(ids), limit) if too_long == "truncate" else []
                    if not ids:
                        raise self._too_long(prompt, max_completion_tokens, limit)
                encoded[prompt] = ids
        return [encoded[prompt] for prompt in prompts]

    def fits(self, prompt: str, max_completion_tokens: int = 0, max_prompt_tokens: int | None = None) -> bool:
        """Whether `encode_prompts` takes a prompt as it is; see there for the arguments."""
        limit = self._prompt_limit(max_completion_tokens, max_prompt_tokens)
        return limit is None or len(self._encode(prompt)) <= limit

    def _prompt_limit(self, max_completion_tokens: int, max_prompt_tokens: int | None) -> int | None:
        limits = [] if max_prompt_tokens is None else [max_prompt_tokens]
        if self.context_length is not None:
            limits.append(self.context_length - max_completion_tokens)
        return min(limits, default=None)

    def _shortened(self, prompt: str, length: int, limit: int) -> list[int]:
        """Ids of the longest end of a prompt that fits; empty where what stands around it alone is too long."""
        ids = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        keep = len(ids)
        while length > limit:
            keep -= length - limit
            if keep <= 0:
                return []
            # a character of several tokens may have been cut
            encoded = self._encode(full_text(self.tokenizer, ids[-keep:]).lstrip("\ufffd"))
            length = len(encoded)
        return encoded

    def _too_long(self, prompt: str, max_completion_tokens: int, limit: int) -> PromptTooLong:
        if self.context_length is not None and limit == self.context_length - max_completion_tokens:
            where = (
                f"a completion of up to {max_completion_tokens} do not fit into the {self.context_length} tokens that "
                f"{self.name or 'the model'} can attend to; shorten the prompt or lower max_completion_tokens"
            )
        else:
            where = f"its template do not fit into max_prompt_tokens={limit}; raise it"
        return PromptTooLong(
            f"a prompt of {len(self._encode(prompt))} tokens and {where}, or leave such prompts out "
            f"(too_long='skip') or take their end (too_long='truncate'). The prompt begins: {prompt[:80]!r}"
        )

    def _encode(self, prompt: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            ids = self.tokenizer(prompt)["input_ids"]
        else:
            text = self._rendered(self.chat.messages(prompt))
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError("a prompt became zero tokens; a model needs at least one to continue")
        return list(ids)

    def encode_reply(self, reply: str, last_id: int) -> list[int]:
        """Token ids of an environment's message, to stand behind a completion and before the next one.

        Nothing that is in the context already becomes tokens again, so a template that would leave out earlier turns
        or earlier reasoning does not. With a chat template these are the end of the assistant's turn, unless `last_id`
        has ended it, the user's turn, and what opens the next one.

        Args:
            reply: The message.
            last_id: The last token of the completion.

        Raises:
            UnsuitableTokenizer: The chat template does not show a user's turn behind an assistant's.
        """
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer(f"\n{reply}\n", add_special_tokens=False)["input_ids"])
        self.check_turns()
        ids = list(self.tokenizer(self._rendered_reply(reply), add_special_tokens=False)["input_ids"])
        return ids[1:] if ids[:1] == [last_id] and last_id in self.end_token_ids else ids

    def check_turns(self) -> None:
        """Find out whether the chat template can show an episode of several turns.

        Raises:
            UnsuitableTokenizer: It shows the last message alone, say, or refuses a conversation of several turns.
        """
        template = self.tokenizer.chat_template
        if template is not None and template != self._template_of_turns:
            if _PROBES[0] not in self._rendered_reply(_PROBES[0]):
                raise UnsuitableTokenizer(
                    f"the chat template of {self.name or 'this model'} shows only a part of a conversation: of a "
                    "prompt, a completion and the environment's message, which a task of several turns is made of, it "
                    "leaves out the completion or the message. Use a template that shows all turns: "
                    "policy.tokenizer.chat_template"
                )
            self._template_of_turns = template

    def _rendered_reply(self, reply: str) -> str:
        """What the template writes behind an assistant's turn; empty where it does not show that turn."""
        messages = [
            *self.chat.messages("?"),
            {"role": "assistant", "content": MARK},
            {"role": "user", "content": reply},
        ]
        return self._rendered(messages).partition(MARK)[2]

    def _rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        try:
            return rendered(self.tokenizer, messages, add_generation_prompt=True)
        except ConversationRefused as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UnsuitableTokenizer(
                f"the chat template of {self.name or 'this model'} refuses the turns {roles}: {error}"
            ) from error

    def _refuse_hidden_turns(self, template: str) -> None:
        """Refuse a template that leaves out the system prompt, the examples or the prompt itself."""
        message, system, example, solution = _PROBES
        examples = tuple((f"{example} {i}.", f"{solution} {i}.") for i in range(len(self.chat.examples)))
        probe = ChatFormat(None if self.chat.system_prompt is None else system, examples)
        messages = probe.messages(message)
        text = self._rendered(messages)
        hidden = [turn["role"] for turn in messages if turn["content"] not in text]
        if hidden:
            raise UnsuitableTokenizer(
                f"the chat template of {self.name or 'this model'} leaves out {len(hidden)} of the {len(messages)} "
                f"turns before a completion ({', '.join(hidden)}): the model would not see what was asked for. Leave "
                "the system prompt or the examples out, or use another template"
            )

    @property
    def _embedding_rows(self) -> int:
        return int(self.model.get_input_embeddings().weight.shape[0])

    def _refuse_unknown_tokens(self) -> None:
        """Refuse tokens that have no row in the embedding; padding is never read, so it needs none."""
        rows = self._embedding_rows
        padding = self.tokenizer.pad_token
        unknown = sorted(t for t, i in self.tokenizer.get_vocab().items() if i >= rows and t != padding)
        if unknown:
            raise UnsuitableTokenizer(
                f"the tokenizer of {self.name or 'this model'} has {len(unknown)} tokens beyond the {rows} rows of the "
                f"model's embedding, such as {unknown[0]!r}. Give the model rows for them and save it: "
                "model.resize_token_embeddings(len(tokenizer)); or load the tokenizer that belongs to it"
            )

    def decode(self, ids: Sequence[int], *, with_all_special_tokens: bool = False) -> str:
        """The text of tokens that the model wrote.

        Args:
            ids: Token ids.
            with_all_special_tokens: Whether end, padding and start tokens are part of it, as stop strings need; other
                special tokens, such as a `<think>` that is one, always are.
        """
        if with_all_special_tokens:
            return full_text(self.tokenizer, ids)
        return completion_text(self.tokenizer, ids, self.end_token_ids)

    def completion_text(self, ids: Sequence[int], context_ids: Sequence[int]) -> str:
        """What environment, reward and reader get of a completion.

        Where the context ends with an opened block of reasoning (`<think>`, from the chat template or the prompt
        itself), the text begins with that mark: without it, reasoning that was cut would look like an answer.

        Args:
            ids: The completion.
            context_ids: All tokens before it.
        """
        opened = opened_reasoning_of_ids(self.tokenizer, context_ids, self._marks.generation_prompt)
        return opened + self.decode(ids)

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
        with self.autocast(batch.prompt_ids.device):
            return TokenLogprobs(model, packed)(batch, temperature)

    def _plain_logprobs(self, model: Any, batch: GroupBatch, temperature: float) -> Tensor:
        prompts = batch.prompt_ids.repeat_interleave(batch.group_size, dim=0)
        prompt_mask = batch.prompt_mask.repeat_interleave(batch.group_size, dim=0)
        input_ids = torch.cat([prompts, batch.completion_ids], dim=1)  # (N, Tp + T)
        mask = torch.cat([prompt_mask, batch.completion_mask], dim=1)
        completion_length = batch.completion_ids.shape[1]
        with self.autocast(input_ids.device), checkpointed_layers_train(model):
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

    def autocast(self, device: torch.device | None = None) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run: autocast in bfloat16, nothing in float32.

        Args:
            device: Where they run, by default where the policy is.
        """
        if self.precision == "bfloat16":
            return torch.autocast((device or self.device).type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    # -- the frozen reference ----------------------------------------------------------------------------------------

    @property
    def has_adapters(self) -> bool:
        """Whether the model is a peft model, whose base without adapters is the reference."""
        return hasattr(self.model, "disable_adapter")

    def freeze_reference(self, device: torch.device | str | None = None) -> None:
        """Keep the policy as it is now as the reference; with adapters, the base model serves and nothing is copied.

        Args:
            device: Where the copy is kept and computes, by default beside the policy.
        """
        if not self.has_adapters:
            # numbers are copied to where they belong, so that no second model is on the policy's device on the way
            place, model = device or self.device, self.model
            copies: dict[int, Any] = {
                id(p): torch.nn.Parameter(p.detach().to(place, copy=True), requires_grad=False)
                for p in model.parameters()
            }
            copies |= {id(buffer): buffer.to(place, copy=True) for buffer in model.buffers()}
            self._set_reference(copy.deepcopy(model, copies))

    def _set_reference(self, model: Any) -> None:
        if hasattr(model, "_require_grads_hook"):  # of gradient checkpointing, which a copy has no use for
            model.disable_input_require_grads()
        self._reference = model.requires_grad_(False)
        # that of the policy says that this one can be packed too
        self._reference_packed = None if self.packed_model is None else packed_model_of(model)

    @property
    def load_in(self) -> Literal["4bit"] | None:
        """How the frozen model below adapters is stored, where it is quantised."""
        return "4bit" if getattr(self.model, "is_loaded_in_4bit", False) else None

    @property
    def has_reference_elsewhere(self) -> bool:
        """Whether the frozen copy is on another kind of device than the policy."""
        return self._reference is not None and next(self._reference.parameters()).device.type != self.device.type

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
        batch = batch.to(next(self._reference.parameters()).device)
        return self._logprobs(self._reference, self._reference_packed, batch, temperature).to(self.device)

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

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model (safetensors) and tokenizer in transformers' own layout, so that any tool loads them.

        Args:
            folder: Where to.
            weights: By name, in place of the model's own, of which a process may have a part alone.
        """
        # adapters are on linear layers alone; without this, peft looks for the base model's config on the hub
        options = {"save_embedding_layers": False} if self.has_adapters else {}
        self.model.save_pretrained(folder, state_dict=weights, **options)
        self.tokenizer.save_pretrained(folder)
