"""The reward for texts and lists that must be right to the character."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rewards.base import InvalidReference, Outcome
from rewards.extract import tidy
from rewards.latex import TEXT_COMMAND
from rewards.marked_answer import MarkedAnswerReward

_TEXT = re.compile(rf"{TEXT_COMMAND}\{{([^{{}}]*)\}}")
_SPACE_COMMAND = re.compile(r"\\(?:[ ,;:]|quad(?![a-zA-Z]))")
_MINUS = re.compile("[\u2212\u2011\u2013](?=[0-9])")
_QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u2018", "\u2019"))
_BRACKETS = (("[", "]"), ("(", ")"), ("{", "}"))
_MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class ExactTextReward(MarkedAnswerReward[str | list[str]]):
    r"""1.0 for a completion whose final answer is the reference, letter by letter and item by item.

    A reference is a text, or a list of texts or whole numbers: its items in order, separated by commas. Case counts.
    What does not count is white space around the text and around each item, runs of it inside a text, and mark-up:
    quotation marks around the whole or an item, brackets around a list, `\text{}`, spaces as LaTeX writes them, and
    the typographic minus before a digit.
    """

    def read_reference(self, reference: Any) -> str | list[str]:
        """Return the text, or the items.

        Raises:
            InvalidReference: No answer could ever equal `reference`.
        """
        if isinstance(reference, str):
            # what the extraction takes off an answer must not be part of the reference
            if not reference or _text(tidy(reference)) != reference:
                raise InvalidReference(
                    f"the reference {reference!r:.200} is empty, or has white space, quotation marks or punctuation "
                    "around it that is not part of an answer"
                )
            return reference
        items = _items(reference)
        if any(not item or "," in item or _text(item) != item or _unquoted(item) != item for item in items):
            raise InvalidReference(f"an item of {reference!r:.200} is empty, or has a comma or quotation marks")
        if ", ".join(items) != _unbracketed(tidy(", ".join(items))):
            raise InvalidReference(f"the list {reference!r:.200} has punctuation or brackets around it")
        return items

    def judge(self, answer: str, expected: str | list[str]) -> Outcome:
        """Return what an answer is."""
        if _read(answer, expected) == expected:
            return Outcome.CORRECT
        plain = _MINUS.sub("-", _SPACE_COMMAND.sub(" ", answer))
        return Outcome.CORRECT if plain != answer and _read(plain, expected) == expected else Outcome.WRONG


def _read(answer: str, expected: str | list[str]) -> str | list[str]:
    """The answer as a text or, where items are expected, as its items."""
    if isinstance(expected, str):
        return _text(answer)
    return [_unquoted(item.strip()) for item in _unbracketed(_text(answer)).split(",", _MAX_ITEMS)]


def _items(reference: Any) -> list[str]:
    if not isinstance(reference, list | tuple) or not 0 < len(reference) <= _MAX_ITEMS:
        raise InvalidReference(f"expected a text or a list of 1 to {_MAX_ITEMS} items, got {reference!r:.200}")
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in reference):
        raise InvalidReference(f"the items must be texts or whole numbers, got {reference!r:.200}")
    return [str(item) for item in reference]


def _text(text: str) -> str:
    return _unquoted(" ".join(_TEXT.sub(r"\1", text).split()))


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
