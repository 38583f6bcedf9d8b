"""Episodes of several turns: what is collected, what is learned from, and in which tokens."""

from __future__ import annotations

from zlib import crc32

import gymnasium
import numpy as np
import pytest
import torch

from agents import GRPO, Callback, GRPOAgent, GRPOConfig, SB3Agent, evaluate, load_policy
from agents.collect import collect
from agents.engines import CachedEngine, default_engine
from agents.envs import make_envs
from agents.objectives import DAPO
from agents.policies import ChatFormat, LanguageModelPolicy
from agents.policies.language_model import PromptTooLong
from agents.rollout import Completion, GroupBatch, SamplingParams
from llm_envs import Problem, Unicode, register_task
from llm_envs.wrappers import PromptTemplate
from rewards import Outcome, RewardResult
from tests.learned import weights_learned

SMALL = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=14)


def marked(prompts, completions, references):
    """Right where the completion has the reference's letter."""
    return [
        RewardResult(float(letter in text), Outcome.CORRECT if letter in text else Outcome.WRONG, text[:5])
        for text, letter in zip(completions, references, strict=True)
    ]


@pytest.fixture
def talk():
    """Up to three turns; what the completion is decides whether it was the last."""

    @register_task(
        "test/Talk-v0",
        reward=marked,
        reply=lambda problem, texts, result: (
            None if crc32(texts[-1].encode()) % 3 == 0 else f"Again, {len(texts)}: {problem.prompt}"
        ),
        max_turns=3,
    )
    def sampler(rng):
        a, b, c = rng.integers(10, size=3).tolist()
        return Problem(f"What is {a} + {b} + {c}?", reference="1")

    yield "test/Talk-v0"
    del gymnasium.registry["test/Talk-v0"]


def play(policy, engine, task, seeds=(1, 2, 3, 4), group_size=4, tokens=14):
    envs = make_envs(task, len(seeds) * group_size)
    return collect(envs, policy, engine, seeds, group_size, SamplingParams(tokens), np.random.default_rng(0))


def parts(rollout):
    """The tokens in runs of one author: (whether the model wrote them, ids)."""
    runs = []
    for token, mine in zip(rollout.completion.ids, rollout.action_mask or [True] * 999, strict=False):
        if not runs or runs[-1][0] is not mine:
            runs.append((mine, []))
        runs[-1][1].append(token)
    return runs


@pytest.mark.parametrize("engine", [CachedEngine, default_engine])
def test_messages_stand_between_completions_and_are_not_the_models(talk, engine):
    policy = load_policy("builtin/tiny", device="cpu")
    rollouts = play(policy, engine(policy), talk)
    assert {rollout.turns for rollout in rollouts} >= {1, 2, 3}
    endings = set()
    for rollout in rollouts:
        runs = parts(rollout)
        assert [mine for mine, _ in runs] == [True, False] * (rollout.turns - 1) + [True]
        assert rollout.num_tokens == sum(len(ids) for mine, ids in runs if mine)
        said = [policy.tokenizer.decode(ids) for mine, ids in runs if not mine]
        for turn, text in enumerate(said, 1):
            # an ended turn is not ended again
            assert text.removeprefix("<|end|>") == f"<|user|>Again, {turn}: {rollout.prompt}<|end|><|assistant|>"
            ended = runs[2 * turn - 2][1][-1] in policy.end_token_ids
            assert text.startswith("<|end|>") is not ended
            endings.add(ended)
        texts = [policy.decode(ids) for mine, ids in runs if mine]
        replies = [f"[environment] Again, {turn}: {rollout.prompt}" for turn in range(1, rollout.turns)]
        woven = [text for pair in zip(texts, [*replies, None], strict=True) for text in pair if text is not None]
        assert rollout.text == "\n".join(woven)
        assert rollout.reward == float("1" in texts[-1])


def test_log_probabilities_are_those_of_the_whole_episode(talk):
    policy = load_policy("builtin/tiny", device="cpu")
    rollouts = play(policy, default_engine(policy), talk)
    batch = GroupBatch.from_rollouts(rollouts, 4, policy.pad_token_id)
    assert batch.total_tokens == int(batch.action_mask.sum()) < int(batch.completion_mask.sum())
    plain = LanguageModelPolicy(policy.model, policy.tokenizer, plain=True)
    for scored in (policy.logprobs(batch), plain.logprobs(batch)):
        difference = (scored.detach() - batch.sampler_logprobs) * batch.action_mask
        assert difference.abs().max() < 1e-4


