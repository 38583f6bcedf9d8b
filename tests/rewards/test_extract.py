"""Where the final answer of a completion is."""

import random
import sys
import time

import pytest

from rewards import extract
from rewards.extract import MARKED_RULES, WINDOW, Extraction, Rule, extract_answer

FOUND = [
    # boxes
    (r"\boxed{42}", "42", Rule.BOXED),
    (r"\boxed{42}.", "42", Rule.BOXED),
    (r"\boxed{42.}", "42", Rule.BOXED),
    (r"\fbox{42}", "42", Rule.BOXED),
    (r"\boxed {42}", "42", Rule.BOXED),
    (r"$\boxed{\frac{3}{4}}$", r"\frac{3}{4}", Rule.BOXED),
    (r"\boxed{1} then \boxed{2}", "2", Rule.BOXED),
    (r"\boxed{5} and then \boxed 6", "6", Rule.BOXED),
    (r"\boxed{4} and $\boxed{9}$", "4, 9", Rule.BOXED),
    (r"$x=\boxed{4}$ or $x=\boxed{9}$", "4 or 9", Rule.BOXED),
    (r"$x=\boxed{4}$, $y=\boxed{9}$", "x = 4, y = 9", Rule.BOXED),
    (r"\boxed{5} is in \boxed{} as asked", "5", Rule.BOXED),
    (r"\\boxed{4} then \\boxed{5}", "5", Rule.BOXED),
    (r"\boxed{1} then \fbox{2}", "2", Rule.BOXED),
    (r"\boxed{\boxed{5}}", "5", Rule.BOXED),
    (r"\boxed{13 \fbox{14}}", r"13 \fbox{14}", Rule.BOXED),
    (r"\boxed{ oops \boxed{5}", "5", Rule.BOXED),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}", Rule.BOXED),
    (r"\boxed{5} #### 6", "5", Rule.BOXED),
    (r"\boxed{$42$}", "42", Rule.BOXED),
    (r"\boxed{**42**}", "42", Rule.BOXED),
    (r"\boxed{\$42}", r"\$42", Rule.BOXED),
    # tags
    ("<answer>42</answer>", "42", Rule.ANSWER_TAG),
    ("<Answer> 42 </ANSWER> bye 7", "42", Rule.ANSWER_TAG),
    ("<answer>1</answer><answer>2</answer>", "2", Rule.ANSWER_TAG),
    ("<answer>The answer is 5</answer>", "5", Rule.ANSWER_TAG),
    # hashes
    ("2 + 2 = 4\n#### 42", "42", Rule.HASHES),
    ("#### 42.", "42", Rule.HASHES),
    ("#### 42\nbye 7", "42", Rule.HASHES),
    ("#### Answer: 42", "42", Rule.HASHES),
    ("####\n42", "42", Rule.HASHES),
    ("#### 14 or 15", "14 or 15", Rule.HASHES),
    # phrases
    ("The answer is 42.", "42", Rule.ANSWER_IS),
    ("The answer is $42$.", "42", Rule.ANSWER_IS),
    ("The answer is \\(42\\).", "42", Rule.ANSWER_IS),
    ("THE ANSWER IS: 42", "42", Rule.ANSWER_IS),
    ("**Answer:** 5", "5", Rule.ANSWER_IS),
    ("**Answer**: 5", "5", Rule.ANSWER_IS),
    ("**The answer is 5.**", "5", Rule.ANSWER_IS),
    ("**The answer is 5.** I hope", "5", Rule.ANSWER_IS),
    ("The answer is **5** apples", "5 apples", Rule.ANSWER_IS),
    ("The answer is 4.5. Indeed, 9/2 = 4.5", "4.5", Rule.ANSWER_IS),
    ("Answer: 4\nAnswer: 5", "5", Rule.ANSWER_IS),
    ("Answer:\n\n$$5$$", "5", Rule.ANSWER_IS),
    ("The answer is 14 or 15.", "14 or 15", Rule.ANSWER_IS),
    # no mark
    ("so x = 5", "5", Rule.EQUATION),
    ("so x = 3/4.", "3/4", Rule.EQUATION),
    ("so $x = \\frac{3}{4}$ holds", "\\frac{3}{4}", Rule.EQUATION),
    ("1 + 1 = 2\n2 + 2 = 4", "4", Rule.EQUATION),
    ("1 + 1 = 2, so 3 remain", "3", Rule.NUMBER),
    ("x = (1, 2)", "(1, 2)", Rule.EQUATION),
    ("it costs $1,234.50 today", "$1,234.50", Rule.NUMBER),
    ("it is -5", "-5", Rule.NUMBER),
    ("it is - 5", "5", Rule.NUMBER),
    ("**42**", "42", Rule.NUMBER),
    ("it is 2 1/2", "2 1/2", Rule.NUMBER),
    ("it is $\\frac{3}{4}$", "\\frac{3}{4}", Rule.NUMBER),
    ("it is 50%", "50%", Rule.NUMBER),
    ("14, 15", "14, 15", Rule.NUMBER),
    ("14 or 15", "14 or 15", Rule.NUMBER),
    ("5!", "5", Rule.NUMBER),
    # thoughts do not count
    (r"<think>\boxed{1}</think> #### 2", "2", Rule.HASHES),
    (r"<think></think>\boxed{1}</think>so 2", "2", Rule.NUMBER),
    (r"<think>\boxed{1}</think>\boxed{2}", "2", Rule.BOXED),
    # boxes around a box, spacing commands, lines of an alignment
    (r"\boxed{\text{The area is } \boxed{24}}", "24", Rule.BOXED),
    (r"\boxed{\;36\,}", "36", Rule.BOXED),
    (r"\begin{align*} x &= 2 + 3 \\ &= 5 \end{align*}", "5", Rule.EQUATION),
]
NOT_FOUND = [
    "",
    "no idea",
    r"\boxed{5} and then \boxed{6",
    r"\boxed{5} and then \boxed{}",
    r"\boxed{5} and then \boxed",
    r"#### 5 \boxed{6",
    r"The answer is 5. \boxed{",
    r"\boxed{6\}",
    "<answer>5",
    "<answer></answer> so 5",
    "</answer>",
    "####",
    "The answer is",
    r"<think>\boxed{5}</think>",
    r"<think>\boxed{5}",
    r"<think>a</think> b <think> \boxed{5}",
    "f(5)",
    "x_5",
    "\u0664\u0662",
    "{5}",
]


