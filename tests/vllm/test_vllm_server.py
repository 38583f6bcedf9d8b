"""Rollouts by a real vLLM server against the policy's own forward pass."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from safetensors.torch import save_file

from agents import GRPOAgent, GRPOConfig, SamplingParams, load_policy
from agents.engines import StaticCacheEngine
from agents.engines.vllm_server import VLLMServerEngine
from tests.agents.engines.fake_vllm import FakeVLLM, serving
from tests.vllm.test_vllm_engine import LONG, change, largest_difference


class Server:
    """A server of a model's folder, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._folder)]
        command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm", "--dtype", "float32"]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--enforce-eager", "--max-num-seqs", "64"]
        command += ["--no-enable-chunked-prefill"]  # see VLLMEngine
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {"VLLM_SERVER_DEV_MODE": "1"}, start_new_session=True
            )
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._folder / "server.log").read_text()[-4000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.5)
        raise TimeoutError((self._folder / "server.log").read_text()[-4000:])

    def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the session that was made for it
        self._process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Of the policy with a head of its own: on a CPU a tied one keeps its old weights."""
    folder = tmp_path_factory.mktemp("model")
    policy = load_policy("builtin/tiny")
    policy.model.config.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    server = Server(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def policy():
    return load_policy("builtin/tiny")


@pytest.fixture(scope="module")
def engine(server, policy):
    return VLLMServerEngine(policy, server.url)


def test_log_probabilities_are_the_policys_after_every_hand_over(policy, engine):
    """Of a prompt that is longer than a block of the cache too, and of whatever part of the model was changed."""
    prompts = [LONG, LONG[:20]]
    for _ in range(3):
        groups = engine.generate(prompts, 4, SamplingParams(16), 1)
        assert [len(group) for group in groups] == [4, 4]
        assert largest_difference(policy, prompts, groups) < 1e-4
        change(policy)
        assert largest_difference(policy, prompts, engine.generate(prompts, 2, SamplingParams(8), 1)) > 1e-2
        engine.sync_weights(policy)
    warm = engine.generate(prompts, 4, SamplingParams(16, 0.7), 1)
    assert largest_difference(policy, prompts, warm, 0.7) < 1e-4


def test_greedy_is_that_of_the_own_engine(policy, engine):
    prompts = policy.encode_prompts(["What is 3 + 4?", "What is 20 - 7 + 5?"])
    sampling = SamplingParams(24, 0.0)
    for group, wanted in zip(
        engine.generate(prompts, 2, sampling, 0),
        StaticCacheEngine(policy).generate(prompts, 2, sampling, 0),
        strict=True,
    ):
        assert [(c.ids, c.truncated) for c in group] == [(c.ids, c.truncated) for c in wanted]


def test_seeds_ends_and_stops(engine):
    policy = load_policy("builtin/tiny")
    engine.sync_weights(policy)
    prompts = [policy.encode_prompts(["What is 3 + 4?"])[0]] * 3
    first, again, other = (engine.generate(prompts, 4, SamplingParams(48), seed) for seed in (1, 1, 2))
    assert [[c.ids for c in group] for group in first] == [[c.ids for c in group] for group in again]
    assert first != other
    assert first[0][1:] != first[1][:-1]
    for completion in (c for group in first for c in group):
        assert completion.truncated == (completion.ids[-1] not in policy.end_token_ids)
        assert len(completion.ids) == len(completion.logprobs) <= 48
    [stopped] = engine.generate(prompts[:1], 8, SamplingParams(48, stop=("=",)), 3)
    assert any("=" in policy.decode(c.ids) for c in stopped)
    for completion in stopped:
        assert "=" not in policy.decode(completion.ids[:-1])
        assert (
            completion.truncated or "=" in policy.decode(completion.ids) or completion.ids[-1] in policy.end_token_ids
        )
    [group] = engine.generate(prompts[:1], 8, SamplingParams(4, 2.0, top_k=1), 3)
    assert all(value == pytest.approx(0.0, abs=1e-5) for c in group for value in c.logprobs)


def test_more_prompts_than_connections(engine):
    policy = load_policy("builtin/tiny")
    prompts = policy.encode_prompts([f"What is {i} + {7 * i}?" for i in range(150)])
    groups = engine.generate(prompts, 2, SamplingParams(8, 0.0), 0)
    own = StaticCacheEngine(policy).generate(prompts, 1, SamplingParams(8, 0.0), 0)
    assert [group[0].ids for group in groups] == [group[0].ids for group in own]


def test_an_agent_learns_with_it_and_generates_ahead(server):
    policy = load_policy("builtin/tiny")
    config = GRPOConfig(prompts_per_update=8, group_size=4, max_staleness=1)
    engine = VLLMServerEngine(policy, server.url)
    agent = GRPOAgent(policy, "llm_envs/Arithmetic-v0", config=config, engine=engine)
    agent.learn(96)
    prompts = policy.encode_prompts(["What is 3 + 4?"])
    assert largest_difference(policy, prompts, engine.generate(prompts, 2, SamplingParams(8), 1)) < 1e-4


def test_a_server_that_is_started_anew_gets_the_last_weights(server):
    policy = load_policy("builtin/tiny")
    change(policy)
    engine = VLLMServerEngine(policy, server.url, patience=400)
    prompts = policy.encode_prompts(["What is 3 + 4?"])
    expected = engine.generate(prompts, 4, SamplingParams(16), 1)
    server.kill()
    anew = threading.Timer(1, server.start)
    anew.start()
    try:  # asked for while there is no server
        assert [c.ids for c in engine.generate(prompts, 4, SamplingParams(16), 1)[0]] == [c.ids for c in expected[0]]
    finally:
        anew.join()


def test_weights_by_nccl_are_named_and_announced_as_vllm_asks(monkeypatch):
    """Without CUDA the broadcast alone is left out: what it would send is given to the other side by hand."""
    from vllm.distributed.weight_transfer import nccl_engine

    policy = load_policy("builtin/tiny")
    fake = FakeVLLM(policy)
    opened = []

    def broadcast(self, source, meta):
        weights = {name: tensor.clone() for name, tensor in self._checked_iter(source, meta)}
        assert "lm_head.weight" not in weights  # it is the embedding
        fake.policy.model.load_state_dict(weights, strict=False)

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", opened.append)
    monkeypatch.setattr(nccl_engine.NCCLTrainerWeightTransferEngine, "_broadcast", broadcast)
    with serving(fake) as url:
        engine = VLLMServerEngine(policy, url, weight_transfer="nccl")
        assert opened[0].world_size == 3
        change(policy)
        fake.requests.clear()
        engine.sync_weights(policy)
        assert fake.requests[1:5] == [
            "/start_weight_update",
            "/update_weights",
            "/finish_weight_update",
            "/reset_prefix_cache",
        ]
        assert largest_difference(policy, [LONG], engine.generate([LONG], 2, SamplingParams(8), 1)) < 1e-4
        fake.lose = 1
        with pytest.raises(ConnectionError, match="it has left the group of NCCL"):
            engine.generate([LONG], 2, SamplingParams(8), 1)
