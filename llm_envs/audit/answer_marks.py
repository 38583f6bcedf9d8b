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
    """

    before: str
    answer: str
    after: str
    fenced: bool = False

    def fill(self, content: str) -> str:
        """A completion that gives `content` as its answer, in the marks of the solution."""
        return f"{self.before}{content}{self.after}"

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
    if isinstance(reference, str | int) and str(reference) and solution.rstrip(" .\n").endswith(str(reference)):
        return AnswerMarks("", str(reference), "")
    return AnswerMarks("", solution, "")


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
    return same(content, marks.answer) or (isinstance(reference, str | int | float) and same(content, reference))
