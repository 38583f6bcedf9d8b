"""One forward pass of the language model that gives log-probabilities and what its head reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.forward.head import token_logprobs
from agents.policies import LanguageModelPolicy
from agents.rollout import position_ids
from agents.sb3.token_rows import completion_mask, left_padded


@dataclass(frozen=True)
class Scores:
    """What teacher forcing says of N completions of up to T tokens.

    Attributes:
        logprobs: (N, T) nats under the sampling distribution, 0 behind the end token.
        mask: (N, T), 1 through the first end token.
        prompt_hidden: (N, H), what the head reads at the prompt's last token.
    """

    logprobs: Tensor
    mask: Tensor
    prompt_hidden: Tensor


@contextlib.contextmanager
def head_input(model: Any) -> Iterator[list[Tensor]]:
    """Record what a model's language-model head is given: the last hidden state, for any architecture.

    Some models scale or cap the logits behind their head, so head and trunk alone do not make the model's distribution;
    its own forward pass does, and this watches it.
    """
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def score(policy: LanguageModelPolicy, model: Any, prompts: Tensor, actions: Tensor, temperature: float) -> Scores:
    """Score completions by teacher forcing.

    Args:
        policy: Whose end tokens, padding and precision count.
        model: The policy's model, or its frozen reference.
        prompts: (N, L) observations, rows of prompt ids.
        actions: (N, T) token ids; what stands behind the first end token is not looked at.
        temperature: The one the completions were sampled at.
    """
    ends = torch.tensor(sorted(policy.end_token_ids), device=actions.device)
    mask = completion_mask(actions, ends)
    longest = int(mask.sum(dim=1).max())
    ids, prompt_mask = left_padded(prompts, policy.pad_token_id)
    short, short_mask = actions[:, :longest], mask[:, :longest]
    attention = torch.cat([prompt_mask, short_mask], dim=1)
    with policy.autocast(), head_input(model) as seen:
        logits = model(
            input_ids=torch.cat([ids, short.masked_fill(short_mask == 0, policy.pad_token_id)], dim=1),
            attention_mask=attention,
            position_ids=position_ids(attention),
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits
    # the logits at one position predict the next token
    logprobs = token_logprobs(logits[:, -longest - 1 : -1], short, temperature) * short_mask
    padded = torch.nn.functional.pad(logprobs, (0, actions.shape[1] - longest))
    return Scores(padded, mask, seen[-1][:, -longest - 1].float())


def prompt_hidden(policy: LanguageModelPolicy, prompts: Tensor) -> Tensor:
    """(N, H) what the head reads at the last token of each prompt."""
    ids, mask = left_padded(prompts, policy.pad_token_id)
    with policy.autocast(), head_input(policy.model) as seen:
        policy.model(
            input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False, logits_to_keep=1
        )
    return seen[-1][:, -1].float()


@contextlib.contextmanager
def reference_model(policy: LanguageModelPolicy) -> Iterator[Any]:
    """The frozen reference of a policy: its copy, or with adapters the model without them.

    Raises:
        RuntimeError: The policy has none; `freeze_reference` was not called.
    """
    if policy.has_adapters:
        with policy.model.disable_adapter():
            yield policy.model
    elif policy.reference is None:
        raise RuntimeError("there is no reference: call freeze_reference() first")
    else:
        yield policy.reference
