"""AdamW of bfloat16 weights with float32 masters, and of 8-bit moments."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from agents import adamw
from agents.adamw import CompactAdamW, joined, split
from agents.grpo.config import GRPOConfig


def make_adamw(parameters, learning_rate, weight_decay, name="adamw"):
    config = GRPOConfig(learning_rate=learning_rate, weight_decay=weight_decay, optimizer=name)
    return adamw.make_adamw(parameters, config)


def gradients(steps: int, shape: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(steps)]


@pytest.mark.parametrize(
    "bits",
    [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x3F808000, 0x3F818000, 0x3F7FFFFF, 0x7F7F0000, 0x007FFFFF],
)
@pytest.mark.parametrize("sign", [0, -(2**31)])
def test_every_float32_is_a_bfloat16_and_a_remainder(bits, sign):
    master = torch.tensor([bits + sign], dtype=torch.int32).view(torch.float32)
    weight, remainder = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.int16)
    split(master, weight, remainder)
    assert torch.equal(joined(weight, remainder).view(torch.int32), master.view(torch.int32))
    # the nearest: half a unit of the last place of bfloat16 away, at most
    assert remainder.int().abs() <= 2**15


def test_random_numbers_are_put_together_again_and_rounded_as_torch_does():
    master = torch.randn(100_000, generator=torch.Generator().manual_seed(0)) * 1e-3
    weight, remainder = torch.zeros(100_000, dtype=torch.bfloat16), torch.zeros(100_000, dtype=torch.int16)
    split(master, weight, remainder)
    assert torch.equal(joined(weight, remainder), master)
    is_half = remainder == -(2**15)
    assert torch.equal(weight[~is_half], master.bfloat16()[~is_half])


@pytest.mark.parametrize("chunk", [2**24, 2**10])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_masters_are_what_float32_training_makes(monkeypatch, weight_decay, chunk):
    monkeypatch.setattr(adamw, "_CHUNK", chunk)
    start = torch.randn(57, 43, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact, narrow = (torch.nn.Parameter(start.clone().to(dtype)) for dtype in (torch.float32, torch.bfloat16))
    expected = torch.optim.AdamW([exact], lr=1e-3, weight_decay=weight_decay, fused=True)
    found = make_adamw([narrow], 1e-3, weight_decay)
    for gradient in gradients(20, (57, 43)):
        exact.grad = gradient.bfloat16().float()
        narrow.grad = gradient.bfloat16()
        expected.step()
        found.step()
    state = found.state[narrow]
    assert torch.equal(joined(narrow.data, state["remainder"]), exact.data)
    assert torch.equal(state["exp_avg_sq"], expected.state[exact]["exp_avg_sq"])
    assert narrow.dtype == torch.bfloat16


def test_small_updates_survive():
    """1e-6 of a weight a step, far below the 4e-3 that bfloat16 can tell apart: after 4,000 steps, 0.4 percent."""
    start = torch.linspace(0.5, 1.0, 64).bfloat16()
    parameters = [torch.nn.Parameter(start.clone().to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    plain = torch.nn.Parameter(start.clone())
    exact, narrow = parameters
    optimizers = [
        torch.optim.AdamW([exact], lr=1e-6, weight_decay=0.0, fused=True),
        make_adamw([narrow], 1e-6, 0.0),
        torch.optim.AdamW([plain], lr=1e-6, weight_decay=0.0),
    ]
    for _ in range(4_000):
        for parameter, optimizer in zip((exact, narrow, plain), optimizers, strict=True):
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    assert torch.equal(plain.data, start)  # every update was rounded away
    moved = exact.data - start.float()
    assert (moved + 4e-3).abs().max() < 2e-4
    assert torch.equal(joined(narrow.data, optimizers[1].state[narrow]["remainder"]), exact.data)
    assert (narrow.data.float() - exact.data).abs().max() <= 2**-9
    assert not torch.equal(narrow.data, start)


def test_float32_parameters_keep_pytorchs_optimizer():
    parameter = torch.nn.Parameter(torch.zeros(3))
    assert type(make_adamw([parameter], 1e-3, 0.0)) is torch.optim.AdamW


def test_a_parameter_without_gradient_stays():
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = make_adamw([parameter], 1e-3, 0.5)
    optimizer.step()
    assert torch.equal(parameter.data, torch.ones(3, dtype=torch.bfloat16))
    assert not optimizer.state[parameter]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [2**24, 2**10])
def test_moments_of_8_bits_follow_those_of_32(monkeypatch, dtype, chunk):
    monkeypatch.setattr(adamw, "_CHUNK", chunk)
    start = torch.randn(60, 90, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact, found = torch.nn.Parameter(start.float()), torch.nn.Parameter(start.to(dtype).clone())
    expected = torch.optim.AdamW([exact], lr=1e-3, weight_decay=0.1, fused=True)
    optimizer = make_adamw([found], 1e-3, 0.1, "adamw8bit")
    for gradient in gradients(20, (60, 90)):
        exact.grad = gradient.bfloat16().float()
        found.grad = gradient.to(dtype) if dtype == torch.bfloat16 else exact.grad.clone()
        expected.step()
        optimizer.step()
    state = optimizer.state[found]
    assert state["state1"].dtype == state["state2"].dtype == torch.uint8
    master = joined(found.data, state["remainder"]) if dtype == torch.bfloat16 else found.data
    moved, wanted = master - start.float(), exact.data - start.float()
    assert (moved - wanted).norm() < 0.05 * wanted.norm()


def test_8_bits_are_bitsandbytes_own_optimizer():
    from bitsandbytes.optim import AdamW8bit

    start = torch.randn(5_000, generator=torch.Generator().manual_seed(1))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = [make_adamw([ours], 1e-3, 0.1, "adamw8bit"), AdamW8bit([theirs], lr=1e-3, weight_decay=0.1)]
    for gradient in gradients(5, (5_000,)):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(ours.data, theirs.data)


def test_small_parameters_keep_moments_of_32_bits():
    parameter = torch.nn.Parameter(torch.ones(4_095))
    optimizer = make_adamw([parameter], 1e-3, 0.0, "adamw8bit")
    parameter.grad = torch.ones(4_095)
    optimizer.step()
    assert optimizer.state[parameter].keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(ImportError, match=r"llm-envs\[bitsandbytes\]"):
        make_adamw([torch.nn.Parameter(torch.ones(3))], 1e-3, 0.0, "adamw8bit")


def test_steps_are_those_of_a_compact_optimizer():
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = make_adamw([parameter], 1e-3, 0.0)
    assert isinstance(optimizer, CompactAdamW)
    parameter.grad = torch.ones(3, dtype=torch.bfloat16)
    optimizer.step()
    optimizer.step()
    assert optimizer.state[parameter]["step"] == 2
