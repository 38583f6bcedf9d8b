"""Where a model's reasoning ends and its reply begins.

Reasoning models write their thoughts between marks, `<think>...</think>` most of them. Thoughts are no answer: what
stands in them is neither paid nor punished. Every reward that looks for an answer or a program asks here for the reply.
"""

from __future__ import annotations

import re

# One name for the marks that open and close the same kind of block. `/` or another word closes.
_MARK = re.compile(
    r"<(?P<close>/?)(?P<name>think|thinking|thought|thoughts|reasoning|seed:think|mm:think|longcat_think)>"
    r"|\[(?P<square>/?)THINK\]"
    r"|\u25c1(?P<triangle>/?)think\u25b7"
    r"|<\|(?P<side>begin|end)_of_(?P<part>thought|reasoning)\|>"
    r"|<\|(?P<edge>START|END)_THINKING\|>"
    r"|<\|channel\|>(?P<channel>analysis|final)\b(?:<\|message\|>)?",
    re.IGNORECASE,
)
_CLOSING = ("/", "end", "final")
_HINTS = ("hink", "HINK", "hought", "HOUGHT", "easoning", "EASONING", "|>")  # one of them is in every mark

# A mark that is spoken of: `<think>`, "the <think> tags", <think> and </think>
_QUOTES = {"`": "`", '"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
"""An opening quotation mark to its closing one."""
_FENCE = "```"
_NOUN_BEHIND = re.compile(r"`?[ -](?:tag|block|section|token|marker)s?\b")
_WORD_BEFORE = re.compile(
    r"\b(?:the|a|an|my|your|in|inside|within|between|with|without|using|use|used|of|by|called|named|no) \Z",
    re.IGNORECASE,
)
# What follows a mark that is only spoken of: "I will not use <think>.", "between <think> and"
_MENTION_BEHIND = re.compile(r"\Z|[.,;:!?)]|[ ](?:and|or|to|for|in|as|at|is|was|here|before|then|now|marks?|on)\b")
_NAMES = "think|thinking|thought|thoughts|reasoning|seed:think|mm:think|longcat_think"
_TAIL = 400
"""Characters at the end of a prompt that are read."""
# Nobody types these in a question.
_SPECIAL_AT_THE_END = re.compile(
    r"(?:\[THINK\]|\u25c1think\u25b7|<\|begin_of_(?:thought|reasoning)\|>|<\|START_THINKING\|>"
    r"|<\|channel\|>analysis<\|message\|>)\Z",
    re.IGNORECASE,
)
_TAG_AT_THE_END = re.compile(rf"<(?:{_NAMES})>\Z", re.IGNORECASE)
# What stands before a tag in a chat template: the header of the reply, or "Assistant: Let me think step by step."
_HEADER_AT_THE_END = re.compile(
    r"(?:\A|[|\uff5c]>|\[/INST\]|</?s>|\bassistant[:>]?|<start_of_turn>model"
    r"|(?:\A|[\n>])[ \t]*assistant(?::|\n)[^\n]{0,200})\Z",
    re.IGNORECASE,
)
_PAIR = re.compile(r"\A(?: (?:and|or) |\.\.\.|\u2026|/)\Z")


def with_opened_reasoning(prompt: object, completion: str) -> str:
    """Return the completion behind the mark by which its prompt has opened the reasoning, where it ends with one.

    Chat templates of reasoning models end with `<think>`, so that the model writes its thoughts without the mark. It
    stands behind the header of the reply. A question that ends with it, "Reply in the form <think>", opens nothing, and
    neither does a prompt that is no text, such as a list of messages.
    """
    if not isinstance(prompt, str):
        return completion
    tail = prompt.rstrip()[-_TAIL:]
    if special := _SPECIAL_AT_THE_END.search(tail):
        return special[0] + completion
    tag = _TAG_AT_THE_END.search(tail)
    is_opened = tag is not None and _HEADER_AT_THE_END.search(tail[: tag.start()].rstrip()) is not None
    return tag[0] + completion if tag and is_opened else completion


def reply_start(text: str) -> int | None:
    """Return where the reply begins in what a model wrote, behind its reasoning.

    A text without reasoning is a reply from its first character. Reasoning that was begun and not ended, because the
    completion was cut, has no reply; so it does not matter whether the model or the prompt's chat template began it, as
    long as the text has the mark. A closing mark alone ends reasoning that the prompt began.

    A mark that is only spoken of neither begins nor ends anything: one in quotation marks, "the <think> tag",
    "<think> and </think>".

    Args:
        text: The completion.

    Returns:
        The position behind the last closing mark, 0 where there is none, or None where reasoning is still open.
    """
    if not any(hint in text for hint in _HINTS):
        return 0
    marks = list(_MARK.finditer(text))
    start = 0
    decided = set()  # kinds whose last mark was found
    for i in range(len(marks) - 1, -1, -1):
        kind = _kind(marks[i])
        if kind in decided or _is_spoken_of(text, marks, i):
            continue
        if not _closes(marks[i]):
            return None
        start = max(start, marks[i].end())
        decided.add(kind)
    return start


def _kind(mark: re.Match[str]) -> str:
    group = mark.lastgroup or ""
    return mark[group].lower() if group in ("name", "part") else group


def _closes(mark: re.Match[str]) -> bool:
    group = {"name": "close", "part": "side"}.get(mark.lastgroup or "", mark.lastgroup or "")
    return mark[group].lower() in _CLOSING


def _is_spoken_of(text: str, marks: list[re.Match[str]], i: int) -> bool:
    mark = marks[i]
    before, behind = text[max(0, mark.start() - 12) : mark.start()], text[mark.end() : mark.end() + 12]
    if not before:
        return False
    is_fenced = before.endswith(_FENCE) or behind.startswith(_FENCE)
    if not is_fenced and behind and _QUOTES.get(before[-1]) == behind[0]:
        return True
    # A word before it says little of a closing mark: thoughts may end with any word.
    # One that opens and ends its line is none that is spoken of.
    is_opening = not _closes(mark) and not behind.startswith("\n")
    if _NOUN_BEHIND.match(behind) or (is_opening and _WORD_BEFORE.search(before) and _MENTION_BEHIND.match(behind)):
        return True
    return _is_pair(text, marks, i) or _is_pair(text, marks, i - 1)


def _is_pair(text: str, marks: list[re.Match[str]], i: int) -> bool:
    """Whether a mark and the next are named in one breath: `<think> and </think>`."""
    if not 0 <= i < len(marks) - 1:
        return False
    first, second = marks[i], marks[i + 1]
    if first.start() == 0 or _closes(first) or not _closes(second) or _kind(first) != _kind(second):
        return False
    return _PAIR.match(text[first.end() : min(second.start(), first.end() + 6)]) is not None
