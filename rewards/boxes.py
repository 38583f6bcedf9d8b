r"""The answer in the boxes of a completion: `\boxed{}` and `\fbox{}`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rewards.box_context import in_context
from rewards.denials import NEGATION
from rewards.latex import TEXT_COMMAND

_COMMAND = r"\\{1,2}(?:boxed|fbox)(?![a-zA-Z])"  # two backslashes: escaped once too often
_TOKEN = re.compile(rf"{_COMMAND}(?:\s*+(?P<brace>\{{))?|\\.|[{{}}]", re.DOTALL)
_WHOLE = re.compile(_COMMAND)
_MAX_NESTED = 8
_MAX_TOGETHER = 100
_MAX_FORMULA = 500
_CONTEXT = 80
"""Characters beside a box that are read."""

# --- a box without braces: \boxed 5, \boxed\frac12
_GROUP = r"(?:\{[^{}\n]{0,200}\}|[0-9a-zA-Z])"
_UNBRACED = re.compile(
    rf"\s{{0,8}}((?:[-+]?(?:[0-9]{{1,200}}(?:,[0-9]{{3}}){{0,60}}(?:\.[0-9]{{1,200}})?(?:/[0-9]{{1,200}})?|\.[0-9]{{1,200}}"
    rf"|\\[dt]?frac\s?{_GROUP}\s?{_GROUP}|\\sqrt\s?{_GROUP}|\\pi(?![a-zA-Z])))(?:\\?%)?|[A-J](?![\w']))"
    r"(?=\s*(?:[$.,;:!?)\]]|\\[)\]\\,;]|\Z)|\s+(?!(?:or|hundred|thousand|million|billion|trillion|dozen|percent)\b)[a-zA-Z(*])"
    r"(?!\s*[.,]?[0-9])"
)
_TO_DOLLAR = re.compile(r"\s{0,8}([^$\n{}]{0,100}(?:\{[^{}$\n]{0,100}\}[^$\n{}]{0,100}){0,8})\$")

# --- a box that is only spoken of: "I wrote it inside \boxed{} as you asked."
_PLACEHOLDERS = frozenset(
    ["", "...", "\u2026", "\\ldots", "\\dots", "\\cdots", "?", "\\square", "\\text{}", "answer", "your answer",
     "the answer",
     "final answer", "your final answer", "ANSWER"]
)  # fmt: skip
_SPOKEN_OF_BEFORE = re.compile(
    r"\b(?:in|inside|into|within|with|using|use|used|via|by|of|the|my|your|format|command|notation|macro|required|requested)"
    r"(?: a)?[ \t\n]+(?:[`\"'$(*]|\\\(){0,3}\Z",
    re.IGNORECASE,
)
_SPOKEN_OF_BEHIND = re.compile(
    r"(?:[`\"'$)*]|\\\)){0,3} (?:as (?:you|requested|asked|instructed|required|per)|format|notation|command|environment"
    r"|macro|tags?|syntax|style|above)\b"
)
_OPERATOR_BEHIND = re.compile(r"\s*[-+=*/]")  # a blank to be filled in: 3 + \boxed{?} = 8
_FINAL_WORDS = re.compile(r"[a-zA-Z.!`\"')]")

# --- what stands before a box
_DENIED = re.compile(
    NEGATION + r"(?: (?:be|equal|equal to|just|simply|to be|that|the))*[\s:]*(?:\$|\\\(|\*)*\s*\Z"
    rf"|(?:\\neq?(?![a-z])|\\not ?=|\\notin(?![a-z])|\u2260|!=|{TEXT_COMMAND} ?\{{ *not *\}})\s*\Z",
    re.IGNORECASE,
)
_NEGATED = r"(?:(?:is|was)(?:n['\u2019]t| not)|can(?:not|['\u2019]t| not) be)"
# Only a verdict that ends its sentence: "\boxed{5} is wrong.", not "is wrong to assume"
_DENIED_BEHIND = re.compile(
    r"(?:[$*)`}]|\\[)\]])*(?:\?+ (?:No|Not)(?=[.,!])|,? or so(?=[.,!\s]*\Z)"
    r"|,? or (?:maybe|perhaps|possibly)(?= [-$\\]*[0-9])"
    r"|(?:[?.]*,? ?\(?(?:(?:and |but )?(?:which|that|this|it) )?(?:"
    r"(?:is|was)(?: (?:clearly|obviously|definitely|certainly|actually|also))? (?:(?:the )?wrong(?: answer| one)?"
    r"|incorrect|invalid|impossible|absurd|a mistake|an error|ruled out|too (?:small|large|big|low|high)"
    r"|(?P<false>false))"
    rf"|{_NEGATED} (?:(?!only\b|just\b)\w+ )?(?:the |our |my |a |an )?"
    r"(?:(?:correct|right|true|valid|possible|final)(?: (?:answer|solution|value|result|one))?|answer|solution|it"
    rf"|result)|(?:does not|doesn['\u2019]t) work|fails|(?P<bare>{_NEGATED}))"
    r"|(?:: ?|\. | ?\()(?:wrong|incorrect))(?=\s*(?:[.!;)]|,(?! in\b)|\Z|\n|(?:since|because|as)\b)))",
    re.IGNORECASE,
)
_STATEMENT_BEFORE = re.compile(r"\b(?:statement|option|choice)[\s$(]*\Z", re.IGNORECASE)
_SIGN = re.compile(r"(?:(?:^|[=$({\[&:\n]|\\[(\[]|\b(?:is|are|be)[ ])\s*)(-|\u2212|\\pm ?|\\mp ?)\Z")

# --- boxes side by side that are one answer together
_NO_WORDS = re.compile(r"\$|\\[()\[\],;:! ]|\\q?quad(?![a-z])|~|\*\*")
_TEXT = re.compile(rf"{TEXT_COMMAND} ?\{{([^{{}}]*+)\}}")
_ITEM = re.compile(r"[ \t]*[.,;]?[ \t]*\n[ \t\n]*[-*\u2022][ \t]+\Z")
_NAME = r"[a-zA-Z](?:_\{?\w{1,3}\}?)?'?"
_JOINT = re.compile(
    rf"(?P<word>[,;&]|,? ?(?:and|or))(?: (?:maybe|perhaps|possibly|probably|else|even|(?:it )?(?:could|might|may) be))?"
    rf"(?: ?(?:(?P<name>{_NAME}) ?=|(?:the )?(?:other|second|third|fourth|last)"
    rf"(?: (?:one|root|solution|value|answer|number))?(?: (?:is|at|being|equals))?(?: {_NAME} ?=)?))?"
)
# Nothing that says which of two boxes counts
_MARKS = r"(?:\\[hv]space\*?\{[^{}]*\}|<br ?/?>|[\s.?!|/:(\\\u200b\u2014-])*+"
_NOTHING_BETWEEN = re.compile(rf"{_MARKS}(?:vs{_MARKS})?|\(or")
_NAME_BEFORE = re.compile(rf"(?<![\w\\])({_NAME}) ?=\s*(?:\$|\\\()?\s*\Z")

# --- what stands around a box in a box
_TOUCHES = re.compile(r"\s*+(?:\\[,;:! ])*+,?[0-9]")
_WORDS_AROUND = re.compile(rf"(?:{_NAME} ?=|[a-zA-Z'\s,:]|\\text|\\[,;:! ]|\$|[{{}}])*+")
# What a box in a box may stand behind: nothing, a sign, or a word that says that it is the value
_LEADS = re.compile(
    r"(?:\A|[=:]|\b(?:is|are|be|equals?|gives?|get|have|answer|result|value|thus|so|hence|therefore|about|approximately))"
    r"[\s,{}$]*(?:\\(?:text\b|[,;:! ])[\s{}]*)*\Z",
    re.IGNORECASE,
)
_CHANGES = re.compile(
    r"\b(?:not|no|never|minus|negative|half|twice|double|million|billion|trillion|thousand|hundred|dozen|percent|or|and"
    r"|square root|cube root|less|more|than|least|most|wrong|incorrect|false)\b|n['\u2019]t\b|\b[b-zA-Z]\s*\Z",
    re.IGNORECASE,
)


class NoBox(Exception):
    """There is no box, or only one that is spoken of."""


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a box and its content begin and end; `end` is -1 where it is never closed."""

    start: int
    content: int
    content_end: int
    end: int


