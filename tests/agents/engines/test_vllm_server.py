"""`VLLMServerEngine` against a server that behaves as vLLM's; tests/vllm has the real one."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import pytest
import torch

from agents import GRPOAgent, GRPOConfig, SamplingParams, load_policy
from agents.distributed import Ranks
from agents.engines.vllm import named_weights
from agents.engines.vllm_server import ServerError, VLLMServerEngine, _is_loopback
from agents.forward.packed_model import without_adapters
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
    assert fake.requests[1:3] == ["/collective_rpc", "/reset_prefix_cache"]
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
    assert fake.requests.count("/v1/completions") == 1


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


def restart_before(fake, path):
    """Let the server be started anew when a path is asked for the next time."""
    answer = fake.answer

    def restarting(asked, content):
        if asked == path:
            fake.answer = answer
            fake.restart()
        return answer(asked, content)

    fake.answer = restarting


def lose(fake, path, times):
    """Let the next requests of a path fail, as a server does that goes down."""
    answer = fake.answer

    def losing(asked, content):
        nonlocal times
        if asked == path and times > 0:
            times -= 1
            fake.restart()
            return 503, {}
        return answer(asked, content)

    fake.answer = losing


@pytest.mark.parametrize("path", [None, "/v1/completions", "/server_info?config_format=json"])
def test_a_server_that_was_started_anew_unseen_gets_the_last_weights(policy, fake, url, path):
    """No request fails: it goes away and comes back between two of them."""
    change(policy)
    engine = VLLMServerEngine(policy, url)
    expected = engine.generate(PROMPTS, 2, SAMPLING, 1)
    fake.restart() if path is None else restart_before(fake, path)
    fake.requests.clear()
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected
    assert fake.requests.count("/collective_rpc") == 1
    fake.requests.clear()
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected
    assert "/collective_rpc" not in fake.requests


def test_a_server_that_was_started_anew_otherwise_is_refused(policy, fake, url):
    engine = VLLMServerEngine(policy, url)
    fake.restart()
    fake.config["logprobs_mode"] = "raw_logprobs"
    with pytest.raises(ServerError, match="--logprobs-mode processed_logprobs"):
        engine.generate(PROMPTS, 2, SAMPLING, 1)


def test_several_api_processes_have_no_identity(policy, fake, url):
    fake.has_several_processes = True
    change(policy)
    engine = VLLMServerEngine(policy, url)
    fake.requests.clear()
    expected = engine.generate(PROMPTS, 2, SAMPLING, 1)
    assert "/collective_rpc" not in fake.requests
    fake.lose = 2
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected
    assert "/collective_rpc" in fake.requests


def test_a_failure_alone_needs_no_new_weights(policy, fake, url):
    engine = VLLMServerEngine(policy, url)
    expected = engine.generate(PROMPTS, 2, SAMPLING, 1)
    fake.requests.clear()
    fake.fail = (500, "one request")
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected
    assert fake.requests.count("/v1/completions") <= 2 * len(PROMPTS)
    assert "/collective_rpc" not in fake.requests


def test_only_the_request_that_failed_is_asked_again(policy, fake, url, monkeypatch):
    monkeypatch.setattr("agents.engines.vllm_server._CONNECTIONS", 4)
    engine = VLLMServerEngine(policy, url)
    prompts = [[5, i] for i in range(6, 18)]
    complete, asked = fake.complete, []

    def fails_once_for_the_last(request):
        asked.append(request["prompt"])
        return (500, {}) if asked.count(prompts[-1]) == 1 and asked[-1] == prompts[-1] else complete(request)

    fake.complete = fails_once_for_the_last
    assert [len(group) for group in engine.generate(prompts, 2, SamplingParams(1), 1)] == [2] * len(prompts)
    assert sorted(asked) == [*prompts, prompts[-1]]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda choices: choices[0].update(finish_reason="abort"), "finish_reason='abort'"),
        (lambda choices: choices[1].update(finish_reason="error"), "finish_reason='error'"),
        (lambda choices: choices[1].update(finish_reason="repetition"), "finish_reason='repetition'"),
        (lambda choices: choices[0].update(finish_reason=None), "finish_reason=None"),
        (lambda choices: choices.pop(), "gave 1 completions of a prompt, not 2"),
        (lambda choices: choices[0]["logprobs"].update(token_logprobs=[0.0]), "gave 1 log-probabilities of"),
    ],
)
def test_a_completion_that_was_broken_off_is_asked_for_again(policy, fake, url, broken, message):
    engine = VLLMServerEngine(policy, url, patience=0.1)
    expected = engine.generate(PROMPTS, 2, SAMPLING, 1)
    fake.change = broken
    assert engine.generate(PROMPTS, 2, SAMPLING, 1) == expected
    assert fake.change is None
    complete = fake.complete

    def always(request):
        fake.change = broken
        return complete(request)

    fake.complete = always
    with pytest.raises(ServerError, match=message):
        engine.generate(PROMPTS, 2, SAMPLING, 1)


@pytest.mark.parametrize("path", ["/collective_rpc", "/reset_prefix_cache", "/server_info?config_format=json"])
def test_a_hand_over_waits_for_a_server_that_is_gone(policy, fake, url, path):
    engine = VLLMServerEngine(policy, url)
    change(policy)
    expected = [policy.model.state_dict()[name].clone() for name in policy.model.state_dict()]
    lose(fake, path, 2)
    engine.sync_weights(policy)
    assert all(map(torch.equal, expected, fake.policy.model.state_dict().values()))
    lose(fake, path, 10**6)
    with pytest.raises(ServerError, match=r"again and again .* go on from the last checkpoint"):
        engine.sync_weights(policy)


def test_several_training_processes_do_not_hand_over_in_the_middle(policy, fake, url, tmp_path):
    engine = VLLMServerEngine(policy, url)
    engine._ranks = Ranks(1, 2)
    assert engine.generate(PROMPTS, 2, SAMPLING, 1)
    fake.requests.clear()
    fake.restart()
    with pytest.raises(ServerError, match=r"started anew during the run, and of several training processes"):
        engine.generate(PROMPTS, 2, SAMPLING, 1)
    assert "/collective_rpc" not in fake.requests


def test_4_bit_weights_are_refused_before_the_server_is_asked(policy, fake, url, monkeypatch):
    monkeypatch.setattr(type(policy), "load_in", "4bit")
    with pytest.raises(ValueError, match="load_in='4bit': leave it out"):
        VLLMServerEngine(policy, url)
    assert fake.requests == []


@pytest.mark.parametrize("targets", [("lm_head",), ("lm_head", "q_proj")])
def test_adapters_on_a_tied_head_are_refused(fake, url, targets):
    policy = load_policy("builtin/tiny", device="cpu", lora_rank=2, lora_targets=targets)
    config = without_adapters(policy.model).config
    config.tie_word_embeddings = True
    with pytest.raises(ValueError, match=r"leave lm_head and the embedding out of lora_targets"):
        list(named_weights(without_adapters(policy.model)))
    with pytest.raises(ValueError, match="lora_targets"):
        VLLMServerEngine(policy, url)
    config.tie_word_embeddings = False
    assert "lm_head.weight" in dict(named_weights(without_adapters(policy.model)))


def test_a_proxy_is_not_asked_for_a_server_of_this_host(policy, fake, url, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    for address in (url, url.replace("127.0.0.1", "localhost")):
        assert VLLMServerEngine(policy, address).generate(PROMPTS, 1, SAMPLING, 1)
    with pytest.raises(ServerError, match="does not answer"):  # the proxy is asked, and is not there
        VLLMServerEngine(policy, "http://server.invalid:8000", patience=0)


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://localhost:8000", True),
        ("http://LOCALHOST", True),
        ("http://127.0.0.1:8000", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:8000", True),
        ("http://10.0.0.1:8000", False),
        ("http://localhost.example.org", False),
        ("http://0.0.0.0:8000", False),
    ],
)
def test_loopback(url, is_loopback):
    assert _is_loopback(url) == is_loopback


class Second(Ranks):
    """The second of two processes; the first has handed weights over to process `instance` of the server."""

    instance = "1"

    def of_first(self, value):
        return self.instance

    def wait(self):
        pass


def test_the_second_training_process_writes_nothing_and_knows_what_the_first_did(
    policy, fake, url, tmp_path, monkeypatch
):
    second = Second(1, 2)
    monkeypatch.setattr(Ranks, "current", lambda: second)
    engine = VLLMServerEngine(policy, url, weights_dir=tmp_path / "weights")
    assert "/collective_rpc" not in fake.requests
    assert not (tmp_path / "weights").exists()
    fake.restart()
    Second.instance = "2"  # the first has met it after it was started anew
    engine.sync_weights(policy)
    assert engine.generate(PROMPTS, 1, SAMPLING, 1)


def test_a_hand_over_by_nccl_that_fails_is_a_clear_error(policy, fake, url):
    class Transfer:
        def send(self, policy):
            raise ConnectionResetError("reset by peer")

    engine = VLLMServerEngine(policy, url)
    engine._transfer = Transfer()
    with pytest.raises(ServerError, match=r"reset by peer.*go on from the last checkpoint"):
        engine.sync_weights(policy)
    fake.restart()
    with pytest.raises(ServerError, match="weights cannot be sent to it: it has left the group of NCCL"):
        engine.sync_weights(policy)
    with pytest.raises(ServerError, match="it has left the group of NCCL"):
        engine.generate(PROMPTS, 1, SAMPLING, 1)
