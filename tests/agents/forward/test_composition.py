"""Packed tokens under what people put around a model: DDP, FSDP2, `torch.compile`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from agents.forward import TokenLogprobs, packed_model_of
from tests.started import run_ranks

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))
families = import_module("families")


@pytest.mark.parametrize("head", ["tied", "untied"])
def test_several_processes_have_the_gradients_of_one(head):
    for done in run_ranks(HERE / "two_processes.py", head):
        assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr[-3000:]


def test_a_compiled_model_computes_the_same():
    model = families.make_model("llama")
    packed = packed_model_of(model)
    batch = families.make_batch([9, 4, 12], [[5, 1, 8], [3, 2, 8], [4, 7, 6]])
    results = []
    for compiled in (False, True):
        if compiled:
            torch._dynamo.utils.counters.clear()
            for layer in model.model.layers:
                layer.mlp.forward = torch.compile(layer.mlp.forward, backend="eager")
                layer.self_attn.forward = torch.compile(layer.self_attn.forward, backend="eager")
        logprobs = TokenLogprobs(model, packed)(batch, 1.0)
        logprobs.sum().backward()
        results.append((logprobs.detach(), families.gradients(model)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=1e-9)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=1e-6, atol=1e-9)