def boxed_answer(text: str) -> tuple[str, ...]:
    r"""Return what the last box says, together with the boxes that it forms one answer with.

    `The roots are \boxed{4} and \boxed{9}` says `4, 9`. Two boxes side by side with nothing between them, and different
    things in them, say nothing. A box inside a box counts alone where the words around it only lead to it, as in
    `\boxed{The area is \boxed{24}}`; other words, numbers and signs around it belong to the answer. So does what is
    attached to a box from outside (`rewards.box_context`). Passed over are a box that is denied, `not \boxed{5}` or
    "\boxed{5} is wrong", and one that is only spoken of, `inside \boxed{} as you asked`. Words further away from a box
    than `_CONTEXT` characters are not read.

    Returns:
        The answer as it is written, and a second reading where there is one (`rewards.box_context`). Nothing where the
        last box is empty, cut off, denied with no other before it, or beside another one.

    Raises:
        NoBox: No box is meant as one.
    """
    boxes = [box for box in _boxes(text) if not _is_spoken_of(text, box)]
    if not boxes:
        raise NoBox
    denied = set()
    while boxes and boxes[-1].end >= 0 and _is_denied(text, boxes[-1]):
        denied.add(_content(text, boxes.pop()))
    # A cut or empty box never gives way to an earlier one.
    if not boxes or boxes[-1].end < 0:
        return ()
    outer = _outermost(boxes)
    content = _unwrapped(text, boxes, outer[-1])
    if not content.strip() or content.strip() in denied:
        return ()
    if _competes(text, outer):
        return ()  # `\boxed{4} \boxed{9}`: nobody can say which is meant
    together, first = _together(text, outer)
    return in_context(text, first.start, outer[-1].end, content if together is None else together)


