r"""Other spellings of a solution that say the same.

Some change nothing that a reward may look at (white space around the completion) and must be paid. The others are
usual, but a task may want one form of its answer: where one of them is refused, the audit says so; where it is paid in
part, the reward measures the spelling and not the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_envs.audit.answer_marks import AnswerMarks, number
from llm_envs.problem import Problem
from rewards.arithmetic import NotAnExpression, read_arithmetic


@dataclass(frozen=True, slots=True)
class Spelling:
    """A completion that says the same as the solution.

    Attributes:
        note: What was changed.
        completion: The text.
        required: Whether it must earn the full reward.
    """

    note: str
    completion: str
    required: bool = False


def spellings(problem: Problem, marks: AnswerMarks) -> Iterator[Spelling]:
    """Spellings of the problem's solution."""
    solution = problem.solution or marks.fill(marks.answer)
    yield Spelling("a line end behind", f"{solution}\n", required=True)
    yield Spelling("white space behind", f"{solution} \n\n", required=True)
    if marks.is_marked:
        yield Spelling("white space before", f"\n\n{solution}", required=True)
        yield Spelling("the answer alone", marks.fill(marks.answer))
        yield Spelling("prose before", f"Let me work it out step by step.\n\n{solution}")
        yield Spelling("reasoning before", f"<think>\nLet me see.\n</think>\n\n{solution}")
    if marks.is_program:
        yield Spelling("line ends of Windows", solution.replace("\n", "\r\n"))
        return
    if marks.is_marked:
        yield Spelling("spaces around the answer", marks.fill(f" {marks.answer} "))
    yield from (Spelling(note, marks.fill(text)) for note, text in _answers(marks.answer))


def _answers(answer: str) -> Iterator[tuple[str, str]]:
    value = number(answer)
    if value is not None:
        yield "a full stop", f"{answer}."
        if value.denominator == 1 and "." not in answer and "/" not in answer:
            yield "a decimal point", f"{answer}.0"
            if abs(value) >= 1000:
                yield "thousands", f"{int(value):,}"
        if value < 0:
            yield "a typographic minus", answer.replace("-", "\u2212")
        yield "dollar signs", f"${answer}$"
        return
    try:
        arithmetic = read_arithmetic(answer)
    except NotAnExpression:
        return
    if arithmetic.operators and "=" not in answer:
        yield "without spaces", answer.replace(" ", "")
        yield "in brackets", f"({answer})"
        yield "with spaces", " ".join(answer) if all(n < 10 for n in arithmetic.numbers) else answer
        if arithmetic.value.denominator == 1:
            yield "with its value", f"{answer} = {arithmetic.value}"
