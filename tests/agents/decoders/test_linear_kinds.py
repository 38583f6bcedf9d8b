"""Linear layers with adapters, against peft's own forward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from agents.decoders.linear_kinds import adapted
from agents.decoders.linear_layers import Apart, call, with_adapters, without_adapters

peft = pytest.importorskip("peft")


class Model(nn.Module):
    """Two layers that peft can find."""

    def __init__(self, bias=True):
        super().__init__()
        self.first, self.second = nn.Linear(12, 20, bias=bias), nn.Linear(12, 6, bias=bias)


def make(dtype=torch.float64, **options):
    """Adapters on `first`, all of their numbers random; the model as peft wraps it, and that layer."""
    torch.manual_seed(0)
    options = {"r": 3, "lora_alpha": 5, "target_modules": ["first"]} | options
    model = peft.get_peft_model(Model(), peft.LoraConfig(**options)).to(dtype).eval()
    layer = model.base_model.model.first
    if hasattr(layer, "lora_B"):
        nn.init.normal_(layer.lora_B["default"].weight)
    return model, layer


def rows(dtype=torch.float64):
    return torch.randn(40, 12, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_the_output_and_all_gradients_are_pefts():
    model, layer = make()
    assert adapted(layer).adapter.scaling == pytest.approx(5 / 3)
    results = []
    for compute in (lambda x: call(layer, x), layer):
        model.zero_grad()
        x = rows().requires_grad_()
        out = compute(x)
        out.square().sum().backward()
        results.append([out, x.grad, layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert layer.base_layer.weight.grad is None


def test_a_base_that_is_trained_too_has_its_gradient():
    model, layer = make()
    layer.base_layer.requires_grad_(True)
    gradients = []
    for compute in (lambda x: call(layer, x), layer):
        model.zero_grad()
        compute(rows()).square().sum().backward()
        gradients.append([parameter.grad for parameter in layer.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_under_autocast_it_is_near(base):
    _, layer = make(torch.float32)
    exact, x = copy.deepcopy(layer).double(), rows(torch.float32)
    layer.base_layer.to(base)
    with torch.autocast("cpu", torch.bfloat16):
        found = call(layer, x)
    assert found.dtype == torch.bfloat16
    expected = exact(x.double())
    assert (found - expected).norm() / expected.norm() < 1e-2
    found.float().sum().backward()
    assert layer.lora_A["default"].weight.grad.dtype == torch.float32


def test_a_base_of_another_precision_is_left_to_peft():
    _, layer = make(torch.float32)
    layer.base_layer.to(torch.bfloat16)
    x = rows(torch.bfloat16)
    assert torch.equal(call(layer, x), layer(x))


def test_disabled_and_merged_adapters_are_followed():
    model, layer = make()
    x = rows()
    base = nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias)
    expected = layer(x)
    with model.disable_adapter():
        assert adapted(layer) == (layer.base_layer, None)
        assert torch.equal(call(layer, x), base)
    torch.testing.assert_close(call(layer, x), expected)
    model.merge_adapter()
    assert adapted(layer) == (layer.base_layer, None)
    torch.testing.assert_close(call(layer, x), expected)
    with model.disable_adapter():
        assert adapted(layer) is None  # the forward pass takes the adapter out of the base
        torch.testing.assert_close(call(layer, x), base)


def add_a_second(model, layer):
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["first"]))
    model.to(torch.float64)
    model.base_model.set_adapter(["default", "other"])
    nn.init.normal_(layer.lora_B["other"].weight)


def add_a_hook(model, layer):
    layer.lora_A["default"].register_forward_hook(lambda module, inputs, output: 2 * output)


def train_with_dropout(model, layer):
    layer.lora_dropout["default"] = nn.Dropout(0.5).train()


@pytest.mark.parametrize("change", [add_a_second, add_a_hook, train_with_dropout])
def test_what_is_more_than_one_adapter_is_left_to_peft(change):
    model, layer = make()
    change(model, layer)
    assert adapted(layer) is None
    results = []
    for compute in (lambda x: call(layer, x), layer):
        torch.manual_seed(0)
        results.append(compute(rows()))
    assert torch.equal(*results)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}], ids=str)
def test_other_forms_are_left_to_peft(options):
    _, layer = make(**options)
    assert adapted(layer) is None
    assert torch.equal(call(layer, rows()), layer(rows()))


def test_dropout_that_is_off_drops_nothing():
    _, layer = make(lora_dropout=0.5)
    assert adapted(layer) is not None
    torch.testing.assert_close(call(layer, rows()), layer(rows()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_stage_is_its_bases_and_adapters(dtype):
    model, layer = make(torch.float32)
    second = model.base_model.model.second
    stage = Apart(layer, second)
    bases, adapters = without_adapters(stage)
    assert bases.layers == (layer.base_layer, second)
    assert adapters[1] is None
    together = with_adapters(bases, adapters, dtype)
    single = with_adapters(*without_adapters(layer), dtype)
    x = rows(torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected = [layer(x), second(x), layer(x)]
        found = [*together(x), single(x)]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert (one - other).norm() / other.norm() < (1e-6 if dtype == torch.float32 else 1e-2)


def test_a_stage_without_adapters_is_itself():
    model, layer = make()
    second = model.base_model.model.second
    for stage in (second, Apart(second, second), Apart(second, nn.Identity()), nn.Identity(), Apart(layer, nn.ReLU())):
        assert without_adapters(stage) == (stage, [])
        assert with_adapters(stage, [], torch.float32) is stage
