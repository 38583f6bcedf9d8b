"""What runs on GPUs, on one that is not there: mixed devices, what a CUDA graph cannot hold, and what it repeats."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from agents import load_policy
from agents.engines import StaticCacheEngine, decode_steps
from agents.forward import shared_prefix
from agents.rollout import SamplingParams
from tests.gpu import test_cuda
from tests.pretend_cuda import CAN_PRETEND, pretend_cuda

pytestmark = pytest.mark.skipif(not CAN_PRETEND, reason="needs Linux, and PyTorch built without CUDA")


@pytest.fixture
def device():
    with pretend_cuda() as device:
        yield device


@pytest.mark.parametrize(
    "test",
    [
        test_cuda.test_auto_means_cuda_and_bfloat16,
        test_cuda.test_greedy_decoding_is_the_same_on_both_devices,
        test_cuda.test_engines_agree_on_cuda,
        test_cuda.test_logprobs_loss_and_gradients_agree_with_the_cpu,
        test_cuda.test_bfloat16_scores_near_float32,
    ],
    ids=lambda test: test.__name__,
)
def test_what_is_tested_on_gpus(device, test):
    test()
    assert device.seen["aten.mm.default"] > 0


@pytest.mark.parametrize(
    ("precision", "sampling"),
    [("float32", SamplingParams(100, 0.7, top_k=200, top_p=0.9)), ("bfloat16", SamplingParams(100))],
    ids=str,
)
def test_cuda_graphs_do_the_same(device, caplog, random_policy, precision, sampling):
    test_cuda.test_cuda_graphs_do_the_same(caplog, random_policy, precision, None, sampling)
    assert len(device.graphs) > 3  # of fewer and fewer lines, and of more columns
    assert sum(graph.replays for graph in device.graphs) > 66


def test_a_checkpoint_goes_on_on_the_other_device(device, tmp_path):
    test_cuda.test_a_checkpoint_goes_on_on_either_device(tmp_path, ("cuda", "cpu"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_reference_may_stay_on_the_cpu(device, precision):
    test_cuda.test_the_reference_may_stay_on_the_cpu(precision)


@pytest.mark.parametrize(("architecture", "extra"), test_cuda.FAMILIES)
def test_families(device, caplog, random_policy, architecture, extra):
    test_cuda.test_families_sample_what_they_score(caplog, random_policy, architecture, extra)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_adapters(device, caplog, precision):
    test_cuda.test_adapters_sample_what_they_score(caplog, precision)
    assert sum(graph.replays for graph in device.graphs) > 10


@pytest.mark.parametrize(("precision", "rank"), [("float32", None), ("bfloat16", 4)])
def test_an_agent_learns_and_is_evaluated(device, tmp_path, precision, rank):
    test_cuda.test_an_agent_learns_and_is_evaluated(tmp_path, precision, rank)


def test_a_step_waits_twice(device):
    """Tokens and log-probabilities come to the host; nothing else does."""
    policy = load_policy("builtin/tiny", device="cuda")
    engine = StaticCacheEngine(SimpleNamespace(**vars(policy), end_token_ids=frozenset(), autocast=policy.autocast))
    engine._policy.decode = policy.decode

    def waits(tokens):
        before = device.waits
        engine.generate([[1, 2, 3]], 4, SamplingParams(tokens), seed=0)
        return device.waits - before

    assert waits(50) - waits(30) == 2 * 20


def test_a_step_that_cannot_be_captured_runs_as_it_is(device, caplog, monkeypatch):
    policy = load_policy("builtin/tiny", device="cuda", precision="float32")
    sampling = SamplingParams(20)
    expected = test_cuda.generate(policy, sampling, make_engine=lambda policy: StaticCacheEngine(policy, capture=None))
    draw = decode_steps.DecodeSteps._draw
    monkeypatch.setattr(
        decode_steps.DecodeSteps, "_draw", lambda self, logits: logits.sum().item() and draw(self, logits)
    )
    stream = torch.cuda.current_stream()
    found = test_cuda.generate(policy, sampling)
    assert torch.equal(found.completion_ids, expected.completion_ids)
    [record] = caplog.records
    assert "could not be captured (operation not permitted" in record.getMessage()
    assert "_local_scalar_dense" in record.getMessage()
    assert torch.cuda.current_stream() == stream


def test_attention_of_changing_shapes_is_not_cudnns(device, monkeypatch):
    allowed = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        "agents.forward.attention.scaled_dot_product_attention",
        lambda *arguments, **options: (
            allowed.append(torch.backends.cuda.cudnn_sdp_enabled()) or attention(*arguments, **options)
        ),
    )
    policy = load_policy("builtin/tiny", device="cuda", precision="bfloat16")
    policy.logprobs(test_cuda.generate(policy, SamplingParams(8))).sum().backward()
    assert allowed
    assert not any(allowed)
    assert torch.backends.cuda.cudnn_sdp_enabled()
    assert shared_prefix.attention.__module__ == "agents.forward.attention"
