"""The final answer inside a completion.

Every scan here is linear in the text it reads. But for the search for `</think>`, at most the last `WINDOW` characters
of a completion are read: what stands before is neither an answer nor a way to slow the reward down.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

WINDOW = 20_000
"""Characters at the end of a completion that are read. A box that opens before them is not seen."""

_MAX_NESTED_BOXES = 8
_BOXES = ("\\boxed", "\\fbox")
_DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"))
_SPACING = ("\\,", "\\;", "\\:", "\\!", "\\ ")
_OPENING_LINES = ("$$", "$", "\\[", "\\(")
# What changes the value of the box that it touches.
_OPERATORS_BEFORE = ("+", "-", "\u2212", "/", "^", "_", "\\sqrt", "\\sqrt{", "^{", "_{", "\\pi", "\\cdot", "\\times")
_OPERATORS_AFTER = ("+", "-", "\u2212", "/", "^", "_", "!", "%", "\\%", "\\pi", "\\cdot", "\\times", "\\sqrt")
_BOLD_AND_CODE = ("**", "__", "*", "`")
# Only ASCII letters, so that positions in the lowered text are positions in the text.
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NUMBER_RUN = _DIGITS | frozenset(" .,/+-\u2212*\u00d7\u00b7^%$")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


class Rule(StrEnum):
    """Which rule found the answer; they are tried in this order."""

    BOXED = "boxed"
    ANSWER_TAG = "answer_tag"
    HASHES = "hashes"
    ANSWER_IS = "answer_is"
    EQUATION = "equation"
    NUMBER = "number"

    @property
    def instruction(self) -> str:
        """What to tell a model so that this rule finds its answer; empty for the rules that need no mark."""
        return _INSTRUCTIONS.get(self, "")


_INSTRUCTIONS = {
    Rule.BOXED: "Put your final answer in \\boxed{}.",
    Rule.ANSWER_TAG: "Put your final answer between <answer> and </answer>.",
    Rule.HASHES: "End with a line that has #### and your final answer.",
    Rule.ANSWER_IS: 'End with "The answer is" and your final answer.',
}

ALL_RULES = tuple(Rule)
MARKED_RULES = (Rule.BOXED, Rule.ANSWER_TAG, Rule.HASHES, Rule.ANSWER_IS)
"""The rules that want the answer marked as such."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer as it was written, without the mark-up around it, and the rule that found it."""

    text: str
    rule: Rule


def extract_answer(text: str, *, rules: Collection[Rule] = ALL_RULES) -> Extraction | None:
    r"""Find the final answer in a completion.

    Only the text after the last `</think>` counts, where there is one; reasoning that was begun and not ended holds no
    answer. In that text, the first of these that occurs decides: the last `\boxed{}` or `\fbox{}`; the last
    `<answer></answer>`; the last `####`, up to the end of its line; the last "answer is" or "answer:", up to the end of
    its sentence or line; the right-hand side of the last equation or, where a number comes after it, the last number. A
    marker at the end of a line speaks of the next line that is not blank.

    A mark that is broken or empty is no answer. It never gives way to an earlier mark or to another rule: a completion
    that was cut inside its final box must not be paid for an intermediate one.

    Args:
        text: The completion.
        rules: Which rules apply; a mark of another one is text like any other. `MARKED_RULES` demands a mark.

    Returns:
        The answer, or None where there is none.
    """
    if "think>" in text:
        end = text.rfind("</think>") + 8
        if text.find("<think>", end if end > 7 else 0) >= 0:
            return None
        text = text[max(end, 0, len(text) - WINDOW) :] if end > 7 else text[-WINDOW:]
    elif len(text) > WINDOW:
        text = text[-WINDOW:]
    if ("\\boxed" in text or "\\fbox" in text) and Rule.BOXED in rules:
        return _extraction(_last_box(text), Rule.BOXED)
    lowered = text.translate(_LOWER)
    if "<answer>" in lowered and Rule.ANSWER_TAG in rules:
        return _extraction(_last_tag(text, lowered), Rule.ANSWER_TAG)
    if "####" in text and Rule.HASHES in rules:
        return _extraction(_line_after(text, text.rfind("####") + 4), Rule.HASHES)
    end_of_phrase = _end_of_answer_phrase(lowered) if Rule.ANSWER_IS in rules else None
    if end_of_phrase is not None:
        return _extraction(_first_sentence(_line_after(text, end_of_phrase)), Rule.ANSWER_IS)
    return _unmarked(text, rules)


