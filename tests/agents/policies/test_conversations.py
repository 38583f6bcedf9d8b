"""Chat templates that show a part of a conversation, and tokenizers with tokens that the model does not know."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
import torch

from agents import GRPOAgent, GRPOConfig, evaluate, load_policy
from agents.collect import collect
from agents.engines import default_engine
from agents.envs import make_envs
from agents.policies import ChatFormat, LanguageModelPolicy, UnsuitableTokenizer
from agents.rollout import SamplingParams
from llm_envs import Problem, register_task
from rewards import Outcome, RewardResult

TURN = "<|{{ m.role }}|>{{ m.content }}<|end|>"
WHOLE = "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
PARTS = {
    "the last message alone": "{% set m = messages[-1] %}" + TURN + "<|assistant|>",
    "the first message alone": "{% set m = messages[0] %}" + TURN + "<|assistant|>",
    "users alone": WHOLE.replace("%}<|", "%}{% if m.role == 'user' %}<|", 1).replace(
        "<|end|>", "<|end|>{% endif %}", 1
    ),
    "no user behind an assistant": WHOLE.replace("%}<|", "%}{% if m.role != 'user' or loop.first %}<|", 1).replace(
        "<|end|>", "<|end|>{% endif %}", 1
    ),
    "an assistant's turn without its content": WHOLE.replace(
        "{{ m.content }}", "{{ m.content if m.role != 'assistant' else '' }}"
    ),
    "a refusal": "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}" + WHOLE,
}
KEPT = {
    "all": WHOLE,
    "the last two": WHOLE.replace("in messages", "in messages[-2:]"),
    "no reasoning of earlier turns": WHOLE.replace(
        "{{ m.content }}", "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}"
    ),
    "trimmed": WHOLE.replace("m.content", "m.content | trim"),
}


def policy_with(template, chat=None):
    source = load_policy("builtin/tiny")
    tokenizer = copy.deepcopy(source.tokenizer)
    tokenizer.chat_template = template
    return LanguageModelPolicy(source.model, tokenizer, name="with a template", chat=chat)


@pytest.fixture
def talk():
    def reward(prompts, completions, references):
        return [RewardResult(0.0, Outcome.WRONG, None) for _ in completions]

    @register_task("test/Parts-v0", reward=reward, reply=lambda *_: "  Again.  ", max_turns=3)
    def sampler(rng):
        return Problem(f"What is 2 + {int(rng.integers(9))}?", reference="4")

    yield "test/Parts-v0"
    del gymnasium.registry["test/Parts-v0"]


class Never:
    """An engine that must not be asked."""

    exact_logprobs = True

    def generate(self, *_):
        raise AssertionError("a completion was asked for")

    def sync_weights(self, policy):
        pass


def play(policy, task, engine):
    envs = make_envs(task, 4)
    return collect(envs, policy, engine, [1, 2], 2, SamplingParams(8), np.random.default_rng(0))


@pytest.mark.parametrize("name", PARTS)
def test_a_template_that_shows_a_part_is_refused_before_anything_is_written(name, talk):
    policy = policy_with(PARTS[name])
    with pytest.raises(UnsuitableTokenizer, match=r"a part of a conversation|refuses the turns"):
        play(policy, talk, Never())
    with pytest.raises(UnsuitableTokenizer):
        GRPOAgent(policy, talk, engine=Never(), config=GRPOConfig(prompts_per_update=2, group_size=2)).learn(4)
    with pytest.raises(UnsuitableTokenizer):
        evaluate(policy, talk, problems=2, samples=2, split=None)
    with pytest.raises(UnsuitableTokenizer):
        policy.encode_reply("Again.", 1)


@pytest.mark.parametrize("name", PARTS)
def test_a_task_of_one_turn_takes_it(name):
    policy = policy_with(PARTS[name])
    assert len(play(policy, "llm_envs/Arithmetic-v0", default_engine(policy))) == 4


@pytest.mark.parametrize("name", KEPT)
def test_what_is_in_the_context_stays_there_token_by_token(name, talk):
    """A template that drops early turns or reasoning is never asked to write them again."""
    policy = policy_with(KEPT[name])
    for rollout in play(policy, talk, default_engine(policy)):
        assert rollout.turns == 3
        messages = policy.tokenizer.decode(
            [t for t, mine in zip(rollout.completion.ids, rollout.action_mask, strict=True) if not mine]
        )
        assert messages.count("<|user|>") == messages.count("Again.") == messages.count("<|assistant|>") == 2


EXAMPLES = (("What is 1 + 1?", "2"), ("What is 2 + 2?", "4"))


@pytest.mark.parametrize(
    ("template", "chat"),
    [
        (WHOLE.replace("in messages", "in messages[1:]"), ChatFormat("Be brief.")),
        (PARTS["the last message alone"], ChatFormat("Be brief.")),
        (PARTS["the last message alone"], ChatFormat(examples=EXAMPLES)),
        (PARTS["users alone"], ChatFormat(examples=EXAMPLES)),
        (KEPT["the last two"], ChatFormat(examples=EXAMPLES)),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + WHOLE,
            ChatFormat("Be."),
        ),
    ],
)
def test_a_system_prompt_or_examples_that_it_leaves_out_are_refused_at_once(template, chat):
    with pytest.raises(UnsuitableTokenizer, match=r"leaves out|refuses the turns"):
        policy_with(template, chat)
    policy_with(template)  # without them there is nothing to leave out


def test_those_that_it_shows_are_taken():
    policy = policy_with(WHOLE, ChatFormat("Be brief.", EXAMPLES))
    text = policy.tokenizer.decode(policy.encode_prompts(["What is 3 + 3?"])[0])
    assert text.startswith("<|system|>Be brief.<|end|><|user|>What is 1 + 1?<|end|><|assistant|>2<|end|>")


def test_a_prompt_of_one_turn_that_the_template_refuses_is_one_line():
    policy = policy_with("{{ raise_exception('a system turn must come first') }}")
    with pytest.raises(UnsuitableTokenizer, match="refuses the turns user: a system turn must come first"):
        policy.encode_prompts(["Hi"])


# -- tokens beyond the embedding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [["<think>"], ["<a>", "<b>"], ["plain"]])
def test_a_token_beyond_the_embedding_is_an_error_at_loading(tokens, tmp_path):
    source = load_policy("builtin/tiny")
    source.tokenizer.add_tokens(tokens)
    with pytest.raises(UnsuitableTokenizer, match=r"beyond the 512 rows.*resize_token_embeddings"):
        LanguageModelPolicy(source.model, source.tokenizer)
    source.save(tmp_path)
    with pytest.raises(UnsuitableTokenizer, match=f"has {len(tokens)} tokens beyond"):
        load_policy(tmp_path)
    with torch.random.fork_rng():
        source.model.resize_token_embeddings(len(source.tokenizer))
    source.save(tmp_path)
    policy = load_policy(tmp_path)
    engine = default_engine(policy)
    engine.generate(policy.encode_prompts([f"{tokens[0]} 2"]), 2, SamplingParams(4), 0)


def test_a_padding_token_beyond_it_is_never_read_and_needs_no_row():
    source = load_policy("builtin/tiny")
    source.tokenizer.add_special_tokens({"pad_token": "<extra pad>"})
    policy = LanguageModelPolicy(source.model, source.tokenizer)
    assert policy.pad_token_id < 512
    play(policy, "llm_envs/Arithmetic-v0", default_engine(policy))
