import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from agents.evaluation.held_out import evaluate
from agents.policies.builtin import TINY_PATH
from llm_envs.problem import Problem
from llm_envs.tasks.arithmetic import INSTRUCTIONS, Expression
from rewards.extract import MARKED_RULES
from rewards.math import MathReward
from tools.tiny_model import corpus, recipe
from tools.tiny_model.tokenizer import END, PAD, ROLES, VOCABULARY_SIZE, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def value_of(code, x=0):
    return eval(code, {"x": x})  # noqa: S307 (only ever the corpus's own text)


@pytest.fixture(scope="module")
def shipped():
    return AutoModelForCausalLM.from_pretrained(TINY_PATH, local_files_only=True)


# ---- tokenizer


@pytest.mark.parametrize(
    "string",
    [
        "",
        " ",
        "What is 3 / (3 - 6)? End with \\boxed{answer}.",
        "def f(x):\n\treturn (x+3)*4\r\n\n",
        "  two  spaces , and .punctuation !",
        "NUL \x00, escape \x1b, DEL \x7f",
        "naïve Ünïcode 中文 \U0001f600\U0001f469\u200d\U0001f52c \u202e \ufeff \u0301",
        "".join(map(chr, range(0x250))),
        "9" * 50,
        "<|end|>",
    ],
)
def test_every_string_comes_back_exactly(tokenizer, string):
    assert tokenizer.decode(tokenizer(string).input_ids) == string


def test_digits_and_punctuation_stand_apart(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("What is 123+45*(6)? \\boxed{78}.").input_ids)
    assert "".join(tokens).replace("Ġ", " ") == "What is 123+45*(6)? \\boxed{78}."
    for token in tokenizer.get_vocab():
        if token not in (PAD, END, *(f"<|{role}|>" for role in ROLES)):
            assert len(token) == 1 or not re.search(r"[0-9!-/:-@\[-`{-~]", token), token


def test_chat_template(tokenizer):
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    rendered = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>"
    with pytest.raises(Exception, match="roles are"):
        tokenizer.apply_chat_template([{"role": "critic", "content": "a"}], tokenize=False)


def test_special_tokens(tokenizer):
    assert len(tokenizer) == VOCABULARY_SIZE
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)
    assert tokenizer("<|user|>a<|end|>").input_ids[0] == tokenizer.convert_tokens_to_ids("<|user|>")


# ---- corpus

LEAF = Expression
SUM_TIMES = LEAF(20, "*", LEAF(5, "+", LEAF(2), LEAF(3)), LEAF(4))
MINUS_MINUS = LEAF(4, "-", LEAF(6, "-", LEAF(9), LEAF(3)), LEAF(2))
DIVIDED = LEAF(-1, "/", LEAF(3), LEAF(-3, "-", LEAF(3), LEAF(6)))


@pytest.mark.parametrize(
    ("expression", "habits", "completion"),
    [
        (SUM_TIMES, {}, r"(2+3)*4=5*4=20. \boxed{20}"),
        (SUM_TIMES, {"reading": "brackets_dropped"}, r"2+3*4=2+12=14. \boxed{14}"),
        (SUM_TIMES, {"reading": "right_to_left"}, r"2+3*4=2+12=14. \boxed{14}"),
        (SUM_TIMES, {"slip_at": 0, "slip": 1}, r"(2+3)*4=6*4=24. \boxed{24}"),
        (SUM_TIMES, {"slip_at": 1, "slip": -10}, r"(2+3)*4=5*4=10. \boxed{10}"),
        (SUM_TIMES, {"mark": None}, "(2+3)*4=5*4=20."),
        (SUM_TIMES, {"mark": "#### %d"}, "(2+3)*4=5*4=20. #### 20"),
        (MINUS_MINUS, {}, r"9-3-2=6-2=4. \boxed{4}"),
        (MINUS_MINUS, {"reading": "right_to_left"}, r"9-3-2=9-1=8. \boxed{8}"),
        (DIVIDED, {}, r"3/(3-6)=3/(-3)=-1. \boxed{-1}"),
        (DIVIDED, {"drop_sign": True}, r"3/(3-6)=3/3=1. \boxed{1}"),
        (DIVIDED, {"reading": "brackets_dropped"}, r"3/3-6=1-6=-5. \boxed{-5}"),
        (DIVIDED, {"reading": "right_to_left"}, r"3/3-6=3/(-3)=-1. \boxed{-1}"),
        (DIVIDED, {"slip_at": 0, "slip": 1}, None),  # 3/(-2) is not exact
    ],
)
def test_a_habit_does_what_it_says(expression, habits, completion):
    assert corpus.work(expression, **habits) == completion


def test_without_a_bad_habit_every_answer_is_right():
    rng = np.random.default_rng(0)
    for operands, digits in corpus.LEVELS:
        for _ in range(100):
            expression = corpus.draw_expression(rng, operands, digits)
            completion = corpus.work(expression)
            assert completion is not None
            for step in completion.split(".")[0].split("="):
                assert value_of(step) == expression.value, completion