def tidy(text: str) -> str:
    """The text without surrounding white space, mark-up, math delimiters and closing punctuation."""
    if text.isalnum():
        return text
    # Each round takes at least one layer off; an answer in more layers than this is not worth reading.
    for _ in range(8):
        before = text
        text = _without_dollars(_without_spacing(text).rstrip(".,;:").strip())
        for opening, closing in _DELIMITERS:
            if text.count(opening) <= 1 and text.count(closing) == 1:
                text = text.replace(opening, " ").replace(closing, " ")
        for mark in _BOLD_AND_CODE:
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
        if text == before:
            break
    return text


def _extraction(text: str | None, rule: Rule) -> Extraction | None:
    text = tidy(text) if text is not None else ""
    return Extraction(text, rule) if text else None


def _without_spacing(text: str) -> str:
    """Drop white space and spacing commands at both ends."""
    text = text.strip()
    while text.startswith(_SPACING):
        text = text[2:].lstrip()
    while text.endswith(_SPACING) and not text.endswith(tuple("\\" + space for space in _SPACING)):
        text = text[:-2].rstrip()
    return text.rstrip("\\").rstrip() if text.endswith("\\") else text  # a line break, or what is left of `\ `


def _without_dollars(text: str) -> str:
    """Drop dollar signs that delimit mathematics; one that stands before an amount is a currency sign and stays."""
    if "\\$" in text:
        return text
    text = text.replace("$$", "$")
    if text.count("$") == 2:
        return text.replace("$", " ")
    return text[:-1] if text.count("$") == 1 and text.endswith("$") else text


def _last_box(text: str) -> str | None:
    """What is in the last box, the outermost one where boxes are nested, or None where it is not well formed."""
    start = max(text.rfind(box) for box in _BOXES)
    content, brace, _ = text[start + len(_BOXES[text.startswith("\\f", start)]) :].partition("}")
    if brace and content[:1] == "{" and "{" not in content[1:] and "\\" not in content and text.find("\\") == start:
        return content[1:]  # the usual case: a single box around plain text
    braces: list[int] = []  # the start of what is in each open brace
    box_braces: set[int] = set()
    closed: list[tuple[int, int]] = []  # boxes in the order in which they close
    last_start = -1
    i = min(position for box in _BOXES if (position := text.find(box)) >= 0)
    while i < len(text):
        box = next((box for box in _BOXES if text.startswith(box, i)), None)
        if box is not None:
            i += len(box)
            while i < len(text) and text[i].isspace():
                i += 1
            last_start = i + 1
            box_braces.add(last_start)
        elif text[i] == "\\":
            i += 2  # an escaped brace is not a brace
        else:
            if text[i] == "{":
                braces.append(i + 1)
            elif text[i] == "}" and braces:
                start = braces.pop()
                if start in box_braces:
                    closed.append((start, i))
            i += 1
    if all(start != last_start for start, _ in closed):
        return None
    # What closes after the box that opened last contains it.
    start, end = closed.pop()
    for inner in closed[: -_MAX_NESTED_BOXES - 1 : -1]:
        if not _is_only(text, (start, end), inner):
            break
        start, end = inner
    return text[start:end]


