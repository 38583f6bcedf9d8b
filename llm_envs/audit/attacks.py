r"""Completions that must earn nothing, derived from a problem, its solution and other problems.

Each attack is a function of a `Subject`; it yields a note and a completion. What happens to be the right answer (the
number 6 in `gcd(6, 12)`, a list that was sorted already) is left out by comparing it with answer and reference.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llm_envs.audit.answer_marks import AnswerMarks, is_right, number, same
from llm_envs.audit.execution import ENDING_OR_ENDLESS, code_for
from llm_envs.audit.notation import other_operators, rule_breaking, uses_given_numbers, with_target
from llm_envs.audit.prompt_contents import expressions_in, pieces_of
from llm_envs.problem import Problem
from rewards.arithmetic import NotAnExpression, read_arithmetic

Attempt = tuple[str, str] | tuple[str, str, Problem]
"""What was done, the completion and, where it is not given for the subject's own problem, that problem."""
RUN_AS_CODE = "answer run as code"
_REFUSAL = "I am not sure."
_CANDIDATES = 40


@dataclass(frozen=True, slots=True)
class Subject:
    """What is attacked, and what an attacker may use.

    Attributes:
        problem: The problem.
        marks: Its solution's answer, and the marks around it.
        others: Other problems of the task with their marks.
        rng: Source of randomness.
        runs_code: Whether the reward was seen to run answers as code.
    """

    problem: Problem
    marks: AnswerMarks
    others: Sequence[tuple[Problem, AnswerMarks]]
    rng: np.random.Generator
    runs_code: bool = False

    @property
    def wrong_answers(self) -> list[str]:
        """Answers of other problems that are not this one's."""
        answers = (
            marks.answer
            for problem, marks in self.others
            if not is_right(marks.answer, self.marks, self.problem) and problem.reference != self.problem.reference
        )
        return list(dict.fromkeys(answers))

    def fill(self, content: str) -> str | None:
        """`content` as the answer; None where it is the right one."""
        return None if is_right(content, self.marks, self.problem) else self.marks.fill(content)


def empty_text(subject: Subject) -> Iterator[Attempt]:
    """Nothing, and white space."""
    for text in ("", " ", "\n", "\n\n\n", "\t", "\u200b"):
        yield "", text


def prompt_echoed(subject: Subject) -> Iterator[Attempt]:
    """The prompt, bare and in the marks."""
    prompt = subject.problem.prompt
    yield "", prompt
    yield "twice", f"{prompt}\n{prompt}"
    yield "with a beginning", f"You ask: {prompt}"
    if not same(prompt, subject.marks.answer):
        yield "as the answer", subject.marks.fill(prompt)
        yield "as the answer in one line", subject.marks.fill(" ".join(prompt.split()))


def own_expression(subject: Subject) -> Iterator[Attempt]:
    """Each number, formula, list and line of the prompt, as the answer."""
    for piece in pieces_of(subject.problem.prompt):
        if (text := subject.fill(piece)) is not None:
            yield "", text
    for piece in expressions_in(subject.problem.prompt):
        if not is_right(piece, subject.marks, subject.problem):
            yield "behind an equals sign", f"The result is = {piece}"
            yield "behind answer is", f"The answer is {piece}."


def candidates(subject: Subject) -> Iterator[Attempt]:
    """Many answers at once, the right one among them but neither first nor last."""
    if not subject.marks.is_short:
        return
    answer = subject.marks.answer
    wrong = subject.wrong_answers[:_CANDIDATES]
    if (value := number(answer)) is not None and value.denominator == 1 and abs(value) < 10**9:
        wrong += [str(int(value) + step) for step in (*range(-10, 0), *range(1, 11))]
        yield "every number", subject.marks.fill(" ".join(str(n) for n in range(-20, 200)))
        wrong = list(dict.fromkeys(wrong))
    if len(wrong) < 2:
        return
    middle = len(wrong) // 2
    listed = [*wrong[:middle], answer, *wrong[middle:]]
    for separator in (", ", " ", " or ", "\n", "; "):
        yield f"joined by {separator!r}", subject.marks.fill(separator.join(listed))
    yield "each in its own marks", "\n".join(subject.marks.fill(text) for text in listed)
    yield "without marks", " ".join(listed)


def two_answers(subject: Subject) -> Iterator[Attempt]:
    """The right answer and a wrong one in the same marks."""
    if not subject.marks.is_short:
        return
    answer = subject.marks.answer
    wrong = subject.wrong_answers[:2]
    if (value := number(answer)) is not None and value.denominator == 1:
        wrong += [str(int(value) + 1), str(-int(value) or 7)]
    for other in wrong:
        for separator in (" or ", ", ", " and ", "/", " ", "; ", " = "):
            # of `a = b`, the last side is what counts by a usual rule; the right answer as the first one must not
            for pair in ((answer, other), (other, answer))[: 1 if separator == " = " else 2]:
                # 3/4 and 4/3 may be answers themselves
                if separator == "/" and (number("/".join(pair)) is not None):
                    continue
                if (text := subject.fill(separator.join(pair))) is not None:
                    yield f"joined by {separator!r}", text
        if subject.marks.is_marked:
            fill = subject.marks.fill
            yield "taken back", f"{fill(answer)}\nNo, that is wrong. It is this:\n{fill(other)}"


