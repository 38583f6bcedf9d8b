"""Special tokens that a model writes, tokens that end a turn, and reasoning that the chat template has opened."""

from __future__ import annotations

import copy

import gymnasium
import numpy as np
import pytest
import torch
from tokenizers import AddedToken

from agents import GRPO, Callback, GRPOAgent, GRPOConfig, SB3Agent, evaluate, load_policy
from agents.collect import collect
from agents.engines import CachedEngine, default_engine
from agents.envs import make_envs
from agents.policies import LanguageModelPolicy
from agents.rollout import Completion, SamplingParams
from llm_envs import Problem, register_task
from llm_envs.chat_template import opened_reasoning, template_marks
from llm_envs.export import to_trl
from llm_envs.wrappers import TokenCompletion, TokenLevel
from rewards import Outcome, RewardResult
from rewards.math import MathReward

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENED = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")


def policy_with(*special, template=None, plain_tokens=()):
    """builtin/tiny with further tokens and another chat template; the new tokens have rows of their own."""
    source = load_policy("builtin/tiny")
    tokenizer = copy.deepcopy(source.tokenizer)
    tokenizer.add_tokens([AddedToken(text, special=True) for text in special])
    tokenizer.add_tokens([AddedToken(text, special=False) for text in plain_tokens])
    if template is not None:
        tokenizer.chat_template = template
    with torch.random.fork_rng():
        source.model.resize_token_embeddings(len(tokenizer))
    return LanguageModelPolicy(source.model, tokenizer, name="with tokens")


class Says:
    """An engine that writes given texts, one after the other, with an end token behind each."""

    exact_logprobs = True

    def __init__(self, policy, texts, end=True, truncated=False):
        self.policy, self.texts, self.end, self.truncated = policy, list(texts), end, truncated
        self.contexts = []

    def generate(self, prompt_ids, group_size, sampling, seed):
        self.contexts += prompt_ids
        groups = []
        for _ in prompt_ids:
            group = []
            for _ in range(group_size):
                self.texts.append(self.texts.pop(0))
                ids = self.policy.tokenizer(self.texts[-1], add_special_tokens=False)["input_ids"]
                ids = ids + [self.policy.tokenizer.eos_token_id] * self.end
                group.append(Completion(ids, [-1.0] * len(ids), self.truncated))
            groups.append(group)
        return groups

    def sync_weights(self, policy):
        pass


@pytest.fixture
def sums():
    """One question, and the texts that its reward was asked about."""
    seen = []

    def reward(prompts, completions, references):
        seen.extend(completions)
        return MathReward()(prompts, completions, references)

    @register_task("test/Sums-v0", reward=reward)
    def sampler(rng):
        return Problem(f"What is 2 + 2? Take {int(rng.integers(9))}.", reference="4")

    yield "test/Sums-v0", seen
    del gymnasium.registry["test/Sums-v0"]


def play(policy, task, engine, **sampling):
    envs = make_envs(task, 2)
    return collect(envs, policy, engine, [1], 2, SamplingParams(32, **sampling), np.random.default_rng(0))


