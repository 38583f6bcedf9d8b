"""Packed tokens under what people put around a model: DDP, FSDP2, `torch.compile`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from agents.forward import TokenLogprobs, packed_model_of

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))
families = import_module("families")


@pytest.mark.parametrize("head", ["tied", "untied"])
def test_several_processes_have_the_gradients_of_one(head):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(HERE), str(HERE.parents[2]), *filter(None, sys.path)])
    command = [sys.executable, str(HERE / "two_processes.py")]
    environment = {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(port), head],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (0, "equal\n"), err[-3000:]


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
