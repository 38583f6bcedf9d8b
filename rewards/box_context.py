r"""What stands around a box outside of it, and what that makes of the answer.

A box marks the answer, and mostly it stands alone: `x = \boxed{6}`. Where something is attached to it, the box is only
a part of what is said: `$x < \boxed{6}$` says no number, `$\boxed{6}^2$` is 36, and "\boxed{5} million" is not 5. Then
the answer is the side of the formula in which the box stands. A box on one side of an equation with a number is a blank
that was filled in: `$3 + \boxed{6} = 9$` says 6. Units, remarks and text beside a box leave its content alone.
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

_STRICT = r"[<>](?!=)|\\[lg]t(?![a-zA-Z])"
_EQUALITY = r"=|\u2248|\\(?:approx|simeq|equiv|in)(?![a-zA-Z])"
_ARROW = r"\u2192|\u21d2|\\(?:[Ll]ong)?(?:[Rr]ightarrow|mapsto)(?![a-zA-Z])|\\(?:implies|iff|to|therefore)(?![a-zA-Z])"
_SEPARATOR = re.compile(
    rf"(?P<strict>{_STRICT})|(?P<loose>[<>]=|[\u2264\u2265\u2260]|\\(?:[lg]eq?(?:slant|q)?|neq?)(?![a-zA-Z]))"
    rf"|(?P<equality>{_EQUALITY})"
    rf"|{_ARROW}|\\\\|&|(?<![{{\\])[,;:](?![0-9])|\\q?quad(?![a-zA-Z])|{TEXT_COMMAND}\s*\{{[^{{}}]*\}}"
)
_INEQUALITY_BEFORE = re.compile(rf"(?<![\w<\\])[a-zA-Z]\s?(?:{_STRICT})\s?(?:\$|\\\()?\s?\Z")
_VARIABLE = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])|\\(?!infty|[lg]t|text)[a-z]{2,}")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")

# What is attached to a box within its formula
_VALUE_BEFORE = re.compile(
    r"(?:[0-9)\]|^_/*+(\[\u00b7\u00d7\u2212-]|(?<![a-zA-Z\\])[a-zA-Z]|\\(?:cdot|times|div|pm|mp|pi|theta|left\(|left\[|left\||\{|sqrt"
    r"|sin|cos|tan|log|ln|lfloor|lceil|binom|[dt]?frac)|(?:\\[dt]?frac|\\sqrt(?:\[[^\]]*\])?|\\overline|\^|_|\\[dt]?frac\s*\{[^{}]*\})\s*\{)\Z"
)
_BRACKET_BEHIND = re.compile(r"[)\]}|]|\\\}|\\right(?![a-zA-Z])")
_VALUE_BEHIND = re.compile(
    r"[\^!/*+\u00b0\u00b2\u00b3\u00b7\u00d7\u2212\u03c0-]|_(?!\\square)|(?:\\left)?\(|(?:[.,:]|\{,\})?[0-9]|[a-zA-Z](?![a-zA-Z])"
    r"|\\(?:cdot|times|div|pm|mp|sqrt|[dt]?frac|binom|circ|rfloor|rceil|over|sin|cos|tan|log|ln"
    r"|pi|theta|alpha|beta|gamma|delta|lambda|mu|omega)(?![a-zA-Z])"
)
# Behind a box these say more about the same value: (x > 0), (cm), (mod 7), the number of a formula, a fraction of units
_REMARK_BEHIND = re.compile(
    r"(?:\\left)?\((?:\s*\\?(?:text|math|[bp]?mod)|[^()]*(?:[<>=]|\\(?:[lg]eq?|neq?|in)(?![a-zA-Z]))|[a-zA-Z]{2,}\))"
    rf"|\\frac\s*\{{\s*{TEXT_COMMAND}"
)
_FORMULA_NUMBER_BEHIND = re.compile(r"(?:\s|~|\\ |\\q?quad)+\([0-9]{1,2}\)\s*\Z")
_UNIT_LETTER_BEHIND = re.compile(rf"(?:\s|~|{SPACING})*[msghLNJWKV](?:\s*\^\s*\{{?[0-9]\}}?)?[\s.]*\Z")
# A number and the side of an equation in which the box is a blank: 9 = 4 + \boxed{5}
_NUMBER_BEFORE = re.compile(r"\s*(?:[0-9][0-9.,]*|\\[dt]?frac\s*\{[0-9]+\}\s*\{[0-9]+\}|[0-9]+/[0-9]+)\s*=\s*\Z")
_ATTACHED_BEFORE_IN_TEXT = re.compile(
    r"(?:\\[dt]?frac\s*(?:\{[^{}]*\}\s*)?|\\sqrt\s*(?:\[[^\]]*\])?)\{\s*\Z|\([-0-9., ]*[0-9], ?\Z"
)
_VALUE_BEHIND_IN_TEXT = re.compile(r"\^[0-9({\\]|(?:,[0-9]{2}(?=[0-9](?![0-9])))?[0-9]")
_UNIT_BEHIND = re.compile(
    rf"(?:\s|~|{SPACING})*({TEXT_COMMAND}\s*\{{[ ~]*[a-zA-Z]+(?:[ /][a-zA-Z]+)?[ ~.]*\}}"
    r"(?:\s*\^\s*(?:[0-9]|\{-?[0-9]\}))?)(?=[\s.$]*\Z)"
)
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,]*")
_ORDINAL_BEHIND = re.compile(rf"\^?\s*\{{?\s*(?:{TEXT_COMMAND}\s*\{{)?(?:st|nd|rd|th)\b")
_BEHIND = rf"(?:[\s$~]|\\[)\]]|\*\*|{SPACING}|{TEXT_COMMAND}\s*\{{\s*)*"
_SCALE_BEHIND = re.compile(
    rf"{_BEHIND}(hundred|thousand|million|billion|trillion|halves|(?:ten|hundred|thousand|million)ths|dozen(?=[.,!?$]|\s*\Z))(?![a-zA-Z-])"
)
_PERCENT_BEHIND = re.compile(rf"{_BEHIND}(?:(?:percent|per cent)(?![a-zA-Z])|\\?%)")
_PART_LABEL = re.compile(r"\A\s*\(?(?:[a-z]|[0-9]|i{1,3})\)(?=\s|\\[ ,;q]|~)")  # (a), 1)
_SPACE = re.compile(rf"(?:\s|~|{SPACING}|\\displaystyle(?![a-zA-Z]))*")
_SPACE_AT_END = re.compile(rf"(?:\s|~|{SPACING}|\\displaystyle|\\left(?=[(\[|]))*\Z")


def in_context(text: str, start: int, end: int, content: str) -> tuple[str, ...]:
    r"""Return what a box between two positions says together with what is attached to it.

    Two readings are both the writer's: `\boxed{5}\%` is 5 or 5 %, and `$n \ge \boxed{5}$` is 5 or the inequality.

    Args:
        text: The completion.
        start: Where the box begins, or the first of several that are one answer.
        end: Where it ends.
        content: What it says by itself.

    Returns:
        `content`, or the part of the formula that the box is a part of; and a second reading, where there is one.
    """
    before, behind, is_formula = _formula(text, start, end)
    if _ORDINAL_BEHIND.match(behind):
        return (content,)
    if scale := _SCALE_BEHIND.match(text[end : end + MAX_CHARACTERS]):
        return (f"{content} {scale[1]}",)
    said = _in_formula if is_formula else _in_text
    readings = said(before, text[start:end], behind, content)
    if readings == (content,) and _PERCENT_BEHIND.match(text[end : end + MAX_CHARACTERS]):
        return content, f"{content}\\%"
    return readings


def _in_text(before: str, box: str, behind: str, content: str) -> tuple[str, ...]:
    """What a box says that stands in no formula, by what touches it."""
    if _VALUE_BEHIND_IN_TEXT.match(behind):
        return (_unwrapped(box) + behind.split()[0],)
    if attached := _ATTACHED_BEFORE_IN_TEXT.search(before):
        return (_unwrapped(attached[0] + box + behind[:1]),)
    if relation := _INEQUALITY_BEFORE.search(before):
        return (relation[0].replace("$", "") + content,)
    return (content,)


def _in_formula(before: str, box: str, behind: str, content: str) -> tuple[str, ...]:
    """What a box says that stands in a formula, by the side of the formula in which it stands."""
    last, following = _last_separator(before), _first_separator(behind)
    left = before[last.end() :] if last else _PART_LABEL.sub("", before)
    right = behind[: following.start()] if following else behind
    is_bounded = last is not None and last["strict"] and not left.strip() and _VARIABLE.search(before)
    is_bound = following is not None and following["strict"] and not right.strip() and _VARIABLE.search(behind)
    if is_bounded and not is_bound:
        return (_unwrapped(before + box + right),)
    if last is None and is_bound:
        return (_unwrapped(before + box + behind),)
    if (following is not None and following["equality"]) or _NUMBER_BEFORE.fullmatch(before[: len(before) - len(left)]):
        return (content,)  # a blank that was filled in, or the first side of a chain
    if _is_attached(left, right, is_value=last is not None and last["equality"] is not None):
        return (_unwrapped(left + box + right),)
    if (unit := _UNIT_BEHIND.match(behind)) and _NUMBER.fullmatch(content.strip()) and _measures(unit[1]):
        return (content + unit[1],)
    if last is not None and last["loose"]:
        return content, _unwrapped(before + box + right)
    return (content,)


def _measures(text: str) -> bool:
    r"""Whether words behind a number are a unit of the table: `\text{ cm}`, not `\text{ total}`."""
    from rewards.math.units import read_unit  # the package imports this module

    unit = read_unit(text)
    return unit is not None and not unit.is_noun


def _last_separator(before: str) -> re.Match[str] | None:
    """The last separator before a box that is in no group of brackets which ends before the box."""
    depth, position = 0, len(before)
    for match in reversed(list(_SEPARATOR.finditer(before))):
        depth = _depth_before(before[match.end() : position], depth)
        position = match.end()
        if depth == 0:
            return match
    return None


def _depth_before(text: str, depth: int) -> int:
    """How many brackets are open to the left of a text, read from its end, that close in it or behind it."""
    for character in reversed(text):
        depth = max(0, depth + (character in _CLOSING) - (character in _OPENING))
    return depth


def _first_separator(behind: str) -> re.Match[str] | None:
    """The first separator behind a box that is in no group of brackets which begins behind the box."""
    depth = position = 0
    for match in _SEPARATOR.finditer(behind):
        for character in behind[position : match.start()]:
            depth = max(0, depth + (character in _OPENING) - (character in _CLOSING))
        position = match.start()
        if depth == 0:
            return match
    return None


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


def _is_attached(left: str, right: str, *, is_value: bool) -> bool:
    """Whether a factor, a summand, an exponent or a bracket touches the box on either side.

    Where the box is the value behind an equals sign, a bracket that ends behind it began before that sign.
    """
    if _FORMULA_NUMBER_BEHIND.fullmatch(right) or _UNIT_LETTER_BEHIND.fullmatch(right):
        right = ""
    left = _SPACE_AT_END.sub("", left)
    space = _SPACE.match(right)
    right = right[space.end() :] if space else right
    if not left.strip("{") and not right.strip("}"):
        return False  # {\boxed{6}}
    if _VALUE_BEFORE.search(left) is not None:
        return True
    if _REMARK_BEHIND.match(right) or (is_value and right.startswith("\\bmod")):
        return False
    is_bracket = _BRACKET_BEHIND.match(right) is not None and not is_value
    return is_bracket or right.startswith("\\bmod") or _VALUE_BEHIND.match(right) is not None


def _unwrapped(formula: str) -> str:
    r"""The formula without the commands of its boxes: `\boxed{6}^2` is `6^2`, `\boxed{x+1}^2` is `{x+1}^2`."""
    pieces = _BOX_COMMAND.split(formula)
    return pieces[0] + "".join(_NUMBER_IN_BRACES.sub(r"\1", piece, count=1) if piece.startswith("{") else piece
                               for piece in pieces[1:])  # fmt: skip