def _is_only(text: str, outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    r"""Whether a box says no more than the box in it: `\boxed{The area is \boxed{24}}`, not `\boxed{-\boxed{24}}`."""
    before, after = text[outer[0] : max(outer[0], inner[0])], text[inner[1] + 1 : outer[1]]
    before = before[: max(before.rfind(box) for box in _BOXES)].rstrip()
    if before.endswith(_OPERATORS_BEFORE) or after.lstrip().startswith(_OPERATORS_AFTER):
        return False
    return inner[0] >= outer[0] and _DIGITS.isdisjoint(before + after)


def _last_tag(text: str, lowered: str) -> str | None:
    start = lowered.rfind("<answer>") + len("<answer>")
    end = lowered.find("</answer>", start)
    return _after_answer_phrase(text[start:end]) if end >= 0 else None


def _line_after(text: str, start: int) -> str:
    """The rest of the line, or the next line with something in it, without emphasis."""
    for line in text[start:].splitlines():
        line = line.strip(" \t*_`")
        if line and line not in _OPENING_LINES:
            # `**5** apples`: the opening mark is gone already.
            return _after_answer_phrase(line.replace("**", "") if line.count("**") == 1 else line)
    return ""


def _after_answer_phrase(text: str) -> str:
    """The text behind "answer is" or "answer:" where it has one: `#### Answer: 5`."""
    end = _end_of_answer_phrase(text.translate(_LOWER))
    return text if end is None else text[end:].strip(" \t*_`")


def _end_of_answer_phrase(lowered: str) -> int | None:
    """Where the last "answer is" or "answer:" ends, emphasis between the words allowed."""
    found = lowered.rfind("answer")
    while found >= 0:
        i = _skip(lowered, found + len("answer"), " *_")
        if lowered.startswith("is", i) and not (
            lowered[i + 2 : i + 3].isalnum() or lowered[i + 2 : i + 3] in ("'", "\u2019")
        ):
            i = _skip(lowered, i + 2, " *_")
            return i + 1 if lowered.startswith(":", i) else i
        if lowered.startswith(":", i):
            return i + 1
        found = lowered.rfind("answer", 0, found)
    return None


def _skip(text: str, start: int, characters: str) -> int:
    while start < len(text) and text[start] in characters:
        start += 1
    return start


def _first_sentence(line: str) -> str:
    """The text up to a full stop that ends a sentence; one inside a number does not."""
    for i, character in enumerate(line):
        if character == "." and line[i + 1 : i + 2] in (" ", "\t", "*"):
            return line[:i]
    return line


def _unmarked(text: str, rules: Collection[Rule]) -> Extraction | None:
    """The value of the last equation or the last number, whichever comes last."""
    last_digit = max((text.rfind(digit) for digit in "0123456789"), default=-1)
    equals = text.rfind("=")
    if Rule.EQUATION in rules and equals >= 0 and text[equals - 1 : equals] not in ("<", ">", "!", ":", "="):
        end = _end_of_value(text, equals + 1)
        if end > last_digit:
            return _extraction(text[equals + 1 : end], Rule.EQUATION)
    if Rule.NUMBER not in rules or last_digit < 0:
        return None
    return _extraction(_number_around(text, last_digit), Rule.NUMBER)


def _end_of_value(text: str, start: int) -> int:
    """Where the right-hand side of an equation ends: its line, its sentence, its clause or its formula."""
    depth = 0
    started = False
    for i in range(start, len(text)):
        character = text[i]
        if character in "\r\n" or text.startswith(("\\)", "\\]", "\\\\", "\\end{"), i):
            return i
        if character == "$" and started:
            return i
        depth += (character in _OPENING) - (character in _CLOSING)
        if character in ".,;" and depth == 0 and (i + 1 == len(text) or text[i + 1].isspace()):
            return i
        started = started or not character.isspace()
    return len(text)


def _number_around(text: str, last_digit: int) -> str | None:
    """The number that ends at `last_digit`, together with the arithmetic or list that it is the end of.

    `14, 15` and `2 + 3` stay whole, so that half of them is not taken for an answer. None where the number is part of
    something else, such as an argument or a subscript.
    """
    line_start = max(text.rfind("\n", 0, last_digit), text.rfind(". ", 0, last_digit)) + 1
    line_end = text.find("\n", last_digit)
    line_end = len(text) if line_end < 0 else line_end
    opening, closing = text.rfind("$", line_start, last_digit), text.find("$", last_digit, line_end)
    if opening >= 0 and closing >= 0:
        return text[opening + 1 : closing]
    start, end = last_digit, last_digit + 1
    while start > line_start and (text[start - 1] in _NUMBER_RUN or text.endswith(" or", line_start, start)):
        start -= 1 if text[start - 1] in _NUMBER_RUN else 2
    while end < line_end and (text[end] in _LETTERS or text[end] in "%°"):
        end += 1
    before, number = text[start - 1 : start], text[start:end].lstrip(" .,/+*\u00d7\u00b7^%")
    touching = start > line_start and text[start] != " "
    if (touching and (before in _LETTERS or before in "_\\")) or before in _OPENING or text[end : end + 1] in _CLOSING:
        return None
    # A dash is a sign where it touches the number and punctuation otherwise.
    return number.lstrip("-\u2212 ") if number.startswith(("- ", "\u2212 ", "--")) else number
