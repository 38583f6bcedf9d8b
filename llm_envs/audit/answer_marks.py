r"""How a task's solutions mark their answer, so that anything else can be put into the same marks.

The audit knows nothing of a task but its prompts, references and solutions. From a solution such as
`2 + 12 = 14. \boxed{14}` it takes the answer `14` and the marks around it, `\boxed{` and `}`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from llm_envs.problem import Problem
from rewards.extract import MARKED_RULES, Rule, extract_answer

_FENCE = re.compile(r"(```[a-zA-Z0-9]*\n)(.*?)(\n?```)", re.DOTALL)
_MARKS = {
    Rule.BOXED: ("\\boxed", "\\fbox"),
    Rule.ANSWER_TAG: ("<answer>",),
    Rule.HASHES: ("####",),
    Rule.ANSWER_IS: ("the answer", "answer"),
}
_MOST_MARKS = 6
_TAG = re.compile(r"<([A-Za-z][\w-]*)>")
_REASONING_TAGS = frozenset(["think", "thinking", "thought", "reasoning", "scratchpad"])
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
# the rest of a line behind `####`, "answer is" or "answer:", up to emphasis, a full stop or another mark
_PHRASE = r"(?:\#\#\#\#|(?:\bthe\s+|\bfinal\s+)*\banswer(?:\s+is\b:?|\s*:|\s*=))[ \t*_$]*"
_LINE_MARK = re.compile(rf"{_PHRASE}([^\s<\\`*_$][^\n<\\`*_$]*?)[ \t*_.$]*(?=$|[\n<\\`])", re.IGNORECASE)
_LINE_AROUND_MARK = re.compile(rf"{_PHRASE}([<\\][^\n]*?)[ \t*_.$]*(?=$|\n)", re.IGNORECASE)
# marks that stand around much else as well: they count where they hold the answer
_EMPHASIS = (
    re.compile(r"\[\[([^\n\[\]]+)\]\]"),
    re.compile(r"(?<!\*)\*\*([^\n]+?)\*\*(?!\*)"),
    re.compile(r"(?<!\w)__([^\n]+?)__(?!\w)"),
)
_DECORATION = re.compile(r"\\text|\\left|\\right|[\s{}()\[\]\"'`$.,;!?]|\\[,;: ]")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+|/[1-9]\d*)?")


@dataclass(frozen=True, slots=True)
class AnswerMarks:
    """The answer of a solution, and what it stands in.

    Attributes:
        before: The mark before the answer; empty where the whole completion is the answer.
        answer: The answer as the solution writes it.
        after: What stands behind the answer.
        fenced: Whether the mark is a fenced block.
        between: Of a solution that marks several answers and has all of them filled at once: what stands between them.
        others: What the solution's other marks hold: to give one of these back proves nothing.
    """

    before: str
    answer: str
    after: str
    fenced: bool = False
    between: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def fill(self, content: str) -> str:
        """A completion that gives `content` as its answer, in the marks of the solution."""
        return content.join((self.before, *self.between, self.after))

    @property
    def is_marked(self) -> bool:
        """Whether anything tells the answer from the text around it."""
        return bool(self.before)

    @property
    def is_program(self) -> bool:
        """Whether the answer is source code: Python's parser finds statements in it."""
        if self.fenced:
            return True
        try:
            tree = ast.parse(textwrap.dedent(self.answer))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            # the body of a function, as the completion of its head
            return re.search(r"^\s+(return|for|if|while)\b", self.answer, re.MULTILINE) is not None
        return any(not isinstance(node, ast.Expr) for node in tree.body)

    @property
    def is_short(self) -> bool:
        """Whether the answer is a word, a number, a formula: something that could stand inside a larger one."""
        return "\n" not in self.answer and len(self.answer) <= 200 and not self.is_program