# -- special tokens in the text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "<think>2+2</think><answer>4</answer>",
        "2<think>+2",
        "<answer>4</answer>",
        "<tool_call>{}</tool_call>",
        "[THINK]2[/THINK]4",
        "<|begin_of_thought|>2<|end_of_thought|>4",
    ],
)
def test_special_tokens_that_a_model_writes_reach_reward_and_reply(text, sums):
    marks = ["<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "[THINK]", "[/THINK]"]
    policy = policy_with(*marks, "<|begin_of_thought|>", "<|end_of_thought|>")
    task, seen = sums
    engine = Says(policy, [text])
    [rollout, _] = play(policy, task, engine)
    assert rollout.text == text
    assert seen == [text, text]
    agent = GRPOAgent(policy, task, engine=engine, config=GRPOConfig(prompts_per_update=2, group_size=2))
    assert agent.predict("What is 2 + 2?") == text


def test_ends_starts_and_padding_are_no_text():
    policy = policy_with("<|im_start|>", "<|im_end|>", "<s>", template=CHATML)
    tokenizer = policy.tokenizer
    tokenizer.bos_token = "<s>"
    ids = tokenizer("<s>12<|im_end|>", add_special_tokens=False)["input_ids"]
    assert policy.decode([*ids, tokenizer.eos_token_id, tokenizer.pad_token_id]) == "12"
    assert policy.decode(ids, with_all_special_tokens=True) == "<s>12<|im_end|>"


@pytest.mark.parametrize("engine_class", [CachedEngine, default_engine])
@pytest.mark.parametrize("stop", ["<|im_end|>", "</answer>", "<|eot_id|>", "<|user|>"])
def test_stop_strings_that_are_special_tokens_end_a_completion(engine_class, stop):
    policy = policy_with("<|im_end|>", "</answer>", "<|eot_id|>")
    token = policy.tokenizer.convert_tokens_to_ids(stop)
    engine = engine_class(policy)
    sampling = SamplingParams(64, temperature=50.0, stop=(stop,))
    [group] = engine.generate(policy.encode_prompts(["Hi"]), 32, sampling, seed=0)
    ended = [completion for completion in group if token in completion.ids]
    for completion in ended:
        assert completion.ids.index(token) == len(completion.ids) - 1
        assert not completion.truncated
    assert ended


# -- what ends a turn ------------------------------------------------------------------------------------------------

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|stop|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
SPACED = "{% for m in messages %}[{{ m.role }}] {{ m.content }} <|eot|>\n{% endfor %}"
ONLY_BETWEEN = "{% for m in messages %}{{ m.content }}{% if not loop.last %}<|sep|>{% endif %}{% endfor %}"
NO_LAST_ASSISTANT = "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}" + CHATML


@pytest.mark.parametrize(
    ("template", "tokens", "end"),
    [
        (CHATML, ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
        (GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>"),
        (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>"),
        (HARMONY, ["<|start|>", "<|message|>", "<|stop|>", "<|return|>"], "<|return|>"),
        (SPACED, ["<|eot|>"], "<|eot|>"),
        (ONLY_BETWEEN, ["<|sep|>"], "<|sep|>"),
        (NO_LAST_ASSISTANT, ["<|im_start|>", "<|im_end|>"], "<|im_end|>"),
    ],
)
def test_the_token_that_ends_a_turn_of_the_template_ends_a_completion(template, tokens, end):
    policy = policy_with(*tokens, template=template)
    token = policy.tokenizer.convert_tokens_to_ids(end)
    assert policy.end_token_ids == {policy.tokenizer.eos_token_id, token}
    assert policy.decode([*policy.tokenizer("4", add_special_tokens=False)["input_ids"], token]) == "4"


def test_it_need_not_be_registered_as_special():
    policy = policy_with("<|im_start|>", plain_tokens=["<|im_end|>"], template=CHATML)
    assert policy.tokenizer.convert_tokens_to_ids("<|im_end|>") in policy.end_token_ids


@pytest.mark.parametrize("template", ["{% for m in messages %}### {{ m.role }}\n{{ m.content }}\n{% endfor %}", None])
def test_without_such_a_token_nothing_else_ends_it(template):
    policy = policy_with(template=template)
    if template is None:
        policy.tokenizer.chat_template = None
    assert policy.end_token_ids == {policy.tokenizer.eos_token_id}


def test_a_template_that_is_set_later_counts():
    policy = policy_with("<|im_start|>", "<|im_end|>")
    assert len(policy.end_token_ids) == 1
    policy.tokenizer.chat_template = CHATML
    assert policy.tokenizer.convert_tokens_to_ids("<|im_end|>") in policy.end_token_ids


@pytest.mark.parametrize("engine_class", [CachedEngine, default_engine])
def test_engines_stop_there(engine_class):
    policy = policy_with("<|im_start|>", "<|im_end|>", template=CHATML)
    end = policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    [group] = engine_class(policy).generate(policy.encode_prompts(["Hi"]), 64, SamplingParams(64, 50.0), seed=0)
    ended = [completion for completion in group if end in completion.ids]
    assert ended
    assert all(completion.ids[-1] == end and not completion.truncated for completion in ended)


# -- reasoning that the template has opened --------------------------------------------------------------------------

CUT = "2+2 is maybe \\boxed{4}, let me check"
DONE = "2+2 is easy.\n</think>\nIt is \\boxed{4}."


@pytest.mark.parametrize("special", [(), ("<think>", "</think>")])
def test_cut_reasoning_earns_nothing_and_ended_reasoning_its_answer(special, sums):
    policy = policy_with("<|im_start|>", "<|im_end|>", *special, template=OPENED)
    task, seen = sums
    rollouts = play(policy, task, Says(policy, [CUT, DONE]))
    assert [rollout.text for rollout in rollouts] == ["<think>\n" + CUT, "<think>\n" + DONE] == seen
    assert [rollout.reward for rollout in rollouts] == [0, 1]
    # tokens and log-probabilities are those that were sampled
    for rollout, text in zip(rollouts, (CUT, DONE), strict=True):
        ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert rollout.completion.ids == [*ids, policy.tokenizer.eos_token_id]
        assert len(rollout.completion.logprobs) == len(rollout.completion.ids)


@pytest.mark.parametrize(
    ("ending", "opened"),
    [
        ("<think>\n", "<think>\n"),
        ("<think>", "<think>"),
        ("<think>\n\n", "<think>\n\n"),
        ("<think>\n\n</think>\n\n", ""),  # reasoning is switched off
        ("<think>\nOkay, ", "<think>\nOkay, "),
        ("<thinking>\n", "<thinking>\n"),
        ("[THINK]", "[THINK]"),
        ("", ""),
        ("<answer>", ""),
    ],
)
def test_what_the_template_ends_with(ending, opened, sums):
    template = CHATML.replace("assistant\n{% endif", "assistant\n" + ending + "{% endif")
    policy = policy_with("<|im_start|>", "<|im_end|>", template=template)
    task, _ = sums
    [rollout, _] = play(policy, task, Says(policy, ["4"]))
    assert rollout.text == opened + "4"


def test_a_prompt_that_speaks_of_the_mark_opens_nothing():
    policy = policy_with("<|im_start|>", "<|im_end|>", template=CHATML)
    [context] = policy.encode_prompts(["Reason inside of <think> and </think>. Begin with <think>"])
    assert policy.completion_text([], context) == ""


def test_a_plain_prompt_can_end_with_it():
    policy = policy_with()
    policy.tokenizer.chat_template = None
    [context, other] = policy.encode_prompts(["What is 2 + 2?\nAssistant: <think>\n", "Use <think> and </think>."])
    assert policy.completion_text([], context) == "<think>\n"
    assert policy.completion_text([], other) == ""


def test_each_turn_says_it():
    heard = []

    def reward(prompts, completions, references):
        heard.extend(completions)
        return [RewardResult(0.0, Outcome.WRONG, None) for _ in completions]

    @register_task("test/OpenedTalk-v0", reward=reward, reply=lambda *_: "Again.", max_turns=3)
    def sampler(rng):
        return Problem("What is 2 + 2?", reference="4")

    try:
        policy = policy_with("<|im_start|>", "<|im_end|>", template=OPENED)
        engine = Says(policy, ["one"])
        [rollout, _] = play(policy, "test/OpenedTalk-v0", engine)
    finally:
        del gymnasium.registry["test/OpenedTalk-v0"]
    assert heard == ["<think>\none"] * 6
    assert rollout.text.count("<think>\none") == rollout.turns == 3
    assert policy.tokenizer.decode(engine.contexts[-1]).count("<think>\n") == 3  # once a turn, and never twice


class Recorder(Callback):
    def __init__(self):
        self.records = []

    def on_update(self, record):
        self.records.append(record)


def test_training_evaluation_and_predict_agree(sums):
    task, seen = sums
    policy = policy_with("<|im_start|>", "<|im_end|>", template=OPENED)
    config = GRPOConfig(prompts_per_update=2, group_size=2, epochs=1, minibatches=1)
    agent = GRPOAgent(policy, task, engine=Says(policy, [CUT, DONE]), config=config, objective=GRPO(kl_coef=0))
    recorder = Recorder()
    agent.learn(4, recorder)
    assert [rollout.text for rollout in recorder.records[0].rollouts] == ["<think>\n" + CUT, "<think>\n" + DONE] * 2
    report = evaluate(agent, problems=2, samples=2, split=None)
    assert report.pass_at_k[1].value == 0.5
    assert {rollout.text for rollout in report.sampled_rollouts} == {"<think>\n" + CUT, "<think>\n" + DONE}
    assert agent.predict(["What is 2 + 2?"] * 2) == ["<think>\n" + CUT, "<think>\n" + DONE]
    assert all(text.startswith("<think>\n") for text in seen)


@pytest.mark.parametrize("view", ["completion", "token"])
def test_stable_baselines3_agents_say_it(view, sums):
    task, seen = sums
    policy = policy_with("<|im_start|>", "<|im_end|>", template=OPENED)
    from agents.sb3.config import SB3Config

    config = SB3Config(num_envs=4, n_steps=1 if view == "completion" else 8, max_completion_tokens=8)
    agent = SB3Agent(policy, task, view=view, config=config)
    recorder = Recorder()
    agent.learn(4, recorder)
    assert seen
    assert all(text.startswith("<think>\n") for text in seen)
    assert all(rollout.text.startswith("<think>\n") for rollout in recorder.records[0].rollouts)


@pytest.mark.parametrize("view", [TokenCompletion, TokenLevel])
def test_token_wrappers_do_what_the_policy_does(view, sums):
    task, seen = sums
    policy = policy_with("<|im_start|>", "<|im_end|>", template=OPENED)
    env = view(gymnasium.make(task), policy.tokenizer, 40)
    env.reset(seed=0)
    assert env.end_token_ids == policy.end_token_ids
    ids = policy.tokenizer(CUT + "<|im_end|>", add_special_tokens=False)["input_ids"]
    if view is TokenCompletion:
        _, reward, _, _, info = env.step(np.array(ids + [0] * (40 - len(ids))))
    else:
        for token in ids:
            _, reward, over, _, info = env.step(token)
        assert over
    assert info["completion"] == "<think>\n" + CUT == seen[0]
    assert reward == 0


def test_trl_gets_a_reward_that_knows_it(sums):
    pytest.importorskip("datasets")
    task, _ = sums
    policy = policy_with("<|im_start|>", "<|im_end|>", template=OPENED)

    def rewards(**options):
        dataset, reward = to_trl(task, problems=2, **options)
        prompts = dataset["prompt"][:]
        completions = [
            text if isinstance(prompts[0], str) else [{"role": "assistant", "content": text}] for text in (CUT, DONE)
        ]
        return reward(prompts=prompts, completions=completions, problem_seed=dataset["problem_seed"][:])

    assert rewards(tokenizer=policy.tokenizer) == [0.0, 1.0]
    assert rewards() == [1.0, 1.0]  # nothing says that the template has opened it
    assert rewards(conversational=False, tokenizer=policy.tokenizer) == [1.0, 1.0]  # no template is applied


def test_marks_of_a_tokenizer_without_a_template_are_empty():
    policy = policy_with()
    policy.tokenizer.chat_template = None
    marks = template_marks(policy.tokenizer)
    assert (marks.turn_end_ids, marks.generation_prompt) == (frozenset(), "")
    assert opened_reasoning("text", marks.generation_prompt) == ""
