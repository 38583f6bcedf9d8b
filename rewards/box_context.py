r"""What stands around a box outside of it, and what that makes of the answer.

A box marks the answer, and mostly it stands alone: `x = \boxed{6}`. Where something is attached to it, the box is only
a part of what is said: `$x < \boxed{6}$` says no number, `$\boxed{6}^2$` is 36, and "\boxed{5} million" is not 5. Then
the answer is the side of the formula in which the box stands. A box that stands before an equals sign is a blank that
was filled in: `$3 + \boxed{6} = 9$` says 6.
"""

from __future__ import annotations

import re

from rewards.latex import SPACING, TEXT_COMMAND

MAX_CHARACTERS = 500
"""Characters on either side of a box that are read."""

_DELIMITER = re.compile(r"(?<!\\)\$\$?|\\[()\[\]]")
_PARAGRAPH = re.compile(r"\n\s*\n")
_BOX_COMMAND = re.compile(r"\\{1,2}(?:boxed|fbox)(?![a-zA-Z])\s*")
_NUMBER_IN_BRACES = re.compile(r"\{\s*([0-9][0-9.,]*)\s*\}")

_INEQUALITY = r"[<>\u2264\u2265\u2260]=?|\\(?:[lg]t|[lg]eq?(?:slant|q)?|neq?)(?![a-zA-Z])"
_EQUALITY = r"=|\u2248|\\(?:approx|simeq|equiv|in)(?![a-zA-Z])"
_ARROW = r"\u2192|\u21d2|\\(?:[Ll]ong)?(?:[Rr]ightarrow|mapsto)(?![a-zA-Z])|\\(?:implies|iff|to|therefore)(?![a-zA-Z])"
_SEPARATOR = re.compile(
    rf"(?P<inequality>{_INEQUALITY})|(?P<equality>{_EQUALITY})"
    rf"|{_ARROW}|\\\\|&|(?<!\{{)[,;:](?![0-9])|\\q?quad(?![a-zA-Z])|{TEXT_COMMAND}\s*\{{[^{{}}]*\}}"
)
_INEQUALITY_BEFORE = re.compile(rf"(?<![\w<\\])[a-zA-Z]\s?(?:{_INEQUALITY})\s?(?:\$|\\\()?\s?\Z")
_COMPARED_BEFORE = re.compile(
    r"(?:\b(?:less|more|greater|smaller|larger|fewer) than(?: or equal to)?"
    r"|\b[a-z]\$? (?:is|must be|has to be) at (?:least|most)) (?:\$|\\\()?\Z"
)

# What is attached to a box within its formula
_VALUE_BEFORE = re.compile(
    r"(?:[0-9)\]|^_/*+(\[\u00b7\u00d7\u2212-]|(?<![a-zA-Z\\])[a-zA-Z]|\\(?:cdot|times|div|pm|mp|pi|theta|left\(|left\[|left\||\{|sqrt"
    r"|sin|cos|tan|log|ln|lfloor|lceil|binom|[dt]?frac)|(?:\\[dt]?frac|\\sqrt(?:\[[^\]]*\])?|\\overline|\^|_|\\[dt]?frac\s*\{[^{}]*\})\s*\{)\Z"
)
_VALUE_BEHIND = re.compile(
    r"[\^_!%/*+'\u00b0\u00b7\u00d7\u2212-]|\((?!\s*(?:\Z|\\?(?:text|math|[bp]?mod)))|\\%|(?:[.,]|\{,\})?[0-9]|[a-zA-Z](?![a-zA-Z])|[)\]}|]"
    r"|\\(?:cdot|times|div|pm|mp|pi|theta|sqrt|[dt]?frac|binom|right|\}|circ|rfloor|rceil)(?![a-zA-Z])"
)
_VALUE_BEHIND_IN_TEXT = re.compile(r"\^[0-9({\\]|\\?%|[0-9]")
_UNIT_BEHIND = re.compile(
    rf"(?:\s|~|{SPACING})*{TEXT_COMMAND}\s*\{{[ ~]*[a-zA-Z]+(?:[ /][a-zA-Z]+)?[ ~.]*\}}"
    r"(?:\s*\^\s*(?:[0-9]|\{-?[0-9]\}))?(?=[\s.$]*\Z)"
)
_ORDINAL_BEHIND = re.compile(rf"\^?\s*\{{?\s*(?:{TEXT_COMMAND}\s*\{{)?(?:st|nd|rd|th)\b")
_SCALE_BEHIND = re.compile(
    rf"(?:[\s$~]|\\[)\]]|\*\*|{SPACING}|{TEXT_COMMAND}\s*\{{\s*)*"
    r"(hundred|thousand|million|billion|trillion|dozen|halves|thirds|quarters|(?:four|fif|six|seven|eigh|nin|ten|hundred"
    r"|thousand|million)ths|percent|per cent|\\?%)"
    r"(?![a-zA-Z])"
)
_PART_LABEL = re.compile(r"\A\s*\(?(?:[a-z]|[0-9]|i{1,3})\)(?=\s|\\[ ,;q]|~)")  # (a), 1)
_SPACE = re.compile(rf"(?:\s|~|{SPACING}|\\displaystyle(?![a-zA-Z]))*")
_SPACE_AT_END = re.compile(rf"(?:\s|~|{SPACING}|\\displaystyle|\\left(?=[(\[|]))*\Z")