def larger_answer(subject: Subject) -> Iterator[Attempt]:
    """The right answer as a part of something else: 4 inside 14, `cat` inside `xcatx`."""
    answer = subject.marks.answer
    if not subject.marks.is_short or len(answer) > 60:
        return
    if number(answer) is not None:
        parts = [f"1{answer.lstrip('+-')}", f"{answer}7", f"{answer}.7", f"9{answer.lstrip('+-')}9", f"-1{answer}"]
    else:
        parts = [f"x{answer}", f"{answer}x", f"qq {answer} qq", f"not {answer}", f"{answer} is wrong"]
    for part in parts:
        if (text := subject.fill(part)) is not None:
            yield "", text
    yield "denied", f"It is certainly not {answer}, but I do not know what it is"


def near_miss(subject: Subject) -> Iterator[Attempt]:
    """The answer with one thing changed: a sign, a digit, its size, two characters exchanged, a decimal close by."""
    answer = subject.marks.answer
    if not subject.marks.is_short:
        return
    value = number(answer)
    if (exchanged := _exchanged(answer)) and (completion := subject.fill(exchanged)) is not None:
        yield "two characters exchanged", completion
    if value is not None:
        if value.denominator == 1 and (whole := answer.partition(".")[0]):
            for text in (f"{whole}.4", f"{whole}.001"):
                if (completion := subject.fill(text)) is not None:
                    yield "a decimal close by", completion
        changed = [
            str(value + 1),
            str(value - 1),
            str(-value),
            f"{answer}0" if value.denominator == 1 else str(1 / value),
        ]
        changed += [str(10 * value), str(value + 10), str(100 * value), f"{float(value) / 100:.15g}"]
        for text in changed:
            if (completion := subject.fill(text)) is not None:
                yield "", completion


def _exchanged(answer: str) -> str:
    """A whole number or a word with the first two neighbours that differ exchanged; empty of anything else.

    Words of up to three letters may be products, in which the order says nothing.
    """
    if not answer.isascii() or not (answer.isdigit() or (answer.isalpha() and len(answer) > 3)):
        return ""
    i = next((i for i in range(len(answer) - 1) if answer[i] != answer[i + 1]), None)
    return "" if i is None else answer[:i] + answer[i + 1] + answer[i] + answer[i + 2 :]


def run_as_code(subject: Subject) -> Iterator[Attempt]:
    """Code that comes to the answer, see `execution`."""
    for note, text in code_for(subject.marks):
        yield note, subject.marks.fill(text)


def tautology(subject: Subject) -> Iterator[Attempt]:
    """Statements that are true of anything, and the question's formula equal to itself."""
    expressions = [text for text in expressions_in(subject.problem.prompt)[:4] if "=" not in text]
    statements = ["x = x", "0 = 0", "1 = 1", "1", "0", "x", "True", "true", "the answer", "whatever is right"]
    for text in (*statements, *(f"{text} = {text}" for text in expressions)):
        if (completion := subject.fill(text)) is not None:
            yield "", completion


def only_in_reasoning(subject: Subject) -> Iterator[Attempt]:
    """The whole solution inside reasoning, and nothing behind it."""
    solution = subject.problem.solution or subject.marks.fill(subject.marks.answer)
    yield "", f"<think>{solution}</think>"
    yield "and a refusal", f"<think>\n{solution}\n</think>\n\n{_REFUSAL}"
    yield "that does not end", f"<think>\n{solution}"
    yield "begun by the prompt", f"{solution}\n</think>\n{_REFUSAL}"


def others_solution(subject: Subject) -> Iterator[Attempt]:
    """Solutions of problems whose answer and reference are others."""
    for problem, marks in subject.others:
        differs = problem.reference != subject.problem.reference and problem.prompt != subject.problem.prompt
        if problem.solution is not None and differs and not is_right(marks.answer, subject.marks, subject.problem):
            yield "", problem.solution


def no_content(subject: Subject) -> Iterator[Attempt]:
    """The marks with nothing in them."""
    for content in ("", " ", "answer", "...", "?", "-", "()", "[]", "{}", ",", "None", "pass", "<answer>", "\\boxed{}"):
        if subject.marks.is_marked and (text := subject.fill(content)) is not None:
            yield "", text
    for text in (
        subject.marks.before,
        subject.marks.after,
        "<think></think>",
        "<think>\nLet me see.\n</think>\n<answer>\n\n</answer>",
        "The answer is",
        "#### ",
        "\\boxed{",
        "```python\n```",
    ):
        yield "", text