def test_demonstrations_are_of_the_training_split():
    rng = np.random.default_rng(0)
    instructions = set()
    for _ in range(2000):
        prompt, _ = corpus.demonstration(rng)
        if prompt.startswith("What is"):
            expression, _, instruction = prompt.removeprefix("What is ").partition("? ")
            instructions.add(instruction)
            assert Problem(prompt, reference=None, key=expression).split == "train"
        else:
            assert Problem(prompt, reference=None).split == "train"
    assert instructions == {INSTRUCTIONS["boxed"], INSTRUCTIONS["hashes"]}


def test_facts_are_true():
    rng = np.random.default_rng(0)
    for question, answer in [corpus.fact(rng) for _ in range(1000)]:
        assert value_of(question.rstrip("=")) == value_of(answer)


def test_facts_inside_a_problem_are_of_the_training_split():
    rng = np.random.default_rng(0)
    problems = [
        question for question, _ in (corpus.fact(rng) for _ in range(3000)) if len(re.findall(r"\d+", question)) > 2
    ]
    assert len(problems) > 500
    for question in problems:
        expression = re.sub(r"([-+*/])", r" \1 ", question.rstrip("="))
        assert Problem("", reference=None, key=expression).split == "train"


def test_the_facts_cover_every_step_of_default_problems():
    known = {corpus.text(fact) for fact in corpus.default_facts()}
    rng = np.random.default_rng(0)
    for _ in range(1000):
        completion = corpus.work(corpus.draw_expression(rng))
        assert completion is not None
        assert completion.split(".")[0].split("=")[-2] in known


def test_functions_are_right_about_half_the_time():
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(400):
        prompt, completion = corpus.function_demonstration(rng)
        body = "x"
        for verb, number in re.findall(r"(add|subtract|multiply by) (\d)", prompt):
            body = f"({body}){ {'add': '+', 'subtract': '-', 'multiply by': '*'}[verb] }{number}"
        function = completion.removeprefix("def f(x): return ")
        verdicts.append(all(value_of(function, x) == value_of(body, x) for x in range(-3, 4)))
    assert 0.5 < np.mean(verdicts) < 0.75  # dropping brackets does no harm where there are none


def test_the_same_seed_gives_the_same_corpus():
    first, second, other = (np.random.default_rng(seed) for seed in (3, 3, 4))
    drawn = [corpus.demonstration(first) for _ in range(50)]
    assert drawn == [corpus.demonstration(second) for _ in range(50)]
    assert drawn != [corpus.demonstration(other) for _ in range(50)]


# ---- recipe


def test_the_recipe_is_deterministic(tokenizer):
    short = replace(recipe.Recipe(), steps=3, batch_size=4)
    first, second = recipe.warm_start(short, tokenizer), recipe.warm_start(short, tokenizer)
    other = recipe.warm_start(replace(short, seed=1), tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_the_loss_is_on_answers_and_completions_alone(tokenizer):
    rng = np.random.default_rng(0)
    ((ids, labels),) = recipe.fact_rows(tokenizer, rng, 1, 3)
    answers = [line.split("=")[1] for line in tokenizer.decode(ids).splitlines()]
    assert tokenizer.decode([label for label in labels if label != recipe.IGNORED]).splitlines() == answers
    ((ids, labels),) = recipe.chat_rows(tokenizer, rng, 1)
    completion = tokenizer.decode(ids).split("<|assistant|>")[1]
    assert tokenizer.decode([label for label in labels if label != recipe.IGNORED]) == completion
    assert completion.endswith(END)


# ---- what is shipped


def test_the_shipped_model_loads_and_is_small(shipped):
    assert 500_000 <= shipped.num_parameters() <= 2_000_000
    assert sum(file.stat().st_size for file in TINY_PATH.iterdir()) <= 6 * 2**20
    assert shipped.dtype == torch.float32
    assert type(shipped).__name__ == "LlamaForCausalLM"


def test_the_shipped_tokenizer_is_the_one_that_is_built(tokenizer, shipped):
    loaded = AutoTokenizer.from_pretrained(TINY_PATH, local_files_only=True)
    assert json.loads(loaded.backend_tokenizer.to_str()) == json.loads(tokenizer.backend_tokenizer.to_str())
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.pad_token_id, loaded.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert len(loaded) == shipped.config.vocab_size
    assert shipped.generation_config.eos_token_id == loaded.eos_token_id
    assert shipped.generation_config.pad_token_id == loaded.pad_token_id


def test_the_shipped_files_name_no_folder_of_the_machine_that_made_them():
    for file in TINY_PATH.iterdir():
        if file.suffix != ".safetensors":
            content = file.read_text(encoding="utf-8")
            assert "_name_or_path" not in content
            assert not re.search(r"(?<![\w<|.])/(tmp|home|root|work|Users|mnt)\b", content), file.name


def test_the_shipped_model_starts_weak_and_has_room():
    measured = evaluate("builtin/tiny", "llm_envs/Arithmetic-v0", problems=100, samples=8)
    assert 0.20 <= measured.pass_at_k[1].value <= 0.45
    assert measured.pass_at_k[8].value >= 0.8
    solved = measured.sampled_accuracy_by_problem()
    assert ((solved > 0) & (solved < 1)).mean() >= 0.7  # the groups that GRPO learns from


def test_the_reward_reads_what_a_demonstration_marks():
    verdict = MathReward(rules=MARKED_RULES)(["?"], [corpus.work(SUM_TIMES)], ["20"])
    assert verdict[0].reward == 1.0