def marks_of(problem: Problem) -> AnswerMarks:
    """The answer of a problem, and the marks around it in its solution.

    Raises:
        ValueError: The problem has none.
    """
    solution = problem.solution
    if solution is None:
        raise ValueError("a problem without a solution has no marks")
    blocks = list(_FENCE.finditer(solution))
    if blocks:
        last = blocks[-1]
        return AnswerMarks(last[1], last[2], last[3], fenced=True)
    extraction = extract_answer(solution, rules=MARKED_RULES)
    if extraction is not None:
        start = solution.rfind(extraction.text)
        mark = max(solution.lower().rfind(sign, 0, max(start, 0)) for sign in _MARKS[extraction.rule])
        if extraction.rule is Rule.ANSWER_IS:  # "the answer" is one mark, of which the second sign is a part
            longer = solution.lower().rfind("the answer", 0, max(start, 0))
            mark = longer if 0 <= longer == mark - 4 else mark
        if 0 <= mark < start:
            end = start + len(extraction.text)
            return AnswerMarks(solution[mark:start], extraction.text, solution[end:])
    reference = problem.reference
    if isinstance(reference, str | int) and str(reference):
        for place in sorted(_emphasized(solution, str(reference)), key=lambda place: place.content, reverse=True):
            return AnswerMarks(solution[place.start : place.content], str(reference), solution[place.content_end :])
    if isinstance(reference, str | int) and str(reference) and solution.rstrip(" .\n").endswith(str(reference)):
        return AnswerMarks("", str(reference), "")
    return AnswerMarks("", solution, "")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mark is in a solution: the mark begins, its content begins, that ends, the mark ends."""

    start: int
    content: int
    content_end: int
    end: int
    fenced: bool = False

    def holds(self, other: _Place) -> bool:
        return self.content <= other.start and other.end <= self.content_end and self != other

    def marks(self, text: str, answer: str, outer: _Place | None = None, others: tuple[str, ...] = ()) -> AnswerMarks:
        """The marks at this place around an answer, with those of the `outer` one around them."""
        around = outer or self
        before, after = text[around.start : self.content], text[self.content_end : around.end]
        return AnswerMarks(before, answer, after, self.fenced, others=others)


def every_mark_of(problem: Problem) -> list[AnswerMarks]:
    r"""Each mark in a problem's solution, that of the answer first; then nested ones together, and all of them at once.

    A reward may read another mark than a solution's last one. Of `<answer>58</answer> It is \boxed{58}` there are the
    box, the tag, and both with one content.

    >>> marks = every_mark_of(Problem("?", 58, "<answer>58</answer> It is \\boxed{58}"))
    >>> [mark.fill("x") for mark in marks]
    ['\\boxed{x}', '<answer>x</answer>', '<answer>x</answer> It is \\boxed{x}']

    Raises:
        ValueError: The problem has no solution.
    """
    first = marks_of(problem)
    solution = str(problem.solution)
    places = _places(solution)
    places += [place for place in _emphasized(solution, first.answer) if place not in places]
    if len(places) < 2:
        return [first]
    others = tuple(dict.fromkeys(solution[place.content : place.content_end].strip() for place in places))
    places.sort(key=lambda place: (solution[place.content : place.content_end].strip() != first.answer, -place.start))
    found = []
    nested = []
    for place in places:
        # of a mark that holds another one, the answer is what that one holds: the right mark must not be left in it
        held = [inner for inner in places if place.holds(inner)]
        inmost = max(held, key=lambda inner: inner.content, default=place)
        answer = solution[inmost.content : inmost.content_end]
        found.append(place.marks(solution, answer, others=others))
        around = [outer for outer in places if outer.holds(place)]
        if around and not held:
            nested.append(place.marks(solution, answer, min(around, key=lambda outer: outer.start), others))
    found += nested
    if (together := _together(solution, places, first.answer, others)) is not None:
        found.append(together)
    return list(dict.fromkeys(found))[:_MOST_MARKS]


def _together(text: str, places: list[_Place], answer: str, others: tuple[str, ...]) -> AnswerMarks | None:
    """All marks with one content, where the text between them does not hold the answer as well."""
    inner = sorted((place for place in places if not any(map(place.holds, places))), key=lambda place: place.start)
    ends = [place.content_end for place in inner]
    if len(inner) < 2 or any(end > place.content for end, place in zip(ends, inner[1:], strict=False)):
        return None
    between = [text[end : place.content] for end, place in zip(ends, inner[1:], strict=False)]
    if not answer or any(answer in piece for piece in between):
        return None
    start, end = min(place.start for place in places), max(place.end for place in places)
    return AnswerMarks(
        text[start : inner[0].content], answer, text[ends[-1] : end], between=tuple(between), others=others
    )


def _places(text: str) -> list[_Place]:
    """The marks of a text, behind its reasoning."""
    begin = text.rfind("</think>")
    begin = 0 if begin < 0 else begin + len("</think>")
    found = [_Place(m.start(), m.start(2), m.end(2), m.end(), fenced=True) for m in _FENCE.finditer(text, begin)]
    for pattern in (_LINE_MARK, _LINE_AROUND_MARK):
        found += [_Place(m.start(), m.start(1), m.end(1), m.end()) for m in pattern.finditer(text, begin)]
    for mark in _TAG.finditer(text, begin):
        end = text.find(f"</{mark[1]}>", mark.end())
        if end >= 0 and mark[1].casefold() not in _REASONING_TAGS:
            found.append(_Place(mark.start(), mark.end(), end, end + len(mark[1]) + 3))
    for mark in _BOX.finditer(text, begin):
        if (brace := _closing_brace(text, mark.end())) is not None:
            found.append(_Place(mark.start(), mark.end(), brace, brace + 1))
    return [place for place in dict.fromkeys(found) if text[place.content : place.content_end].strip()]


def _emphasized(text: str, answer: str) -> list[_Place]:
    """Places of double brackets and of bold text that hold an answer, also one in marks of its own."""
    found = []
    for pattern in _EMPHASIS:
        for mark in pattern.finditer(text):
            if mark[1].strip(" \t$*_[].") == answer.strip(" \t$*_[]."):
                found.append(_Place(mark.start(), mark.start(1), mark.end(1), mark.end()))
    return found


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for i in range(start, len(text)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return i
    return None


def same(left: Any, right: Any) -> bool:
    """Whether two answers could be one answer in two spellings, so that paying both proves nothing.

    >>> same("[1, 2]", "1 2"), same("0.50", "1/2"), same("-4", "4")
    (True, True, False)
    """
    left, right = str(left), str(right)
    numbers = number(left), number(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return _DECORATION.sub("", left).casefold() == _DECORATION.sub("", right).casefold()


def number(text: str) -> Fraction | None:
    """The plain number that a text is, or None."""
    text = text.strip()
    return Fraction(text) if len(text) < 1000 and _NUMBER.fullmatch(text) else None


def is_right(content: str, marks: AnswerMarks, problem: Problem) -> bool:
    """Whether what an attack would put into the marks happens to be the problem's answer."""
    reference = problem.reference
    if isinstance(reference, str | int | float) and same(content, reference):
        return True
    return any(same(content, answer) for answer in (marks.answer, *marks.others))