def in_context(text: str, start: int, end: int, content: str) -> str:
    """Return what a box between two positions says together with what is attached to it.

    Args:
        text: The completion.
        start: Where the box begins, or the first of several that are one answer.
        end: Where it ends.
        content: What it says by itself.

    Returns:
        `content`, or the part of the formula that the box is a part of.
    """
    before, behind, is_formula = _formula(text, start, end)
    if _ORDINAL_BEHIND.match(behind):
        return content
    if scale := _SCALE_BEHIND.match(text[end : end + MAX_CHARACTERS]):
        return f"{content}\\%" if scale[1].startswith("per") or scale[1].endswith("%") else f"{content} {scale[1]}"
    if not is_formula:
        if _VALUE_BEHIND_IN_TEXT.match(behind):
            return _unwrapped(text[start:end]) + behind.split()[0]
        if relation := _INEQUALITY_BEFORE.search(before) or _COMPARED_BEFORE.search(before):
            return relation[0].replace("$", "") + content
        return content
    separators = list(_SEPARATOR.finditer(before))
    last = separators[-1] if separators else None
    following = _SEPARATOR.search(behind)
    left = before[last.end() :] if last else _PART_LABEL.sub("", before)
    right = behind[: following.start()] if following else behind
    if last is not None and last["inequality"]:
        return _unwrapped(before + text[start:end] + right)
    if last is None and following is not None and following["inequality"]:
        return _unwrapped(before + text[start:end] + behind)
    if following is not None and following["equality"]:
        return content  # a blank that was filled in, or the first side of a chain
    if unit := _UNIT_BEHIND.match(behind):
        return content + unit[0]
    if _is_attached(left, right):
        return _unwrapped(left + text[start:end] + right)
    return content


def _formula(text: str, start: int, end: int) -> tuple[str, str, bool]:
    """What stands before and behind a box, in its formula or else in its paragraph, and whether it is in a formula."""
    before = _PARAGRAPH.split(text[max(0, start - MAX_CHARACTERS) : start])[-1]
    behind = _PARAGRAPH.split(text[end : end + MAX_CHARACTERS], maxsplit=1)[0]
    marks = list(_DELIMITER.finditer(before))
    closing = _DELIMITER.search(behind)
    if marks and closing and closing[0][-1] in "$)]":
        last = marks[-1]
        dollars = sum(mark[0][0] == "$" for mark in marks)
        if last[0] in ("\\(", "\\[") or (last[0][0] == "$" and dollars % 2):
            return before[last.end() :], behind[: closing.start()], True
    return before.rpartition("\n")[2], behind.partition("\n")[0], False


def _is_attached(left: str, right: str) -> bool:
    """Whether a factor, a summand, an exponent or a bracket touches the box on either side."""
    left = _SPACE_AT_END.sub("", left)
    space = _SPACE.match(right)
    right = right[space.end() :] if space else right
    if not left.strip("{") and not right.strip("}"):
        return False  # {\boxed{6}}
    return _VALUE_BEFORE.search(left) is not None or _VALUE_BEHIND.match(right) is not None


def _unwrapped(formula: str) -> str:
    r"""The formula without the commands of its boxes: `\boxed{6}^2` is `6^2`, `\boxed{x+1}^2` is `{x+1}^2`."""
    pieces = _BOX_COMMAND.split(formula)
    return pieces[0] + "".join(_NUMBER_IN_BRACES.sub(r"\1", piece, count=1) if piece.startswith("{") else piece
                               for piece in pieces[1:])  # fmt: skip