@pytest.mark.parametrize(("text", "answer", "rule"), FOUND)
def test_found(text, answer, rule):
    assert extract_answer(text) == Extraction(answer, rule)


@pytest.mark.parametrize("text", NOT_FOUND)
def test_not_found(text):
    assert extract_answer(text) is None


@pytest.mark.parametrize("text", ["so x = 5", "it is 5", "answers 5", "my answer 5"])
def test_marks_can_be_required(text):
    assert extract_answer(text, rules=MARKED_RULES) is None
    assert extract_answer(text).rule in (Rule.EQUATION, Rule.NUMBER)


def test_a_rule_that_does_not_apply_does_not_fire():
    text = r"The answer is 3. \boxed{5} #### 4"
    assert extract_answer(text).text == "5"
    assert extract_answer(text, rules=[Rule.HASHES]).text == "4"
    assert extract_answer(text, rules=[Rule.ANSWER_IS]).text == "3"
    assert extract_answer(text, rules=[Rule.ANSWER_TAG]) is None


@pytest.mark.parametrize("rule", MARKED_RULES)
def test_an_instruction_that_is_followed_leads_to_the_answer(rule):
    mark = {Rule.BOXED: "\\boxed{5}", Rule.ANSWER_TAG: "<answer>5</answer>", Rule.HASHES: "#### 5"}
    written = mark.get(rule, "The answer is 5")
    assert written.split("5")[0].strip("\\{ ") in rule.instruction
    assert extract_answer(f"2 + 3\n{written}", rules=[rule]) == Extraction("5", rule)
    assert Rule.NUMBER.instruction == ""


