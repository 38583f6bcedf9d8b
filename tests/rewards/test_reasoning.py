"""Where reasoning ends: what every reward takes for the reply."""

import time

import pytest

from rewards import CodeTestsReward, CountdownReward, ExactTextReward, MathReward
from rewards.code import CheckTests, FunctionCase, FunctionTests
from rewards.reasoning import reply_start

PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]
REWARDS = [
    (MathReward(), r"\boxed{4}", "4"),
    (ExactTextReward(), "<answer>four</answer>", "four"),
    (CountdownReward(), "<answer>2 + 2</answer>", {"numbers": [2, 2], "target": 4}),
    (
        CodeTestsReward(),
        "\n```python\ndef f(x):\n    return x + 1\n```\n",
        FunctionTests("f", (FunctionCase((1,), {}, 2),)),
    ),
]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_open_reasoning_has_no_reply(opening, closing):
    assert reply_start(f"{opening}\nmaybe 4") is None
    assert reply_start(f"{opening}maybe{closing} 4{opening}hm") is None
    for text in (f"{opening}maybe{closing}4", f"maybe{closing}4", f"{opening}\n{opening}maybe{closing}4"):
        assert text[reply_start(text) :] == "4"


def test_a_mark_of_another_kind_does_not_close():
    assert reply_start("<think> maybe </thinking> 4") is None


@pytest.mark.parametrize(
    "text",
    ["no marks at all", "I used the <think> tag.", "It says `<think>` there.",
     'The "<think>" mark.', "Between <think> and </think>.",
     "I think 5 > 4.", "thoughts and reasoning", "Reply with <think>...</think>."],
)  # fmt: skip
def test_a_mark_that_is_spoken_of_is_text(text):
    assert reply_start(text) == 0


@pytest.mark.parametrize("mention", ["`</think>`", "<think> and </think>", "<think>...</think>", "the </think> tag"])
def test_open_reasoning_is_not_closed_by_a_mention(mention):
    assert reply_start(f"<think>\nI will write {mention} later. So 4") is None


@pytest.mark.parametrize(("reward", "answer", "reference"), REWARDS)
def test_rewards_pay_the_reply_and_no_thought(reward, answer, reference):
    completions = [
        f"<think>\n{answer} maybe, let me check",
        f"<think>\nso {answer}\n</think>\n\nI do not know.",
        f"<think>\n<think>\nhm\n</think>\n\n{answer}",
        f"<think>\nhm\n</think>\n\n{answer}",
        f"{answer} is what I found without a <think> block.",
        f"<think>a</think>{answer}<think>b",
    ]
    found = [result.reward for result in reward(["?"] * 6, completions, [reference] * 6)]
    assert found == [0, 0, 1, 1, 1, 0]


def test_programs_in_open_reasoning_are_not_run():
    program = "```python\ndef f(x):\n    return x + 1\n```"
    reward = CodeTestsReward()
    reference = CheckTests("f", ("assert candidate(1) == 2",))
    completions = [f"<think>\n{program}\nlet me check", f"<think>\nhm\n</think>\n{program}", program]
    found = [result.reward for result in reward(["?"] * 3, completions, [reference] * 3)]
    assert found == [0, 1, 1]


def test_many_marks_are_read_in_linear_time():
    start = time.process_time()
    for piece in ("</think>", "<think>", "`</think>`", "<think> and </think>", "<think>..."):
        reply_start(piece * 100_000)
    assert time.process_time() - start < 20  # about a second; quadratic would be hours


def test_a_mark_that_opens_and_ends_its_line_is_no_mention():
    text = "Let me use <think>\n2+2 = \\boxed{4}, let me check"
    assert MathReward()(["2+2?"], [text], ["4"])[0].reward == 0.0


@pytest.mark.parametrize(("reward", "answer", "reference"), REWARDS)
@pytest.mark.parametrize(
    ("prompt", "closing"),
    [("Q<|im_start|>assistant\n<think>", "</think>"), ("Q<|assistant|><think>\n", "</think>"),
     ("[/INST]\n[THINK]", "[/THINK]"), ("<think>", "</think>"), ("Assistant<think>", "</think>"),
     ("q Assistant:\n<think>" + "\n" * 500, "</think>"), ("q <|begin_of_thought|>", "<|end_of_thought|>"),
     ("<|start|>assistant<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
     ("Assistant: Let me solve this step by step.\n<think>", "</think>"),
     ("q<\uff5cAssistant\uff5c><think>\n", "</think>"), ("q<start_of_turn>model\n<think>", "</think>")],
)  # fmt: skip
def test_a_prompt_that_ends_with_a_mark_has_opened_the_reasoning(prompt, closing, reward, answer, reference):
    completions = [f"maybe {answer}, let me check", f"hm{closing}{answer}"]
    found = [result.reward for result in reward([prompt] * 2, completions, [reference] * 2)]
    assert found == [0, 1]


@pytest.mark.parametrize(
    "prompt",
    ["Start with <think>", "Put your thoughts behind <think>.", "<think>a</think>", "", "Reply in the form\n<think>",
     "Start your reply with: <think>", "User: 2+2? Write:\n\n<think>\n", None, 5,
     [{"role": "user", "content": "<think>"}]],
)  # fmt: skip
def test_a_prompt_that_speaks_of_a_mark_opens_nothing(prompt):
    assert MathReward()([prompt], [r"\boxed{4}"], ["4"])[0].reward == 1.0


@pytest.mark.parametrize("text", [r"the <think>\boxed{4}", r"I use the <think> \boxed{4}", r"My <think> 2+2=\boxed{4}"])
def test_a_mark_with_an_answer_behind_it_is_no_mention(text):
    assert MathReward()(["2+2?"], [text], ["4"])[0].reward == 0.0
