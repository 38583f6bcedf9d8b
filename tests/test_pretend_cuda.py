"""The pretended GPU refuses what a GPU refuses, and its graphs show what graphs show."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.pretend_cuda import CAN_PRETEND, pretend_cuda

pytestmark = pytest.mark.skipif(not CAN_PRETEND, reason="needs Linux, and PyTorch built without CUDA")


@pytest.fixture
def device():
    with pretend_cuda() as device:
        yield device


def captured(step):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def test_nothing_is_left_behind():
    available = torch.cuda.is_available
    with pretend_cuda():
        assert torch.cuda.is_available()
        assert torch.ones(2, device="cuda").device == torch.device("cuda:0")
    assert torch.cuda.is_available is available
    assert not torch.cuda.is_available()


def test_values_go_there_and_back(device):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device="cuda")
    y = (x @ x + torch.arange(2, device="cuda"))[:, 1]
    assert y.cpu().tolist() == y.tolist() == [11.0, 23.0]
    assert torch.zeros_like(y, device="cpu").device.type == "cpu"
    x[:, 0] = 7
    x[[0], 1] = 5
    assert x.to("cpu", torch.int64).tolist() == [[7, 5], [7, 4]]
    assert device.seen["aten.mm.default"] == 1


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: x @ y,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: torch.where(x > 0, x, y),
        lambda x, y: x.gather(0, y.long()),
        lambda x, y: x.index_copy_(0, torch.arange(2), x),
        lambda x, y: x.masked_fill_(y > 0, 1.0),
        lambda x, y: torch.bmm(x[None], y[None]),
        lambda x, y: torch.searchsorted(x, y),
        lambda x, y: torch.mm(x, x, out=y),
        lambda x, y: y[x.long()],
        lambda x, y: torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None], y > 0),
    ],
)
def test_devices_do_not_mix(device, mix):
    x, y = torch.ones(2, 2, device="cuda"), torch.ones(2, 2)
    with pytest.raises(RuntimeError, match=r"same device|on the device of what they index"):
        mix(x, y)


def test_numbers_and_indices_may_be_on_the_cpu(device):
    x = torch.arange(4.0, device="cuda")
    assert (x * torch.tensor(2.0)).tolist() == [0, 2, 4, 6]
    assert x[torch.tensor([2, 0])].tolist() == [2, 0]
    x[torch.tensor([1])] = -1.0
    assert torch.where(x > 0, x, torch.tensor(9.0)).tolist() == [9, 9, 2, 3]


def test_numpy_and_operators_of_cpus_are_refused(device):
    weight = torch.ones(8, 8, device="cuda")
    with pytest.raises(TypeError, match="numpy"):
        weight.numpy()
    with pytest.raises(RuntimeError, match="no kernel for CUDA"):
        torch.ops.mkldnn._reorder_linear_weight(weight, 4)


def test_products_in_another_dtype(device):
    a = torch.randn(2, 3, 4, device="cuda").bfloat16()
    out = torch.bmm(a, a.transpose(1, 2), out_dtype=torch.float32)
    assert out.dtype == torch.float32
    assert torch.allclose(out.cpu(), torch.bmm(a.cpu().float(), a.cpu().float().transpose(1, 2)))
    with pytest.raises(RuntimeError, match="out_dtype"):
        torch.bmm(a.float(), a.float().transpose(1, 2), out_dtype=torch.bfloat16)


def test_modules_keep_tied_weights_and_can_be_copied(device):
    module = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False))
    module[1].weight = module[0].weight
    module.to("cuda")
    twin = copy.deepcopy(module)
    for each in (module, twin):
        assert each[1].weight is each[0].weight
        assert isinstance(each[0].weight, torch.nn.Parameter)
        assert each[0].weight.device.type == "cuda"
    assert torch.equal(twin[0].weight, module[0].weight)
    assert twin[0].weight is not module[0].weight


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_those_of_the_cpu(autocast):
    def gradients(place):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).to(place)
        x = torch.arange(6.0).view(2, 3).to(place).requires_grad_()
        with torch.autocast(place, dtype=torch.bfloat16, enabled=autocast):
            y = module(x)
            assert y.dtype == (torch.bfloat16 if autocast else torch.float32)
            (y.float().softmax(-1)[:, 0] * x.mean(1) + y.sum()).sum().backward()
        return [tensor.grad.cpu() for tensor in (x, *module.parameters())]

    with pretend_cuda():
        found, expected = gradients("cuda"), gradients("cpu")
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-2 if autocast else 1e-5)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x + torch.tensor([1.0, 2.0], device="cuda"),
        lambda x: x.copy_(torch.ones(2)),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x[torch.tensor([0])],
        lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
        lambda x: x.masked_fill_(x > 0, x[0]),
        lambda x: torch.equal(x, x),
        lambda x: torch.allclose(x, x),
        lambda x: torch.repeat_interleave(x, x.long()),
        lambda x: x.unique(),
    ],
)
def test_a_capture_does_not_wait(device, step):
    x = torch.ones(2, device="cuda")
    step(x)
    stream = torch.cuda.current_stream()
    with pytest.raises(RuntimeError, match="previous error during capture") as raised:
        captured(lambda: step(x))
    assert "not permitted when stream is capturing" in str(raised.value.__cause__)
    assert torch.cuda.current_stream() != stream  # as torch.cuda.graph leaves it


def test_a_graph_repeats_kernels_and_not_python(device):
    x = torch.zeros(3, device="cuda")
    column, steps = torch.zeros(1, dtype=torch.long, device="cuda"), 0

    def step():
        nonlocal steps
        steps += 1
        x.index_copy_(0, column, x.new_full((1,), float(steps)))
        column.add_(1)

    graph = captured(step)
    assert x.tolist() == [0, 0, 0]  # capturing computes nothing
    graph.replay()
    graph.replay()
    assert x.tolist() == [1, 1, 0]  # the second step has the number of the first
    assert (steps, graph.replays) == (1, 2)


def test_what_a_capture_allocates_is_garbage_until_it_is_replayed(device):
    x = torch.ones(2, device="cuda")
    made = []
    graph = captured(lambda: made.append(x * 2))
    assert made[0].isnan().all()
    graph.replay()
    assert made[0].tolist() == [2, 2]
    x.fill_(3)
    assert made[0].tolist() == [2, 2]
    graph.replay()
    assert made[0].tolist() == [6, 6]


def test_a_graph_reads_the_memory_that_it_was_captured_with(device):
    state = {"x": torch.ones(2, device="cuda"), "out": torch.zeros(2, device="cuda")}
    first = state["x"]
    graph = captured(lambda: state["out"].copy_(state["x"][1:].exp().expand(2)))
    state["x"] = torch.zeros(2, device="cuda")
    graph.replay()
    assert state["out"].tolist() == pytest.approx([2.71828, 2.71828])
    del first
    with pytest.raises(AssertionError, match="freed"):
        graph.replay()


def test_weights_that_autocast_keeps_while_capturing_are_the_graphs(device):
    linear = torch.nn.Linear(2, 2, bias=False).to("cuda")
    x = torch.ones(1, 2, device="cuda")
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        captured(lambda: linear(x))
        assert linear(x).isnan().all()  # the cast was captured, and not computed
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        expected = linear(x)
        graph = captured(lambda: linear(x))
        assert torch.equal(linear(x), expected)
        graph.replay()
    with pytest.raises(AssertionError, match="freed"):
        graph.replay()
