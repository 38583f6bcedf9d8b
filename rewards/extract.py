"""The final answer inside a completion.

Every scan here is linear in the text it reads. But for the search for the end of the reasoning, at most the last
`WINDOW` characters of a completion are read: what stands before is neither an answer nor a way to slow the reward down.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from rewards.boxes import NoBox, boxed_answer
from rewards.denials import NEGATION, OTHER_THAN
from rewards.latex import TEXT_COMMAND
from rewards.reasoning import reply_start

WINDOW = 200_000
"""Characters at the end of a completion that are read. A box that opens before them is not seen."""

_DELIMITERS = (("\\(", "\\)"), ("\\[", "\\]"))
_SPACING = ("\\,", "\\;", "\\:", "\\!", "\\ ")
_OPENING_LINES = ("$$", "$", "\\[", "\\(")
_BOLD_AND_CODE = ("**", "__", "*", "`")
# Only ASCII letters, so that positions in the lowered text are positions in the text.
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_SPACE_AT_START = re.compile(r"(?:\s|\\[,;:! ])*+")
_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NUMBER_RUN = _DIGITS | frozenset(" .,/+-\u2212*\u00d7\u00b7^%$")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_ABBREVIATIONS = ("i.e", "e.g", "approx", "vs")
_CONTEXT = 80
"""Characters before a number that are searched for a word that denies it."""

# "The answer" + ...
_DENIED = re.compile(
    r"[ *_]*+(?:can['\u2019]t|can ?not|won['\u2019]t|(?:is|was|could|would|should|must|might|may|does"
    r"|will)(?:n['\u2019]?t| not)"
    r"|(?:is|was)(?:,? (?:in fact|of course),?| [a-z]{2,}){0,2} (?:not|never|neither|no longer"
    r"|anything but))\b(?: be\b| equal\b)*"
)
_BUT = re.compile(r"(?:\bbut |[,;\u2014] ?(?=it(?: is|'s) ))(?:rather |actually |instead |it is |it's )*+")
_DOUBTED = re.compile(
    r"\b(?:doubt|no way|don['\u2019]t (?:think|believe)|not (?:think|believe|true|correct|the case)|false that"
    r"|wrong|incorrect"
    r"|isn['\u2019]t (?:true|correct|the case))\b[^.;:!?\n]*\Z"
)
_SUPPOSED = re.compile(r"\b(?:if|whether|suppose|assuming|unless)\b[^.,;:!?\n]*\Z")
_CONTRAST = re.compile(r",?(?: and| but)? (?:not|rather than|instead of|as opposed to)\b([^,;]{0,60})\Z")
# Only where a sentence begins, see `_taken_back`
_TAKEN_BACK = re.compile(
    r"(?<![a-z'])(?:(?:correction|scratch that)\b|(?:(?:wait|no|oops|sorry|actually|hmm)[,:.! \u2014-]{1,6}){1,4}"
    r"(?:it(?:'s| is| should be| must be)|that(?:'s| is| was) (?:wrong|incorrect|not right)|make that|i meant?"
    r"|the (?:correct |right )?(?:value|result|number|total) is)\b|(?<=no[,:] )(?=[-$\\0-9]|[a-j]\b))"
)

# Directly before an unmarked number
_DENIED_BEFORE = re.compile(
    rf"(?:{NEGATION}|{OTHER_THAN})"
    + r"(?: (?:be|equal|equals|to|is|exactly|simply|just|definitely|the|a|number|value|answer))* (?:[$*]|\\\("
    r"|[a-z] ?){0,3}\Z",
    re.IGNORECASE,
)
_ALTERNATIVE_BEFORE = re.compile(
    r"\bor(?: (?:maybe|perhaps|possibly|probably|even|it|is|could|might|may|be|else|something|like|about|around))+ \Z"
)
_DENIED_BEHIND = re.compile(
    r"[$*)]{0,3} (?:(?:is|was)(?:n['\u2019]t| not|,? (?:wrong|incorrect|false|impossible))|cannot"
    r"|can['\u2019]t)\b|[$*)]{0,3}\?"
)
_RELATION_BEFORE = re.compile(
    r"(?:\b(?:(?:less|more|greater|smaller|larger|fewer) than(?: or equal to)?|at (?:least|most)(?: equal to)?|up to"
    r"|exceed(?:s|ing)?|above|below|beyond|under|over|not equal to)(?: \\\(|(?= ?\$?\Z))"
    r"|\u2260|\u2264|\u2265| [<>!]=?|\\(?:neq?|not|lt|gt|[lg]eq?(?:slant)?)) ?\$?\Z"
)
_SCALE = re.compile(r" (?:percent|per cent|hundred|thousand|million|billion|trillion|dozen)\b")
# A formula that no dollar signs delimit. The alternatives are tried in this order, each repetition without a way back.
_FORMULA = re.compile(
    rf"(?:{TEXT_COMMAND} ?\{{[^{{}}\n]*+\}}"
    r"|\\(?!(?:implies|[Rr]ightarrow|[Ll]ongrightarrow|to|therefore|q?quad|begin|end|item|neq?|not|[lg]t|[lg]eq?(?:slant)?"
    r"|approx|displaystyle|boxed|fbox)(?![a-zA-Z]))[a-zA-Z]++"
    r"|\\[,;:!%{}|$]|(?<!\\)[-0-9+*/^_(){}\[\]|,.!'\u2212\u00d7\u00b7%\u00b0]"
    r"|(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])|(?<=[0-9)}]) (?:or|and) (?=[-\\0-9])"
    r"|(?<=\S) (?=\S))++"
)
# [[5]] at the end of the text, as judges of models are asked to write it
_IN_TWO_BRACKETS = re.compile(r"\[\[([^\[\]\n]{1,60}+)\]\][\s.*]*+\Z")
_ARTICLE = re.compile(r"[aAI] (?=[\\0-9-])")


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
    second: str | None = None
    """Another reading of a box with something beside it: `5\\%` of `\\boxed{5}\\%`, whose text is 5."""


def extract_answer(text: str, *, rules: Collection[Rule] = ALL_RULES) -> Extraction | None:
    r"""Find the final answer in a completion.

    Only the reply behind the reasoning counts (`rewards.reasoning`); reasoning that was begun and not ended holds no
    answer. What stands in `<!-- -->` is not shown to a reader and does not count. In the rest, the first of these that
    occurs decides: the last `\boxed{}` or `\fbox{}`, together with those beside it (`rewards.boxes`); the last
    `<answer></answer>`; the last `####`, up to the end of its line; the last "answer is" or "answer:", up to the end of
    its sentence or line; the right-hand side of the last equation or, where a number comes after it, the last number. A
    marker at the end of a line speaks of the next line that is not blank.

    A mark that is broken or empty is no answer. It never gives way to an earlier mark or to another rule: a completion
    that was cut inside its final box must not be paid for an intermediate one. What is denied in one of the phrases
    listed in this module is no answer either: "The answer isn't 5", "it is 6, not 5".

    Args:
        text: The completion.
        rules: Which rules apply; a mark of another one is text like any other. `MARKED_RULES` demands a mark.

    Returns:
        The answer, or None where there is none.
    """
    reply = reply_start(text)
    if reply is None:
        return None
    start = max(reply, len(text) - WINDOW)
    text = text[start:] if start else text
    if "<!--" in text:
        text = _without_comments(text)
    if ("\\boxed" in text or "\\fbox" in text) and Rule.BOXED in rules:
        try:
            return _boxed(boxed_answer(text))
        except NoBox:
            pass  # a text that only speaks of boxes may have another mark
    lowered = text.translate(_LOWER)
    if "<answer>" in lowered and Rule.ANSWER_TAG in rules:
        return _extraction(_last_tag(text, lowered), Rule.ANSWER_TAG)
    if "####" in text and Rule.HASHES in rules:
        return _extraction(_line_after(text, text.rfind("####") + 4), Rule.HASHES)
    if "answer" in lowered and Rule.ANSWER_IS in rules:
        said = _last_said(text, lowered)
        if isinstance(said, str):
            return _extraction(said, Rule.ANSWER_IS)
        text = text[said:]
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


def _boxed(readings: tuple[str, ...]) -> Extraction | None:
    found = _extraction(readings[0], Rule.BOXED) if readings else None
    return replace(found, second=tidy(readings[1])) if found and len(readings) > 1 else found


def _without_comments(text: str) -> str:
    """The text without `<!-- -->`; a comment that does not end hides the rest."""
    pieces, start = [], 0
    while (opening := text.find("<!--", start)) >= 0:
        pieces.append(text[start:opening])
        closing = text.find("-->", opening + 4)
        start = closing + 3 if closing >= 0 else len(text)
    return "".join(pieces) + text[start:]


def _without_spacing(text: str) -> str:
    """Drop white space and spacing commands at both ends."""
    match = _SPACE_AT_START.match(text)
    start, end = match.end() if match else 0, len(text)
    while end > start:
        if text[end - 1].isspace():
            end -= 1
        elif text[max(start, end - 2) : end] in _SPACING and text[max(start, end - 3) : end - 2] != "\\":
            end -= 2
        else:
            break
    text = text[start:end]
    return text.rstrip("\\").rstrip() if text.endswith("\\") else text  # a line break, or what is left of `\ `


def _without_dollars(text: str) -> str:
    """Drop dollar signs that delimit mathematics; one that stands before an amount is a currency sign and stays."""
    if "\\$" in text:
        return text
    text = text.replace("$$", "$")
    if text.count("$") == 2:
        return text.replace("$", " ")
    return text[:-1] if text.count("$") == 1 and text.endswith("$") else text


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
    lowered = text.translate(_LOWER)
    found = lowered.rfind("answer")
    while found >= 0:
        if (end := _end_of_phrase(lowered, found)) is not None:
            return text[end:].strip(" \t*_`")
        found = lowered.rfind("answer", 0, found)
    return text


def _last_said(text: str, lowered: str) -> str | int:
    """What is said behind the last "answer is" or "answer:".

    Where nothing is, or it is denied or taken back, the position from which on an answer may stand without a mark.
    """
    rest, denied, supposed = 0, "", 0
    found = len(lowered)
    while (found := lowered.rfind("answer", 0, found)) >= 0:
        end, denial = _end_of_phrase(lowered, found), _DENIED.match(lowered, found + len("answer"))
        before = lowered[max(0, found - _CONTEXT) : found]
        if end is None and denial is None:
            continue
        if _SUPPOSED.search(before):
            supposed = supposed or found
            continue
        if denial is None and end is not None and not _DOUBTED.search(before):
            if not rest and (taken_back := _taken_back(lowered, end)):
                return taken_back
            answer = _without_contrast(_first_sentence(_line_after(text, end)))
            return answer if not rest or (denied and tidy(answer) != denied) else rest
        if not rest:
            end = denial.end() if denial else end or 0
            sentence = _first_sentence(text[end:].partition("\n")[0])
            if denial and "anything" not in denial[0] and (but := _BUT.search(sentence)):
                return sentence[but.end() :]
            # Of "is not obvious" nobody knows whether it takes back what was said before.
            denied, rest = "" if _DIGITS.isdisjoint(sentence) else tidy(sentence), end + len(sentence)
    if supposed > rest:
        rest = supposed + len(_first_sentence(text[supposed:].partition("\n")[0]))
    return rest


def _taken_back(lowered: str, start: int) -> int:
    """Where the words end that take back what was said: "Correction: ", "Wait, it is"; 0 where there are none."""
    for match in _TAKEN_BACK.finditer(lowered, start):
        before = lowered[max(0, match.start() - 4) : match.start()]
        if "\n" in before or before.rstrip(" \t*").endswith((".", "!", "?", ";", "\u2014")):
            return match.end()
    return 0


def _without_contrast(sentence: str) -> str:
    """The sentence without what it says the answer is not: `6, not 5`."""
    match = _CONTRAST.search(sentence)
    value = sentence[: match.start()] if match else ""
    if match is None or (len(tidy(value)) > 1 and _DIGITS.isdisjoint(value)):
        return sentence
    return sentence if tidy(value) == tidy(match[1]) else value


_SAID_TO_EQUAL = re.compile(
    r"[ *_]*+(?:(?:simply|just|exactly|then|thus|therefore|indeed)[ ,]++)?(?:equal to|given by)\b[ *_]*+"
)


def _end_of_phrase(lowered: str, found: int) -> int | None:
    """Where the "answer is" or "answer:" ends that begins at `found`, emphasis between the words allowed."""
    i = _skip(lowered, found + len("answer"), " *_")
    if lowered.startswith("is", i) and not (
        lowered[i + 2 : i + 3].isalnum() or lowered[i + 2 : i + 3] in ("'", "\u2019")
    ):
        i = _skip(lowered, i + 2, " *_")
        if equal := _SAID_TO_EQUAL.match(lowered, i):
            i = equal.end()
        return i + 1 if lowered.startswith(":", i) else i
    return i + 1 if lowered.startswith(":", i) else None


def _skip(text: str, start: int, characters: str) -> int:
    while start < len(text) and text[start] in characters:
        start += 1
    return start


def _first_sentence(line: str) -> str:
    """The text up to a full stop that ends a sentence; one inside a number does not."""
    for i, character in enumerate(line):
        if character == "." and line[i + 1 : i + 2] in (" ", "\t", "*"):
            if line.endswith(_ABBREVIATIONS, 0, i):
                continue
            return line[:i]
    return line


def _unmarked(text: str, rules: Collection[Rule]) -> Extraction | None:
    """The value of the last equation or the last number, whichever comes last, unless it is denied."""
    tail = text[-_CONTEXT:]
    if Rule.NUMBER in rules and tail.count("[[") == 1 and (bracketed := _IN_TWO_BRACKETS.search(tail)):
        is_denied = _DENIED_BEFORE.search(tail[: bracketed.start()]) is not None
        return None if is_denied else _extraction(bracketed[1], Rule.NUMBER)
    last_digit = max((text.rfind(digit) for digit in "0123456789"), default=-1)
    equals = text.rfind("=")
    if (
        Rule.EQUATION in rules
        and equals >= 0
        and text[equals - 1 : equals] not in ("<", ">", "!", ":", "=")
        and not text.startswith(">", equals + 1)
    ):
        end = _end_of_value(text, equals + 1)
        if end > last_digit:
            is_denied = _DENIED_BEFORE.search(text[max(0, equals - _CONTEXT) : equals]) is not None
            return None if is_denied else _extraction(text[equals + 1 : end], Rule.EQUATION)
    if Rule.NUMBER not in rules or last_digit < 0:
        return None
    start, number = _number_around(text, last_digit)
    before = text[max(0, start - _CONTEXT) : start].rpartition("\n")[2]
    if denial := _DENIED_BEFORE.search(before):
        # `it is 6, not 5`
        earlier = before[: denial.start()].rpartition(". ")[2]
        digits = [i for i, character in enumerate(earlier) if character in _DIGITS]
        number = _number_around(earlier, digits[-1])[1] if digits else None
    elif (
        _ALTERNATIVE_BEFORE.search(before)
        or (_RELATION_BEFORE.search(before) and before.strip() != ">")
        or _DENIED_BEHIND.match(text, last_digit + 1)
    ):
        return None
    return _extraction(number, Rule.NUMBER)


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


def _number_around(text: str, last_digit: int) -> tuple[int, str | None]:
    """Where the number begins that ends at `last_digit`, and it, with the arithmetic or list that it is the end of.

    `14, 15` and `2 + 3` stay whole, so that half of them is not taken for an answer. No number where it is part of
    something else, such as an argument or a subscript.
    """
    line_start = max(text.rfind("\n", 0, last_digit), text.rfind(". ", 0, last_digit)) + 1
    line_end = text.find("\n", last_digit)
    line_end = len(text) if line_end < 0 else line_end
    opening, closing = text.rfind("$", line_start, last_digit), text.find("$", last_digit, line_end)
    if opening >= 0 and closing >= 0:
        return opening, text[opening + 1 : closing]
    if "\\" in text[line_start:line_end]:
        for formula in _FORMULA.finditer(text, line_start, line_end):
            if formula.start() <= last_digit < formula.end() and "\\" in formula[0]:
                return formula.start(), _balanced(_ARTICLE.sub("", formula[0].strip(" ,"), count=1))
    start, end = last_digit, last_digit + 1
    while start > line_start:
        if text[start - 1] in _NUMBER_RUN:
            start -= 1
        elif text.endswith(" or", line_start, start):
            start -= 2
        elif text.endswith(" and", line_start, start) and text[start - 5 : start - 4] in _DIGITS:
            start -= 3
        else:
            break
    while end < line_end and (text[end] in _LETTERS or text[end] in "%\u00b0"):
        end += 1
    if scale := _SCALE.match(text, end):
        end = scale.end()
    before, number = text[start - 1 : start], text[start:end].lstrip(" .,/+*\u00d7\u00b7^%")
    begin = end - len(number)
    if text[max(0, begin - 2) : begin] in (" .", ".") and number[:1] in _DIGITS:
        number = f".{number}"  # .75
    touching = start > line_start and text[start] != " "
    if (touching and (before in _LETTERS or before in "_\\")) or before in _OPENING or text[end : end + 1] in _CLOSING:
        return start, None
    # A dash is a sign where it touches the number and punctuation otherwise.
    start = end - len(number)
    return start, number.lstrip("-\u2212 ") if number.startswith(("- ", "\u2212 ", "--")) else number


def _balanced(formula: str) -> str | None:
    """The formula without a bracket that closes around it; None where its braces do not match."""
    while formula.endswith((")", "]", ".", ",")) and not formula.endswith(("\\)", "\\]")):
        closing = formula[-1]
        if closing in ")]" and formula.count(closing) <= formula.count("(" if closing == ")" else "["):
            break
        formula = formula[:-1]
    return formula if formula.count("{") == formula.count("}") else None
