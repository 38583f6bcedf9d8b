"""A problem: what a task's sampler returns and what one episode is about."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SPLITS = ("train", "test")
MAX_PROMPT_CHARS = 65_536
_SURROGATE = re.compile("[\ud800-\udfff]")
TEST_FRACTION = 0.2
"""Share of a task's problem space that is held out for evaluation."""

HeldOut = Literal["fifth", "all", "none"]
"""Which problems of a finite set are the split `"test"`: a fifth of them by their hash, all, or none."""


class BadRow(ValueError):
    """A row that cannot be used; the message names its place, and the field or column."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a verifiable task.

    Attributes:
        prompt: What the model is asked.
        reference: What the reward compares with, in the form that the reward takes.
        solution: A completion that earns the full reward, where the task can give one.
        metadata: Anything else worth logging, for example a difficulty level.
        key: What makes the problem this one, where several prompts ask the same (other words, another answer format);
            by default the prompt itself.
    """

    prompt: str
    reference: Any
    solution: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None

    @property
    def split(self) -> str:
        """`"train"` or `"test"`, a property of what is asked alone.

        The split is decided by a hash of the key (or prompt), not by the seed that drew it: the same problem belongs to
        the same split whichever seed, run or machine draws it, so training and evaluation cannot share one.

        Raises:
            TypeError: The key, or the prompt in its place, is no text.
        """
        content = self.prompt if self.key is None else self.key
        if not isinstance(content, str):
            raise TypeError(f"a problem's key (by default its prompt) must be a text, got {content!r:.80}")
        digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return "test" if int.from_bytes(digest, "big") < TEST_FRACTION * 2**64 else "train"


def check_prompt(prompt: Any) -> None:
    """Refuse a prompt that no model can be given.

    Raises:
        TypeError: It is no text.
        ValueError: It has a lone surrogate, which no tokenizer takes, or more than `MAX_PROMPT_CHARS` characters.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"a prompt is a text, got {prompt!r:.80} ({type(prompt).__name__})")
    if (found := _SURROGATE.search(prompt)) is not None:
        raise ValueError(
            f"the prompt {prompt[:40]!a} has the lone surrogate {found[0]!a} at character {found.start()}, which no "
            "tokenizer takes: it is half of a character, of a text that was cut or decoded wrongly"
        )
    if len(prompt) > MAX_PROMPT_CHARS:
        raise ValueError(f"a prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARS} are allowed")


def key_in_split(content: str, held_out: HeldOut) -> str | None:
    """A key under which a problem with this content is held out as asked for; None where the content itself decides.

    The split is a hash of the key, so a number behind the content is raised until the hash falls on the right side.

    >>> key_in_split("def f(x):", "fifth")
    >>> Problem("", None, key=key_in_split("def f(x):", "all")).split
    'test'
    """
    if held_out == "fifth":
        return None
    split = "test" if held_out == "all" else "train"
    number = 0
    while Problem("", None, key=f"{content}#{number}").split != split:
        number += 1
    return f"{content}#{number}"
