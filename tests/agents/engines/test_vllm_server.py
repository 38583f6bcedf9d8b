"""`VLLMServerEngine` against a server that behaves as vLLM's; tests/vllm has the real one."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import pytest
import torch

from agents import GRPOAgent, GRPOConfig, SamplingParams, load_policy
from agents.engines.vllm_server import ServerError, VLLMServerEngine
from tests.agents.engines.fake_vllm import FakeVLLM, serving
from tests.learned import weights_learned

PROMPTS = [[5, 6, 7, 8], [9, 10, 11], [12, 13], [14]]
SAMPLING = SamplingParams(6)
SMALL = GRPOConfig(prompts_per_update=4, group_size=4, max_completion_tokens=16)


@pytest.fixture
def policy():
    return load_policy("builtin/tiny", device="cpu")


@pytest.fixture
def fake(policy):
    return FakeVLLM(policy)


@pytest.fixture
def url(fake):
    with serving(fake) as url:
        yield url


def change(policy) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(0.05 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator))


def test_groups_in_order_and_repeated_by_their_seed(policy, url):
    engine = VLLMServerEngine(policy, url)
    groups = engine.generate(PROMPTS, 3, SAMPLING, 1)
    assert [len(group) for group in groups] == [3] * 4
    assert groups == engine.generate(PROMPTS, 3, SAMPLING, 1)
    assert groups != engine.generate(PROMPTS, 3, SAMPLING, 2)
    for completion in itertools.chain(*groups):
        assert len(completion.ids) == len(completion.logprobs) <= 6
        assert completion.truncated == (completion.ids[-1] not in policy.end_token_ids)
    greedy = engine.generate(PROMPTS, 3, SamplingParams(6, 0.0), 1)
    assert all(group == [group[0]] * 3 for group in greedy)


def test_new_weights_reach_the_server(policy, fake, url, tmp_path):
    engine = VLLMServerEngine(policy, url, weights_dir=tmp_path / "weights")
    before = engine.generate(PROMPTS, 2, SAMPLING, 1)
    change(policy)
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == before
    fake.requests.clear()
    engine.sync_weights(policy)
    assert fake.requests[:2] == ["/collective_rpc", "/reset_prefix_cache"]
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) != before
    for name, tensor in policy.model.state_dict().items():
        assert torch.equal(tensor, fake.policy.model.state_dict()[name])
    assert [file.name for file in (tmp_path / "weights").iterdir()] == ["model.safetensors"]


def test_weights_that_did_not_arrive_are_seen(policy, fake, url):
    engine = VLLMServerEngine(policy, url)
    fake.ignores_weights = True
    change(policy)
    with pytest.raises(ServerError, match=r"differ from the policy's by .* nats a token: has it another model"):
        engine.sync_weights(policy)


def test_a_busy_prefix_cache_is_waited_for(policy, fake, url, monkeypatch):
    monkeypatch.setattr("agents.engines.vllm_server._PAUSE", 0.01)
    fake.cache_is_busy = 3
    engine = VLLMServerEngine(policy, url, patience=10)
    fake.cache_is_busy = 10**6
    engine._patience = 0.05
    with pytest.raises(ServerError, match="did not empty its prefix cache"):
        engine.sync_weights(policy)


def test_no_server(policy):
    with pytest.raises(ServerError, match=r"does not answer.*\(.*refused.*up to 0.05 seconds\); start it"):
        VLLMServerEngine(policy, "http://127.0.0.1:9", patience=0.05)
    with pytest.raises(ValueError, match="must begin with http"):
        VLLMServerEngine(policy, "localhost:8000")


@pytest.mark.parametrize(
    ("option", "value"), [("logprobs_mode", "raw_logprobs"), ("generation_config", "auto"), ("logprobs_mode", None)]
)
def test_a_server_that_was_started_otherwise(policy, fake, url, option, value):
    fake.config[option] = value
    with pytest.raises(ServerError, match=f"--{option.replace('_', '-')}"):
        VLLMServerEngine(policy, url)


def test_a_server_without_the_interface_of_developers(policy, fake, url):
    fake.development = False
    with pytest.raises(ServerError, match="VLLM_SERVER_DEV_MODE=1"):
        VLLMServerEngine(policy, url)


@pytest.mark.parametrize(("size", "message"), [(256, "The policy has 512 tokens"), (1024, "knows more tokens")])
def test_another_vocabulary(policy, fake, url, size, message):
    fake.size = size
    with pytest.raises(ServerError, match=message):
        VLLMServerEngine(policy, url)


def test_another_model_of_the_same_vocabulary(policy, fake, url):
    fake.ignores_weights = True
    change(policy)
    with pytest.raises(ServerError, match="has it another model"):
        VLLMServerEngine(policy, url)


@pytest.mark.parametrize(
    ("version", "warned"), [("0.27.1", 1), ("0.28.0", 0), ("0.33.2", 0), ("0.34.0", 1), ("1.0", 1)]
)
def test_versions(policy, fake, url, version, warned):
    fake.version = version
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VLLMServerEngine(policy, url)
    assert sum("outside 0.28 to 0.33" in str(warning.message) for warning in caught) == warned


@pytest.mark.parametrize("lost", [1, 3, 4, 6])
def test_a_server_that_comes_back_gets_the_last_weights(policy, fake, url, lost):
    """It has those that it was started with when it comes back; the policy may be in the middle of an update."""
    change(policy)
    engine = VLLMServerEngine(policy, url)
    expected = engine.generate(PROMPTS, 2, SAMPLING, 1)
    change(policy)
    fake.lose = lost
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected
    assert fake.lose == 0


@pytest.mark.parametrize("code", [500, 503])
def test_a_failure_of_the_server_is_tried_again(policy, fake, url, code):
    engine = VLLMServerEngine(policy, url)
    expected = engine.generate(PROMPTS, 2, SAMPLING, 1)
    fake.fail = (code, "EngineCore died")
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected


def test_what_the_server_refuses_is_not(policy, fake, url):
    engine = VLLMServerEngine(policy, url)
    fake.requests.clear()
    with pytest.raises(ServerError, match="error 400: Token id 600 is out of vocabulary"):
        engine.generate([[600]], 2, SAMPLING, 1)
    assert fake.requests == ["/v1/completions"]


def test_a_server_that_fails_again_and_again(policy, fake, url):
    engine = VLLMServerEngine(policy, url, patience=0.2)
    fake.lose = 10**6
    with pytest.raises(ServerError, match=r"again and again .* go on from the last checkpoint"):
        engine.generate(PROMPTS, 2, SAMPLING, 1)


def test_a_run_goes_on_from_its_checkpoint(policy, tmp_path):
    fake, config = FakeVLLM(policy), replace(SMALL, max_completion_tokens=24)
    with serving(fake) as url:
        straight = GRPOAgent(policy, "llm_envs/Arithmetic-v0", config=config, engine=VLLMServerEngine(policy, url))
        straight.learn(16)
        straight.save(tmp_path / "agent")
        straight.learn(32)
    other = load_policy("builtin/tiny", device="cpu")
    fake.restart()
    with serving(fake) as url:
        engine = VLLMServerEngine(other, url, patience=0.1)
        agent = GRPOAgent.load(tmp_path / "agent", engine=engine)
    with pytest.raises(ServerError, match="go on from the last checkpoint"):
        agent.learn(32)
    with serving(fake) as url:
        agent = GRPOAgent.load(tmp_path / "agent", engine=VLLMServerEngine(other, url))
        weights_learned(agent, 32)
    for name, tensor in straight.policy.model.state_dict().items():
        assert torch.equal(tensor, agent.policy.model.state_dict()[name])


def test_bad_requests(policy, url):
    engine = VLLMServerEngine(policy, url)
    with pytest.raises(ValueError, match="at least one prompt"):
        engine.generate([], 1, SAMPLING, 0)
    with pytest.raises(ValueError, match="group_size"):
        engine.generate(PROMPTS, 0, SAMPLING, 0)
