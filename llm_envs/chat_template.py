"""What a tokenizer and its chat template say about completions: what ends one, what of it is text, what opened it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK = "(what the model wrote)"
"""Stands for an assistant's turn where only what the template puts around it is wanted."""
_REASONING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
)
_OPENED_AT_THE_END = re.compile("(?:" + "|".join(re.escape(mark) for mark, _ in _REASONING) + r")\s*\Z")


@dataclass(frozen=True, slots=True)
class TemplateMarks:
    """What a chat template puts at the edges of an assistant's turn; empty without a template.

    Attributes:
        turn_end_ids: The special token that follows what the assistant said.
        generation_prompt: The text that stands before what it will say.
    """

    turn_end_ids: frozenset[int] = frozenset()
    generation_prompt: str = ""


def template_marks(tokenizer: Any) -> TemplateMarks:
    """Read them off conversations that the template renders."""
    if getattr(tokenizer, "chat_template", None) is None:
        return TemplateMarks()
    user, assistant = {"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}
    turn_end_ids: frozenset[int] = frozenset()
    # some templates end an assistant's turn only where another one follows
    for conversation in ([user, assistant], [user, assistant, user]):
        behind = _rendered_or_nothing(tokenizer, conversation, False).partition(MARK)[2]
        turn_end_ids = turn_end_ids or _leading_special_token(tokenizer, behind)
    without = _rendered_or_nothing(tokenizer, [user], False)
    prompt = _rendered_or_nothing(tokenizer, [user], True)
    return TemplateMarks(turn_end_ids, prompt.removeprefix(without) if prompt.startswith(without) else "")


class ConversationRefused(ValueError):
    """A chat template has refused a conversation, such as one with a system turn; the message is its own."""


def rendered(tokenizer: Any, conversation: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """The text that the chat template makes of a conversation.

    Raises:
        ConversationRefused: It does not take such a conversation.
    """
    from jinja2 import TemplateError  # what transformers renders chat templates with

    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        raise ConversationRefused(str(error)) from error
    return str(text)


def _rendered_or_nothing(tokenizer: Any, conversation: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """As `rendered`; empty where the template refuses the conversation, so that nothing can be read off it."""
    try:
        return rendered(tokenizer, conversation, add_generation_prompt)
    except ConversationRefused:
        return ""


def _leading_special_token(tokenizer: Any, text: str) -> frozenset[int]:
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        if token in special:
            return frozenset({token})
        if tokenizer.decode([token]).strip():
            break
    return frozenset()


def completion_text(tokenizer: Any, ids: Sequence[int], end_token_ids: Collection[int]) -> str:
    """The text of a completion, special tokens such as a registered `<think>` included.

    Only the tokens that say where a completion begins, ends or is filled up are no part of it: `end_token_ids` and the
    tokenizer's end, padding and start tokens.
    """
    names = ("eos_token_id", "pad_token_id", "bos_token_id")
    hidden = {*end_token_ids, *(getattr(tokenizer, name, None) for name in names)}
    return full_text(tokenizer, [token for token in ids if token not in hidden])


def full_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of tokens, each special token included."""
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def opened_reasoning(context: str, generation_prompt: str = "") -> str:
    """What the end of a prompt has already written of the completion: an opened block of reasoning, or nothing.

    Templates of reasoning models end with `<think>`, and a model continues inside the block. Its completion alone does
    not show that; with this text in front it does.

    Args:
        context: The prompt, or the conversation so far, as the model sees it.
        generation_prompt: As in `TemplateMarks`; finds a block behind whose opening the template has written more.

    Returns:
        From the opening mark to the end of the context; empty where no block is open.

    >>> opened_reasoning("<|user|>What is 2 + 2?<|end|><|assistant|><think>")
    '<think>'
    >>> opened_reasoning("Write your reasoning between <think> and </think>.")
    ''
    """
    if found := _OPENED_AT_THE_END.search(context):
        return found[0]
    if not generation_prompt or not context.endswith(generation_prompt):
        return ""
    for mark, closing in _REASONING:
        start = generation_prompt.rfind(mark)
        if start > generation_prompt.rfind(closing):
            return generation_prompt[start:]
    return ""


def opened_reasoning_of_ids(tokenizer: Any, context_ids: Sequence[int], generation_prompt: str = "") -> str:
    """As `opened_reasoning`, of a context in token ids."""
    return opened_reasoning(full_text(tokenizer, context_ids[-64 - len(generation_prompt) :]), generation_prompt)
