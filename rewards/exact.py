"""The reward for texts and lists that must be right to the character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.base import InvalidReference, Outcome, RewardResult
from rewards.extract import MARKED_RULES, Rule, extract_answer, tidy

_SHOWN_CHARACTERS = 200
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|texttt|textbf)\{([^{}]*)\}")
_QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019"))
_BRACKETS = (("[", "]"), ("(", ")"), ("{", "}"))
_MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class ExactTextReward:
    r"""1.0 for a completion whose final answer is the reference, letter by letter and item by item.

    A reference is a text, or a list of texts or whole numbers: its items in order, separated by commas. Case counts.
    What does not count is white space around the text and around each item, runs of it inside a text, and mark-up:
    quotation marks around the whole or an item, brackets around a list, `\text{}`.

    Attributes:
        rules: Where the answer is looked for, see `rewards.extract.extract_answer`.

    Raises:
        ValueError: `rules` is empty.
    """

    rules: tuple[Rule, ...] = MARKED_RULES

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("rules is empty: no answer could be found; give some of rewards.extract.Rule")

    @property
    def instruction(self) -> str:
        """A sentence for the prompt that asks for the first of `rules`."""
        return self.rules[0].instruction

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], references: Sequence[Any]
    ) -> list[RewardResult]:
        """Score each completion against the reference at the same position.

        Raises:
            InvalidReference: Where a reference cannot be used; `check_reference` says so beforehand.
            ValueError: Where the three sequences differ in length.
        """
        if not len(prompts) == len(completions) == len(references):
            raise ValueError(
                f"{len(prompts)} prompts, {len(completions)} completions and {len(references)} references: "
                "the three must be equally many"
            )
        return [self._score(c, r) for c, r in zip(completions, references, strict=True)]

    def check_reference(self, reference: Any) -> None:
        """Raise `InvalidReference` where no answer could ever equal `reference`."""
        if isinstance(reference, str):
            # what the extraction takes off an answer must not be part of the reference
            if not reference or _text(tidy(reference)) != reference:
                raise InvalidReference(
                    f"the reference {reference!r:.200} is empty, or has white space, quotation marks or punctuation "
                    "around it that is not part of an answer"
                )
            return
        items = _expected(reference)
        if any(not item or "," in item or _text(item) != item or _unquoted(item) != item for item in items):
            raise InvalidReference(f"an item of {reference!r:.200} is empty, or has a comma or quotation marks")
        if ", ".join(items) != _unbracketed(tidy(", ".join(items))):
            raise InvalidReference(f"the list {reference!r:.200} has punctuation or brackets around it")

    def _score(self, completion: str, reference: Any) -> RewardResult:
        expected = reference if isinstance(reference, str) else _expected(reference)
        extraction = extract_answer(completion, rules=self.rules)
        if extraction is None:
            return RewardResult(0.0, Outcome.NO_ANSWER)
        answer: str | list[str] = _text(extraction.text)
        if isinstance(expected, list):
            answer = [_unquoted(item.strip()) for item in _unbracketed(_text(extraction.text)).split(",", _MAX_ITEMS)]
        outcome = Outcome.CORRECT if answer == expected else Outcome.WRONG
        return RewardResult(float(answer == expected), outcome, extraction.text[:_SHOWN_CHARACTERS])


def _expected(reference: Any) -> list[str]:
    if not isinstance(reference, list | tuple) or not 0 < len(reference) <= _MAX_ITEMS:
        raise InvalidReference(f"expected a text or a list of 1 to {_MAX_ITEMS} items, got {reference!r:.200}")
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in reference):
        raise InvalidReference(f"the items must be texts or whole numbers, got {reference!r:.200}")
    return [str(item) for item in reference]


def _text(text: str) -> str:
    return _unquoted(" ".join(_TEXT_COMMAND.sub(r"\1", text).split()))


def _unquoted(text: str) -> str:
    """The text without one pair of quotation marks around it, where there are no others inside."""
    for opening, closing in _QUOTES:
        inside = text[1:-1]
        if len(text) > 2 and text[0] == opening and text[-1] == closing and not {opening, closing} & set(inside):
            return inside.strip()
    return text


def _unbracketed(text: str) -> str:
    text = text.replace("\\{", "{").replace("\\}", "}")
    for opening, closing in _BRACKETS:
        if len(text) > 2 and text[0] == opening and text[-1] == closing:
            return text[1:-1].strip()
    return text