def _competes(text: str, outer: list[_Box]) -> bool:
    """Whether a box that says something else stands directly before the last, on its line."""
    last = outer[-1]
    for first, second in zip(reversed(outer[-_MAX_TOGETHER:-1]), reversed(outer[-_MAX_TOGETHER:]), strict=False):
        between = text[first.end : second.start]
        if len(between) > _CONTEXT or "\n" in between or _NOTHING_BETWEEN.fullmatch(_plain(between)) is None:
            return False
        if _spelling(_content(text, first)) != _spelling(_content(text, last)):
            return True
    return False


def _spelling(content: str) -> str:
    r"""A content without what makes no difference: `\dfrac{1}{2}` is `\frac{1}{2}`, `\text{(B)}` is `B`."""
    plain = re.sub(r"\{(\w)\}", r"\1", re.sub(r"\\[dt]frac", r"\\frac", _TEXT.sub(r"\1", content)))
    return re.sub(rf"\A{_NAME} ?=|[\s$()]|\\[,;:! $]|\.0+\Z", "", plain)


def _is_denied(text: str, box: _Box) -> bool:
    """Whether the words directly before or behind a box say that it is not the answer."""
    if _DENIED.search(_before(text, box.start)):
        return True
    behind = _DENIED_BEHIND.match(text[box.end : box.end + _CONTEXT])
    if behind is None:
        return False
    # "Statement B is false" may be what was asked for, and "No, that is wrong" says no.
    content = _spelling(_content(text, box))
    is_verdict = content.lower() in ("yes", "no", "true", "false")
    is_verdict = is_verdict or (content.isalpha() and bool(behind["false"] or behind["bare"]))
    return not is_verdict and not _STATEMENT_BEFORE.search(_before(text, box.start))


def _before(text: str, position: int) -> str:
    return text[max(0, position - _CONTEXT) : position]


def _content(text: str, box: _Box) -> str:
    return text[box.content : box.content_end].strip()


def _boxes(text: str) -> list[_Box]:
    """All boxes in the order in which they begin."""
    found: list[_Box] = []
    open_braces: list[int] = []  # the number of the box whose brace it is, or -1
    for token in _TOKEN.finditer(text):
        piece = token[0]
        if piece == "}":
            number = open_braces.pop() if open_braces else -1
            if number >= 0:
                box = found[number]
                found[number] = _Box(box.start, box.content, token.start(), token.end())
        elif piece == "{":
            open_braces.append(-1)
        elif token["brace"]:
            open_braces.append(len(found))
            found.append(_Box(token.start(), token.end(), len(text), -1))
        elif _WHOLE.match(piece):
            found.append(_unbraced(text, token.start(), token.end()))
    return found


def _unbraced(text: str, start: int, end: int) -> _Box:
    r"""The box of `\boxed 5`: a number, a fraction or a letter, or the rest of a formula in dollars."""
    line = text[max(0, start - _MAX_FORMULA) : start].rpartition("\n")[2]
    match = _TO_DOLLAR.match(text, end) if line.count("$") % 2 else None
    match = match or _UNBRACED.match(text, end)
    if match is None:
        return _Box(start, end, end, -1)
    return _Box(start, match.start(1), match.end(1), match.end(1))