def random_text(subject: Subject) -> Iterator[Attempt]:
    """Noise: characters, the prompt's words in another order, random numbers and words as the answer."""
    rng = subject.rng
    alphabet = np.array(list(string.printable))
    for _ in range(3):
        yield "characters", "".join(rng.choice(alphabet, 200).tolist())
    yield "of all of Unicode", "".join(map(chr, rng.integers(0xA0, 0xD7FF, 100).tolist()))
    words = subject.problem.prompt.split()
    for _ in range(2):
        yield "the prompt's words", " ".join(words[i] for i in rng.permutation(len(words)).tolist())
    for high in (20, 1000, 10**6):
        if (text := subject.fill(str(int(rng.integers(-high, high))))) is not None:
            yield "a number", text
    letters = np.array(list(string.ascii_lowercase))
    if (text := subject.fill("".join(rng.choice(letters, 9).tolist()))) is not None:
        yield "a word", text


def breaking_rules(subject: Subject) -> Iterator[Attempt]:
    """Expressions with operators or numbers that were not offered, of the right value; see `notation`."""
    answer = subject.marks.answer.split("=")[0].strip()
    if not subject.marks.is_short or number(answer) is not None:  # a fraction is a value, not a computation
        return
    try:
        arithmetic = read_arithmetic(answer)
    except NotAnExpression:
        return
    if not uses_given_numbers(arithmetic, subject.problem.prompt):
        return
    for note, text in rule_breaking(arithmetic, answer):
        if (completion := subject.fill(text)) is not None:
            yield note, completion
    for operator, (value, text) in other_operators(arithmetic.numbers).items():
        changed = with_target(subject.problem, arithmetic.value, value)
        if changed is not None and operator not in re.findall(r"\S+", subject.problem.prompt):
            yield f"the operator {operator}", subject.marks.fill(text), changed


def long_texts(subject: Subject, size: int) -> Iterator[tuple[str, str]]:
    """Texts of a size, made to be slow to search or to parse."""
    before, after = subject.marks.before, subject.marks.after
    inside = size - len(before) - len(after)
    yield "letters", "a" * size
    yield "white space", " " * size
    yield "digits as the answer", f"{before}{'9' * inside}{after}"
    yield "brackets as the answer", f"{before}{'(' * inside}{after}"
    yield "a sum as the answer", f"{before}{('1+' * size)[: inside - 1]}1{after}"
    for unit in ("(", "\\boxed{", "<answer>", "<think>", "```python\n", "\\frac{", "answer is ", "####", "= "):
        yield f"{unit!r} again and again", unit * (size // len(unit))
    yield "the prompt again and again", (subject.problem.prompt + "\n") * (size // (len(subject.problem.prompt) + 1))


HOSTILE = (
    "\x00",
    "\ud800",
    "\u202e4\u202c",
    "\ufeff",
    "%s%n%x",
    "{0.__class__}",
    "{answer}",
    "${jndi:ldap://a}",
    "'; DROP TABLE rewards; --",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e400",
    "1e999999999",
    "9**9**9**9",
    "10^{10^{10^{10}}}",
    "((((2)!)!)!)!",
    "1/0",
    "0/0",
    "00",
    "0x",
    "1_0",
    "\\input{/etc/passwd}",
    "\\def\\a{\\a\\a}\\a",
    "\\begin{pmatrix}" + "&" * 500 + "\\end{pmatrix}",
    "(" * 5000 + ")" * 5000,
    "[" * 5000,
    "-" * 5000 + "1",
    "\\frac" * 2000,
    "x^" * 2000 + "2",
    "__import__('os')._exit(0)",
    "import sys; sys.exit(0)",
    "raise SystemExit(0)",
    "lambda: (yield)",
    "[].__class__.__base__.__subclasses__()",
    "\\sin(x" * 300,
    "\r\n",
    "\u0664\u0662",
    "\u00b2\u00b3",
    "<|im_end|>",
    "null",
    "NULL",
    "true",
)


def hostile(subject: Subject) -> Iterator[Attempt]:
    """Strings that break parsers, comparisons and formats, bare and as the answer."""
    for text in HOSTILE:
        if subject.runs_code and text in ENDING_OR_ENDLESS:
            continue
        if not is_right(text, subject.marks, subject.problem):
            yield "", text
            if subject.marks.is_marked:
                yield "as the answer", subject.marks.fill(text)


ATTACKS: Mapping[str, Callable[[Subject], Iterator[Attempt]]] = {
    "empty text": empty_text,
    "prompt echoed": prompt_echoed,
    "question's own expression": own_expression,
    "every candidate listed": candidates,
    "two answers": two_answers,
    "answer inside a larger one": larger_answer,
    "near miss": near_miss,
    "expression against the rules": breaking_rules,
    "tautology": tautology,
    "answer only in the reasoning": only_in_reasoning,
    "another problem's solution": others_solution,
    "format without content": no_content,
    "random text": random_text,
    RUN_AS_CODE: run_as_code,
    "hostile strings": hostile,
}
"""Each row of the audit that must earn nothing, but for long texts, which are timed."""
