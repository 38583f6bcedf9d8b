"""bfloat16 products as float32 ones of rounded numbers, against PyTorch's own of bfloat16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agents.kernels import add_product, linear, product, rounded


@pytest.fixture(autouse=True)
def without_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded, "lacks_bfloat16", lambda: True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each product of rounded numbers."""
    calls: list[int] = []
    true = rounded.product
    monkeypatch.setattr(rounded, "product", lambda a, b: calls.append(1) or true(a, b))
    return calls


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed * 7919 + rows * 31 + columns))


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Up to the rounding of a result to 8 bits."""
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.float(), expected.float(), rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_mixed", [False, True], ids=["bfloat16", "autocast"])
def test_linear_and_its_gradients(calls: list[int], has_bias: bool, is_mixed: bool) -> None:
    inputs = [matrix(20, 64), matrix(30, 64, seed=1), torch.linspace(-1, 1, 30)][: 2 + has_bias]
    if not is_mixed:
        inputs = [tensor.to(torch.bfloat16) for tensor in inputs]
    for tensor in inputs:
        tensor.requires_grad_()
    toward = matrix(20, 30, seed=2).to(torch.bfloat16)
    results = []
    for function in (linear, torch.nn.functional.linear):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            out = function(*inputs)
        results.append([out.detach(), *torch.autograd.grad(out, inputs, toward)])
    assert len(calls) == 3
    for found, expected in zip(*results, strict=True):
        assert_near(found, expected)


def test_operands_are_rounded_and_sums_are_not(calls: list[int]) -> None:
    x, weight = matrix(5, 400), matrix(7, 400, seed=1)
    exact = x.to(torch.bfloat16).double() @ weight.to(torch.bfloat16).double().t()
    with torch.autocast("cpu", torch.bfloat16):
        found = linear(x, weight)
    assert torch.equal(found, exact.to(torch.bfloat16))
    assert calls


def test_products_without_gradient(calls: list[int]) -> None:
    a, b = matrix(6, 40).to(torch.bfloat16), matrix(40, 9, seed=1).to(torch.bfloat16)
    assert_near(product(a, b), a @ b)
    out = torch.empty(6, 9, dtype=torch.bfloat16)
    assert product(a, b, out=out) is out
    assert_near(out, a @ b)
    add_product(out, a, b)
    assert_near(out, 2 * (a @ b))
    assert len(calls) == 3


def test_only_the_gradients_that_are_asked_for(calls: list[int]) -> None:
    x, weight = matrix(5, 8).to(torch.bfloat16), matrix(7, 8).to(torch.bfloat16).requires_grad_()
    linear(x, weight).sum().backward()
    assert len(calls) == 2
    assert x.grad is None


def test_other_precisions_are_not_rounded(calls: list[int]) -> None:
    x, weight = matrix(5, 8), matrix(7, 8)
    linear(x, weight)
    product(x.double(), weight.double().t())
    linear(x.half(), weight.half())
    with torch.autocast("cpu", torch.float16):
        linear(x, weight)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        linear(x, weight)
    assert not calls


def test_cpus_with_instructions_use_them(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded, "lacks_bfloat16", lambda: False)
    linear(matrix(5, 8).to(torch.bfloat16), matrix(7, 8).to(torch.bfloat16))
    assert not calls