def test_nothing_is_learned_from_what_the_environment_said(talk):
    policy = load_policy("builtin/tiny", device="cpu")
    batch = GroupBatch.from_rollouts(play(policy, default_engine(policy), talk), 4, policy.pad_token_id)
    for objective in (GRPO(kl_coef=0.0), DAPO()):
        batch_of = GroupBatch(**{name: getattr(batch, name) for name in batch.__dataclass_fields__})
        object.__setattr__(batch_of, "advantages", torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
        logprobs = batch.sampler_logprobs.clone().requires_grad_()
        objective.loss(batch_of, logprobs)[0].backward()
        assert logprobs.grad[batch.action_mask == 0].eq(0).all()
        assert logprobs.grad[batch.action_mask == 1].ne(0).any()


class Recorder(Callback):
    def __init__(self, records):
        self.records = records

    def on_update(self, record):
        self.records.append(record)


def test_an_agent_learns_saves_resumes_and_is_evaluated(talk, tmp_path):
    def agent():
        return GRPOAgent("builtin/tiny", talk, config=SMALL, seed=0, device="cpu")

    def weights(of):
        return torch.cat([p.detach().flatten() for p in of.policy.model.parameters()])

    before = weights(agent())
    records = []
    straight = agent().learn(48, Recorder(records))
    for record in records:
        assert record.metrics["reward_calls"] == max(rollout.turns for rollout in record.rollouts) > 1
    agent().learn(32).save(tmp_path / "agent")
    resumed = GRPOAgent.load(tmp_path / "agent", device="cpu")
    weights_learned(resumed, 48)
    assert not torch.equal(weights(straight), before)
    assert torch.equal(weights(resumed), weights(straight))
    found = evaluate(straight, problems=8, samples=2)
    assert found.problems == 8
    with pytest.raises(ValueError, match="several turns"):
        GRPOAgent(
            "builtin/tiny", talk, config=GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=8,
            overlong_buffer=4), device="cpu",
        ).learn(16)  # fmt: skip


def test_wrappers_change_nothing_but_what_they_say(talk, random_policy):
    """Episodes end after different numbers of turns, in copies one after the other as in one vector environment."""
    policy = random_policy("llama")
    expected = play(policy, default_engine(policy), talk)
    assert len({rollout.turns for rollout in expected}) > 1
    wrapped = gymnasium.wrappers.TransformObservation(gymnasium.make(talk), str, Unicode())
    assert play(policy, default_engine(policy), wrapped) == expected
    limited = gymnasium.wrappers.TimeLimit(gymnasium.make(talk), 2)
    shorter = play(policy, default_engine(policy), limited)
    assert {rollout.turns for rollout in shorter} == {1, 2}
    framed = PromptTemplate(gymnasium.make(talk), "{prompt} Think.")
    assert all(rollout.prompt.endswith(" Think.") for rollout in play(policy, default_engine(policy), framed))
    agent = GRPOAgent(policy, wrapped, config=SMALL, device="cpu").learn(16)
    assert agent.num_updates == 1


def test_stable_baselines3_refuses_it(talk):
    with pytest.raises(NotImplementedError, match="several turns"):
        SB3Agent("builtin/tiny", talk, device="cpu").learn(16)


def test_an_episode_that_outgrows_the_context(random_policy):
    @register_task("test/Endless-v0", reward=marked, reply=lambda *_: "go on " * 20, max_turns=10**6)
    def sampler(rng):
        return Problem(f"{int(rng.integers(10**6))}", "1")

    policy = random_policy("llama", max_position_embeddings=256)
    with pytest.raises(PromptTooLong, match="lower max_completion_tokens or the number of turns"):
        play(policy, default_engine(policy), "test/Endless-v0", [1], 2)
    del gymnasium.registry["test/Endless-v0"]


class Scripted:
    def __init__(self, policy, *turns):
        self.policy, self.turns, self.contexts = policy, list(turns), []

    def generate(self, prompt_ids, group_size, sampling, seed):
        self.contexts.append(prompt_ids)
        ids = self.policy.tokenizer(self.turns.pop(0), add_special_tokens=False)["input_ids"]
        return [[Completion(ids, [0.0] * len(ids), False)] * group_size for _ in prompt_ids]

    def sync_weights(self, policy):
        pass


def test_the_context_is_the_chat_that_the_template_gives(talk):
    policy = load_policy("builtin/tiny", device="cpu", chat=ChatFormat("Be brief.", (("a?", "b"),)))
    engine = Scripted(policy, "one<|end|>", "three<|end|>", "1<|end|>")
    [rollout] = play(policy, engine, talk, [1], 1)
    messages = [
        *policy.chat.messages(rollout.prompt),
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": f"Again, 1: {rollout.prompt}"},
        {"role": "assistant", "content": "three"},
        {"role": "user", "content": f"Again, 2: {rollout.prompt}"},
    ]
    text = policy.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert engine.contexts[-1] == [policy.tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert (rollout.turns, rollout.reward) == (3, 1.0)


def test_without_a_chat_template_a_message_is_a_line(talk):
    policy = load_policy("builtin/tiny", device="cpu")
    policy.tokenizer.chat_template = None
    assert policy.tokenizer.decode(policy.encode_reply("Lower.", 5)) == "\nLower.\n"
