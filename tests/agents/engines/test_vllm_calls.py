"""How `VLLMEngine` uses vLLM, by a stand-in for `vllm.LLM`; tests/vllm has the real one."""

from __future__ import annotations

import copy
import sys
import warnings
from types import ModuleType, SimpleNamespace

import gymnasium
import pytest
import torch

from agents import GRPOAgent, GRPOConfig, SamplingParams, evaluate, load_policy
from agents.engines import StaticCacheEngine
from agents.engines.vllm import VLLMEngine
from llm_envs import Problem, register_task
from rewards import Outcome, RewardResult

SMALL = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=8)


class StandIn:
    """Answers as `vllm.LLM` does, with the completions of this package's own engine; keeps what it was asked for."""

    policy = None

    def __init__(self, folder, **options):
        self.options = options
        self.calls = []
        self._policy = copy.deepcopy(StandIn.policy)
        self._engine = StaticCacheEngine(self._policy)
        self._asleep = False

    def generate(self, prompts, parameters, use_tqdm):
        assert not self._asleep
        self.calls.append("generate")
        found = []
        for prompt, of in zip(prompts, parameters, strict=True):
            sampling = SamplingParams(of.max_tokens, of.temperature)
            [group] = self._engine.generate([prompt["prompt_token_ids"]], of.n, sampling, of.seed)
            outputs = [
                SimpleNamespace(
                    token_ids=c.ids,
                    logprobs=[
                        {token: SimpleNamespace(logprob=value)} for token, value in zip(c.ids, c.logprobs, strict=True)
                    ],
                    finish_reason="length" if c.truncated else "stop",
                )
                for c in group
            ]
            found.append(SimpleNamespace(outputs=outputs))
        return found

    def collective_rpc(self, method, kwargs):
        assert method == "reload_weights"
        assert not self._asleep
        self.calls.append("weights")
        self._policy.model.load_state_dict(dict(kwargs["weights_iterator"]), strict=False)

    def apply_model(self, function):
        pass

    def reset_prefix_cache(self):
        return True

    def sleep(self, level):
        assert level == 1  # 2 drops weights
        assert not self._asleep
        self._asleep = True
        self.calls.append("sleep")

    def wake_up(self):
        assert self._asleep
        self._asleep = False
        self.calls.append("wake")


@pytest.fixture
def policy(monkeypatch):
    policy = load_policy("builtin/tiny", device="cpu")
    module = ModuleType("vllm")
    module.__version__ = "0.32.0"
    module.LLM = StandIn
    module.SamplingParams = SimpleNamespace
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(StandIn, "policy", policy)
    return policy


@pytest.fixture
def talk():
    """Three turns, whatever is said."""

    def marked(prompts, completions, references):
        return [RewardResult(float(len(text) % 2), Outcome.CORRECT, text) for text in completions]

    @register_task("test/Talk-v0", reward=marked, reply=lambda problem, texts, result: "Go on.", max_turns=3)
    def sampler(rng):
        return Problem(f"Say {rng.integers(10**6)}.", reference="1")

    yield "test/Talk-v0"
    del gymnasium.registry["test/Talk-v0"]


def test_it_sleeps_once_after_all_turns_of_a_batch_and_wakes_for_the_weights(policy, talk):
    engine = VLLMEngine(policy, sleeps=True)
    agent = GRPOAgent(policy, talk, config=SMALL, engine=engine)
    engine._llm.calls.clear()
    agent.learn(8)
    turns = ["generate"] * 3
    assert engine._llm.calls == [*turns, "sleep", "wake", "weights", *turns, "sleep", "wake", "weights"]


def test_it_sleeps_once_after_an_evaluation_and_after_a_prediction(policy, talk):
    engine = VLLMEngine(policy, sleeps=True)
    agent = GRPOAgent(policy, talk, config=SMALL, engine=engine)
    engine._llm.calls.clear()
    evaluate(agent, problems=2, samples=2)
    assert engine._llm.calls == ["generate"] * 6 + ["sleep"]  # greedy and sampled
    agent.predict("What is 3 + 4?")
    assert engine._llm.calls[7:] == ["wake", "generate", "sleep"]


def test_a_refill_is_part_of_its_batch(policy, talk):
    engine = VLLMEngine(policy, sleeps=True)
    config = GRPOConfig(prompts_per_update=2, group_size=2, max_completion_tokens=8, max_refills=3)
    agent = GRPOAgent(policy, talk, config=config, engine=engine)
    engine._llm.calls.clear()
    agent._collect()
    assert engine._llm.calls.count("sleep") == 1
    assert engine._llm.calls[-1] == "sleep"


def test_without_sleep_it_stays_awake(policy):
    engine = VLLMEngine(policy)  # on a CPU
    agent = GRPOAgent(policy, "llm_envs/Arithmetic-v0", config=SMALL, engine=engine)
    agent.learn(4)
    assert not {"sleep", "wake"} & set(engine._llm.calls)


def test_options(policy):
    engine = VLLMEngine(policy, max_length=128, enforce_eager=True)
    assert engine._llm.options["max_model_len"] == 128
    assert engine._llm.options["enforce_eager"]
    assert engine._llm.options["logprobs_mode"] == "processed_logprobs"
    assert VLLMEngine(policy)._llm.options["max_model_len"] == policy.context_length


@pytest.mark.parametrize(
    ("version", "warned"), [("0.27.3", True), ("0.28", False), ("0.33.1rc0", False), ("1.2", True)]
)
def test_versions(policy, version, warned):
    sys.modules["vllm"].__version__ = version
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VLLMEngine(policy)
    assert any("outside 0.28 to 0.33" in str(warning.message) for warning in caught) == warned


def test_new_weights_arrive(policy):
    engine = VLLMEngine(policy)
    before = engine.generate([[5, 6, 7]], 2, SamplingParams(6), 1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.2)
    assert engine.generate([[5, 6, 7]], 2, SamplingParams(6), 1) == before
    engine.sync_weights(policy)
    assert engine.generate([[5, 6, 7]], 2, SamplingParams(6), 1) != before


@pytest.mark.parametrize("reason", ["abort", "error", "repetition", None])
def test_a_completion_that_was_broken_off_is_an_error(policy, monkeypatch, reason):
    engine = VLLMEngine(policy)
    generate = engine._llm.generate

    def broken(*arguments, **options):
        found = generate(*arguments, **options)
        found[-1].outputs[-1].finish_reason = reason
        return found

    monkeypatch.setattr(engine._llm, "generate", broken)
    with pytest.raises(RuntimeError, match=f"finish_reason={reason!r}"):
        engine.generate([[5, 6], [7]], 2, SamplingParams(4), 1)


def test_a_completion_that_is_missing_is_an_error(policy, monkeypatch):
    engine = VLLMEngine(policy)
    generate = engine._llm.generate

    def fewer(*arguments, **options):
        found = generate(*arguments, **options)
        found[0].outputs.pop()
        return found

    monkeypatch.setattr(engine._llm, "generate", fewer)
    with pytest.raises(RuntimeError, match=r"gave \[1, 2\] completions of prompts, not 2 of each"):
        engine.generate([[5, 6], [7]], 2, SamplingParams(4), 1)


def test_4_bit_weights_are_refused_before_vllm_is_started(policy, monkeypatch):
    monkeypatch.setattr(type(policy), "load_in", "4bit")
    monkeypatch.setattr(sys.modules["vllm"], "LLM", None)
    with pytest.raises(ValueError, match="load_in='4bit': leave it out"):
        VLLMEngine(policy)
