"""Verdicts of the maths reward."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.base import InvalidReference, Outcome, Reward, RewardResult
from rewards.extract import MARKED_RULES, Rule
from rewards.math import MathReward

STRICT = MathReward()
LENIENT = MathReward(strict=False)


def outcome(reward, completion, reference):
    (result,) = reward(["?"], [completion], [reference])
    assert result.reward == (1.0 if result.outcome is Outcome.CORRECT else 0.0)
    return result.outcome


RIGHT = [
    ("#### 42.", "42"),
    ("so $42", "42"),
    ("\\boxed{42}.", "42"),
    ("**42**", "42"),
    ("The answer is $42$.", "42"),
    ("\\boxed{42}", 42),
    ("\\boxed{42.0}", "42"),
    ("\\boxed{1,234}", "1234"),
    ("\\boxed{-7}", "\u22127"),
    ("\\boxed{14 \\text{ apples}}", "14"),
    ("\\boxed{\\$14}", "14"),
    ("\\boxed{x = 14}", "14"),
    ("\\boxed{x = 14 = 14}", "14"),
    ("\\boxed{= 14}", "14"),
    ("\\boxed{17 \\times 25 = 425}", "425"),
    ("\\boxed{x = y + 1 = 14}", "14"),
    ("\\boxed{3/4 = 0.75}", "0.75"),
    ("\\boxed{2 1/2}", "5/2"),
    ("\\boxed{1.2e3}", "1200"),
    ("\\boxed{50\\%}", "1/2"),
    ("\\boxed{14 cm}", "14 \\text{ cm}"),
    ("\\boxed{(14)}", "14"),
    ("\\boxed{" + "9" * 4_000 + "}", "9" * 4_000),
    ("\\boxed{2^{10}}", "2^{10}"),
    ("\\boxed{1024}", "2^{10}"),
    ("\\boxed{4}", "\\sqrt{16}"),
    ("\\boxed{2\\sqrt{2}}", "\\sqrt{8}"),
    ("\\boxed{(x+1)^2}", "x^2 + 2x + 1"),
    ("\\boxed{y = 1 + x}", "x + 1"),
    ("\\boxed{\\frac{x^2-1}{x-1}}", "x + 1"),
    ("\\boxed{\\sin(2x)}", "2\\sin x\\cos x"),
    ("\\boxed{|x|}", "\\sqrt{x^2}"),
    ("\\boxed{\\pi + e}", "e + \\pi"),
]
WRONG = [
    ("\\boxed{43}", "42"),
    ("\\boxed{1e-9}", "2e-9"),
    ("\\boxed{0.33}", "1/3"),
    ("\\boxed{0.3333333333333333333333333333}", "1/3"),
    ("\\boxed{3.14159265358979323846264338327950288}", "\\pi"),
    ("\\boxed{\\pi + 1e-90}", "\\pi"),
    ("\\boxed{50\\%}", "50"),
    ("\\boxed{14 or 15}", "14"),
    ("\\boxed{14, 15}", "14"),
    ("\\boxed{15 \\text{ or } 14}", "14"),
    ("\\boxed{x = 15, y = 14}", "14"),
    ("\\boxed{15 = 14}", "14"),
    ("14 or 15", "15"),
    ("\\boxed{14 m^2}", "14 cm^2"),
    ("\\boxed{14 cm}", "14 kg"),
    ("\\boxed{x}", "y"),
    ("\\boxed{x < 5}", "5"),
    ("\\boxed{" + "9" * 5_000 + "}", "5"),
    ("9" * 1_000_000, "5"),
    ("\\boxed{\\sqrt{x^2}}", "x"),
    ("\\boxed{x + 1}", "x"),
    ("\\boxed{x + 1/99999999999999999999}", "x"),
    ("\\boxed{(x+1)^{900}}", "(x+1)^{901}"),
    ("\\boxed{1/(x-x)}", "x"),
    ("\\boxed{42 = 42}", "42"),
    ("\\boxed{42 = 42.0}", "42"),
    ("\\boxed{17 \\times 25 = 17 \\times 25}", "425"),
]
UNEVALUATED = [
    ("\\boxed{17 \\times 25}", "425"),
    ("\\boxed{2 + 2 * 6}", "14"),
    ("\\boxed{84/2}", "42"),
    ("\\boxed{\\frac{84}{2}}", "42"),
    ("\\boxed{-(-5)}", "5"),
    ("\\boxed{2^{10}}", "1024"),
    ("\\boxed{\\sqrt{16}}", "4"),
    ("\\boxed{17 \\times 25}", "850/2"),
]
NO_ANSWER = [("", "5"), ("I do not know", "5"), ("\\boxed{5} \\boxed{", "5"), ("\\boxed{}", "5")]
UNPARSED = [
    ("\\boxed{apples from the tree}", "5"),
    ("\\boxed{__import__('os').system('true')}", "5"),
    ("\\boxed{\u0664\u0662}", "42"),
    ("\\boxed{\uff14\uff12}", "42"),
    ("\\boxed{\ud800}", "5"),
    ("\\boxed{5\0}", "5"),
    ("\\boxed{\u202e5}", "5"),
    ("\\boxed{1/0}", "5"),
]
TOO_LARGE = [
    ("\\boxed{9^9^9^9}", "5"),
    ("#### 9**9**9**9", "5"),
    ("\\boxed{" + "9" * 5_000 + "x}", "5"),
    ("\\boxed{" + "(" * 9_000 + "5" + ")" * 9_000 + "}", "5"),
    ("\\boxed{1e999999}", "5"),
]


def verdicts():
    rows = [
        (RIGHT, Outcome.CORRECT, Outcome.CORRECT),
        (UNEVALUATED, Outcome.WRONG, Outcome.CORRECT),
        (NO_ANSWER, Outcome.NO_ANSWER, Outcome.NO_ANSWER),
        (UNPARSED, Outcome.UNPARSED, Outcome.UNPARSED),
        (TOO_LARGE, Outcome.TOO_LARGE, Outcome.TOO_LARGE),
        (WRONG, Outcome.WRONG, Outcome.WRONG),
    ]
    for cases, strict, lenient in rows:
        for completion, reference in cases:
            yield pytest.param(completion, reference, strict, lenient, id=f"{completion[:30]!a}-{str(reference)[:15]}")


@pytest.mark.parametrize(("completion", "reference", "strict", "lenient"), list(verdicts()))
def test_verdict(completion, reference, strict, lenient):
    assert outcome(STRICT, completion, reference) is strict
    assert outcome(LENIENT, completion, reference) is lenient


@pytest.mark.parametrize(
    "reference",
    [None, 1.5, True, b"5", ["5"], "", "  ", "5,, 6", "5 = 5", "5 = 6", "1/0", "9^9^9^9", "9" * 5_000 + "x", "\\foo{5}",
     10**5_000, "\u0664", "\ud800"],
    ids=lambda reference: f"{type(reference).__name__}",
)  # fmt: skip
def test_invalid_reference(reference):
    with pytest.raises(InvalidReference):
        STRICT.check_reference(reference)
    with pytest.raises(InvalidReference):
        STRICT([""], ["\\boxed{5}"], [reference])


@pytest.mark.parametrize(
    "reference",
    [
        "5",
        5,
        -5,
        "$5$",
        "3/4",
        "x + 1",
        "\\sqrt{2}",
        "x = 5",
        "14 \\text{ cm}",
        "5, 6",
        "5 or 6",
        "9" * 5_000,
        "an ellipse",
        "B",
        "1011_2",
        "(-\\infty, 2]",
        "\\{1, 2\\}",
        "x < 5",
    ],
)
def test_valid_reference(reference):
    STRICT.check_reference(reference)


def test_a_batch_is_scored_in_order():
    results = STRICT(["a", "b", "c"], ["\\boxed{1}", "#### 5", "none"], ["1", "2", "3"])
    assert results == [
        RewardResult(1.0, Outcome.CORRECT, "1"),
        RewardResult(0.0, Outcome.WRONG, "5"),
        RewardResult(0.0, Outcome.NO_ANSWER),
    ]
    assert STRICT([], [], []) == []


def test_sequences_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 prompts, 1 completions and 2 references"):
        STRICT(["a", "b"], ["\\boxed{1}"], ["1", "2"])


def test_marks_can_be_required():
    assert outcome(MathReward(rules=MARKED_RULES), "it is 5", "5") is Outcome.NO_ANSWER
    assert outcome(MathReward(), "it is 5", "5") is Outcome.CORRECT


def test_the_rules_are_those_of_the_task():
    reward = MathReward(rules=("hashes",))
    assert reward.rules == (Rule.HASHES,)
    assert "####" in reward.instruction
    assert outcome(reward, "\\boxed{5}", "5") is Outcome.NO_ANSWER
    assert outcome(reward, "#### 5", "5") is Outcome.CORRECT


@pytest.mark.parametrize(
    ("answer", "reference", "rel_tol", "right"),
    [
        ("0.33", "1/3", 0.0, False),
        ("0.33", "1/3", 0.001, False),
        ("0.333", "1/3", 0.01, True),
        ("3.14", "\\pi", 0.001, True),
        ("3.14", "\\pi", 0.0001, False),
        ("101", "100", 0.01, True),
        ("101.1", "100", 0.01, False),
        ("(1.001, 2)", "(1, 2)", 0.01, True),
        ("x", "1.001x", 0.01, False),
    ],
)
def test_a_tolerance_is_relative_to_the_reference(answer, reference, rel_tol, right):
    result = outcome(MathReward(rel_tol=rel_tol), f"\\boxed{{{answer}}}", reference)
    assert result is (Outcome.CORRECT if right else Outcome.WRONG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ()}, "rules is empty"),
        ({"rules": ("box",)}, "box"),
        ({"rel_tol": -0.1}, "rel_tol"),
        ({"rel_tol": 1.0}, "rel_tol"),
        ({"rel_tol": float("nan")}, "rel_tol"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": float("inf")}, "deadline"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        MathReward(**options)


def test_a_comparison_that_takes_too_long_is_ended_and_hurts_no_other():
    text = "+".join(f"\\sin({k}x)\\cos({k}y)" for k in range(2, 22))
    completions = [f"\\boxed{{0 + {text}}}", "\\boxed{1 + x}"]
    impatient = MathReward(deadline=0.002)
    assert impatient([""], completions[:1], [text])[0] == RewardResult(0.0, Outcome.TIMEOUT, f"0 + {text}"[:200])
    assert [result.outcome for result in MathReward()(["", ""], completions, [text, "x + 1"])] == [Outcome.CORRECT] * 2


def test_a_long_answer_is_shown_in_part():
    (result,) = STRICT([""], ["\\boxed{" + "9" * 5_000 + "}"], ["5"])
    assert result.answer == "9" * 200


def test_it_is_a_reward_that_survives_pickling():
    reward = MathReward(strict=False, rules=MARKED_RULES, rel_tol=0.01, deadline=2)
    assert isinstance(reward, Reward)
    assert pickle.loads(pickle.dumps(reward)) == reward  # noqa: S301


SIGNS = r"""
    \boxed{ } { ( ) [ ] | ^ _ + - * / = , . % $ \frac{ \sqrt{ \sqrt[3]{ \log_ e i \pi x y n 2 0 10 1e9 9^9 ! \text{
    \left \{ \} \cup \in \infty < \le \pm \max( \binom{ \begin{pmatrix} \end{pmatrix} & \\ \rfloor \bmod \pmod _2 :
    ; cm \circ \approx \mathbb{R} 1,234 \overline{3} </think> \
"""
PIECES = st.sampled_from(
    [*SIGNS.split(), "\\sin ", "\\ln ", " or ", " and ", "\\lfloor ", "\n", "#### ", "Answer: ", "\ud800", "\x00"]
)
ANY_TEXT = st.one_of(
    st.text(st.characters(codec=None)),
    st.lists(PIECES, max_size=40).map("".join),
    st.lists(PIECES, max_size=40).map(lambda pieces: "\\boxed{" + "".join(pieces) + "}"),
)
REFERENCES = [
    r"5",
    r"x + 1",
    r"\sqrt{2}",
    r"0",
    r"\sin x",
    r"3 + 4i",
    r"\{1, 2\}",
    r"(0, 1]",
    r"x < 5",
    r"y = 2x + 1",
    r"1, 2",
    r"B",
    r"yes",
    r"1011_2",
    r"\begin{pmatrix} 1 & 2 \end{pmatrix}",
    r"7^{2023}",
    r"x \equiv 3 \pmod{7}",
    r"3:4",
]


# Longer outside CI: pytest -k any_text --hypothesis-profile=fuzz, see docs/results.md
@settings(deadline=None)
@given(text=ANY_TEXT, reference=st.sampled_from(REFERENCES))
def test_any_text_gives_a_result(text, reference):
    for reward in (STRICT, LENIENT):
        (result,) = reward([""], [text], [reference])
        assert isinstance(result, RewardResult)
        assert result.outcome is not Outcome.CRASHED


@pytest.mark.parametrize(
    ("prompt", "answer", "reference", "right"),
    [
        ("Simplify $\\sqrt{8}$.", "\\sqrt{8}", "2\\sqrt{2}", False),
        ("Simplify $\\sqrt { 8 }$.", "$\\sqrt{8}$", "2\\sqrt{2}", False),
        ("Simplify $\\sqrt{8}$.", "\\sqrt 8", "2\\sqrt{2}", False),
        ("Simplify \\(\\sqrt{8}\\).", "x = (\\sqrt8)", "2\\sqrt{2}", False),
        ("Simplify $\\sqrt{8}$.", "\\sqrt{8} \\text{ units}", "2\\sqrt{2}", False),
        ("Expand $f(x) = (x+1)^2$.", "y = {(x+1)^{2}}", "x^2+2x+1", False),
        ("Expand $(x+1)^2$.", "(x+1)^2 = x^2+2x+1", "x^2+2x+1", True),
        ("Which line has $f(x) = 2x+1$?", "y = 2x+1", "2x-y+1 = 0", True),
        ("Simplify $\\sqrt{8}$.", "2\\sqrt{2}", "2\\sqrt{2}", True),
        ("Expand $(x+1)(x+2)$.", "(x+1)(x+2)", "x^2+3x+2", False),
        ("Expand $(x+1)(x+2)$.", "x^2+3x+2", "x^2+3x+2", True),
        ("Is $1/2$ or $1/3$ larger?", "1/2", "\\frac{1}{2}", True),
        ("Is $x+1$ or $x+2$ larger?", "x+2", "x+2", True),
        ("Is -3 or 4 smaller?", "-3", "-3", True),
        ("What is $\\sqrt{8} \\cdot 3$?", "6\\sqrt{2}", "6\\sqrt{2}", True),
    ],
)
def test_a_formula_of_the_question_may_be_refused(prompt, answer, reference, right):
    [result] = MathReward(allow_echo=False)([prompt], [f"\\boxed{{{answer}}}"], [reference])
    assert (result.reward == 1.0) is right
    assert MathReward()([prompt], [f"\\boxed{{{answer}}}"], [reference])[0].reward == 1.0


RUNS = [
    "5" + "\\circ" * 200,
    "5\\circ " * 200,
    "x" + "!" * 200,
    "5" + "^\\circ" * 150,
    "x" + " \\bmod 7" * 150,
    "\\mathbb{R}" + "\\cap\\mathbb{R}" * 150,
    "\\mathbb{R}" + "\\setminus\\{1\\}" * 90,
    "\\sqrt " * 200 + "x",
    "\\frac 1" * 150 + "2",
    "\\ln" * 200 + "x",
    "-" * 300 + "x",
]


@pytest.mark.parametrize("run", RUNS, ids=[run[:12] for run in RUNS])
def test_runs_of_signs_are_bounded(run):
    for reference in ("x", "5", "\\mathbb{R}"):
        result = STRICT(["?"], [f"\\boxed{{{run}}}"], [reference])[0]
        assert result.reward == 0.0
        assert result.outcome in ("too_large", "unparsed", "wrong"), result


@pytest.mark.parametrize(
    "reference", ["AB \\parallel CD", "\\sum_{k=1}^n k", "\\int_0^1 x\\,dx", "\\lim_{x \\to 0} f(x)"]
)
def test_a_reference_that_is_not_computed_equals_itself_however_it_is_spaced(reference):
    STRICT.check_reference(reference)
    spaced = reference.replace("=", " = ").replace("^n", "^{n}").replace("\\,", " ")
    answers = [f"\\boxed{{{reference}}}", f"\\boxed{{{spaced}}}", "\\boxed{5}", f"\\boxed{{{reference}+1}}"]
    assert [result.reward for result in STRICT(["?"] * 4, answers, [reference] * 4)] == [1, 1, 0, 0]