def test_reasoning_that_began_before_the_window_is_reasoning():
    assert extract_answer("<think>" + "a " * WINDOW + r"\boxed{5}") is None
    assert extract_answer("<think>" + "a " * WINDOW + r"</think>\boxed{5}").text == "5"


def test_only_the_end_is_read():
    assert extract_answer(r"\boxed{5}" + " " * (WINDOW - 9)).text == "5"
    assert extract_answer(r"\boxed{5}" + " " * (WINDOW - 8)) is None


class CountedString(str):
    """A text that counts how many characters are cut from it."""

    read = 0

    def __getitem__(self, key):
        piece = str.__getitem__(self, key)
        self.read += len(piece)
        return piece


def test_no_more_than_the_window_is_taken_from_a_text():
    text = CountedString("9" * 5_000_000)
    assert extract_answer(text) is not None
    assert text.read <= WINDOW


PIECES = [
    "\\boxed{", "\\boxed", "\\boxed 5", "$\\boxed ", "\\boxed{5}", "\\boxed{} in ", "\\boxed{1} and ", "}",
    "{", "\\", "\\,", "\\ ",
    "\\text{", "\\frac{1}{2}", "answer", "answer ", "answer:", "answer is ", "the answer isn't 5. ",
    "if the answer is ", "wait, no, ",
    "<answer>", "</answer>", "####", "=", "$", "\\(", "*", "* ", "1 or ", "1 and ", "not ", "or maybe ", "-",
    "1,", "(", "\n", " ", ". ",
    "a ", "</think>", "<think>", "`</think>`", "<think> and ", "<|", "[THINK]", "<!--", "-->", "9", "\u0660",
    "\ud800", "\0",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_repetition_returns(piece):
    text = piece * (5_000_000 // len(piece))
    start = time.process_time()
    found = extract_answer(text)
    # Milliseconds when linear; generous, for busy machines. Quadratic in the text would be hours.
    assert time.process_time() - start < 5
    assert found is None or len(found.text) <= WINDOW


def operations(text):
    """How many instructions of Python `extract_answer` takes."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        extract_answer(text)
    finally:
        sys.settrace(None)
    return count


def hostile_texts(count=150):
    """Texts that repeat a piece or two, behind an opening and before an end."""
    rng = random.Random(0)
    for _ in range(count):
        unit = "".join(rng.choices(PIECES, k=rng.randint(1, 3)))
        opening, end = rng.choice(["", "answer is ", "\\boxed{", "<think>"]), rng.choice(["", "5", "}", ". 5"])
        yield lambda repeats, unit=unit, opening=opening, end=end: opening + unit * repeats + end


def test_operations_grow_with_the_length():
    for text in hostile_texts():
        few, many = operations(text(100)), operations(text(400))
        # Quadratic work would be 16 times as much.
        assert many <= 6 * few + 2_000, text(2)


def test_searches_of_the_library_are_linear_too(monkeypatch):
    """What no count of Python's instructions sees: regular expressions and `str.find`, over a window of 100,000."""
    monkeypatch.setattr(extract, "WINDOW", 100_000)
    for text in hostile_texts(60):
        start = time.process_time()
        extract_answer(text(100_000 // len(text(1))))
        assert time.process_time() - start < 10, text(2)  # linear: a tenth of a second; quadratic: minutes


def test_any_text_has_a_verdict():
    rng = random.Random(1)
    for _ in range(3_000):
        found = extract_answer("".join(rng.choices(PIECES, k=rng.randint(1, 12))))
        assert found is None or (found.text and found.text == found.text.strip())