def _is_spoken_of(text: str, box: _Box) -> bool:
    """Whether a box without an answer in it is a mention; one at the end of the text is rather cut off."""
    is_bare = box.end < 0 and box.content == box.content_end
    if not is_bare and (box.end < 0 or _content(text, box) not in _PLACEHOLDERS):
        return False
    end = box.content if is_bare else box.end
    before, behind = _before(text, box.start), text[end : end + _CONTEXT]
    if is_bare and not _FINAL_WORDS.search(behind):
        return False
    if _SPOKEN_OF_BEFORE.search(before) or _SPOKEN_OF_BEHIND.match(behind):
        return True
    if before[-1:] in ("`", '"') and behind[:1] == before[-1:]:
        return True
    return not is_bare and _OPERATOR_BEHIND.match(behind) is not None


def _outermost(boxes: list[_Box]) -> list[_Box]:
    """The boxes that are in no other one. One that is never closed holds nothing."""
    outer: list[_Box] = []
    for box in boxes:
        if box.end >= 0 and (not outer or box.start >= outer[-1].end):
            outer.append(box)
    return outer


def _unwrapped(text: str, boxes: list[_Box], outer: _Box) -> str:
    """What the outermost box says: what is in the innermost one, where only words are around it."""
    box = outer
    inside = [other for other in boxes if outer.start < other.start and 0 <= other.end <= outer.end]
    for inner in inside[:_MAX_NESTED]:
        if inner.start < box.content or not _is_only(text, box, inner):
            break
        box = inner
    content = text[box.content : box.content_end]
    if inside and _WHOLE.search(content):
        if any(map(str.isdigit, text[box.content : inside[-1].start])):
            return content  # no answer: two numbers side by side are not one
        if not text[box.content : inside[0].start].strip():
            if _TOUCHES.match(text, inside[0].end):
                return content  # `\boxed{3}4` is no 34
            first = _content(text, inside[0])  # `\boxed{4} \text{ million}`, `\boxed{x+1}^2`
            first = first if first.replace(".", "").replace(",", "").isdigit() else f"{{{first}}}"
            return first + text[inside[0].end : box.content_end]
        content = _WHOLE.sub("", content)  # `-\boxed{4}` is -4
    return _signed(text, box, content) if box is outer else content


def _is_only(text: str, outer: _Box, inner: _Box) -> bool:
    r"""Whether a box says no more than the box in it: `\boxed{The area is \boxed{24}}`, not `\boxed{-\boxed{24}}`."""
    around = text[outer.content : inner.start], text[inner.end : outer.content_end]
    return (
        not any(_CHANGES.search(side) for side in around)
        and _LEADS.search(around[0]) is not None
        and (_WORDS_AROUND.fullmatch(around[0]) is not None and around[1].strip(" .,:;$\n}") == "")
    )


def _signed(text: str, box: _Box, content: str) -> str:
    r"""The content with the sign before its box: `x = -\boxed{5}`."""
    sign = _SIGN.search(_before(text, box.start))
    if sign is None:
        return content
    return f"{sign[1]}({content})" if set("+-=,<>") & set(content) else sign[1] + content


def _together(text: str, outer: list[_Box]) -> tuple[str | None, _Box]:
    """The answer that the last boxes form, `4, 9`, or None where the last one stands alone; and the first of them."""
    group = [outer[-1]]
    words, names = [], []
    for box in reversed(outer[-_MAX_TOGETHER:-1]):
        between = text[box.end : group[-1].start]
        if len(between) > _CONTEXT:
            break
        joint = _JOINT.fullmatch("," if _ITEM.fullmatch(between) else _plain(between))
        if joint is None:
            break
        words.append(joint["word"].strip(", "))
        names.append(joint["name"] or "")
        group.append(box)
    contents = [_signed(text, box, _content(text, box)) for box in reversed(group)]
    if len(set(contents)) == 1:
        return None, outer[-1]
    first = _NAME_BEFORE.search(_before(text, group[-1].start))
    names = [first[1] if first else "", *reversed(names)]
    if all(names) and len(set(names)) == len(names):
        contents = [f"{name} = {content}" for name, content in zip(names, contents, strict=True)]
    return (" or " if "or" in words else ", ").join(contents), group[-1]


def _plain(text: str) -> str:
    """The words between two boxes, without signs of mathematics and mark-up."""
    return " ".join(_NO_WORDS.sub(" ", _TEXT.sub(r" \1 ", text)).split())
