"""Float32 products of few rows on vector units: precision, edges, and what happens where they are not."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from agents.kernels import few_rows, fma_products
from agents.kernels.fma_products import has_fma_products, linears
from agents.kernels.loading import vector_flags

needs_vectors = pytest.mark.skipif(vector_flags() is None, reason="this CPU has neither AVX-512 nor AVX2")


@pytest.fixture
def operators() -> None:
    """They are there: where a CPU can have them, a test is not to be skipped because they cannot be built."""
    assert has_fma_products()


@pytest.fixture
def forget() -> Iterator[None]:
    """Ask anew whether there are such operators, in this test and after it."""
    has_fma_products.cache_clear()
    yield
    has_fma_products.cache_clear()


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed * 7919 + rows * 31 + columns))


def relative_error(found: Tensor, x: Tensor, weight: Tensor) -> float:
    """Of the product of lengths, which is what independent numbers make: single sums may be near 0."""
    difference = found.double() - x.double() @ weight.double().t()
    return (difference.norm() / (x.norm(dim=1, keepdim=True) * weight.norm(dim=1)).norm() * x.shape[1] ** 0.5).item()


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("rows", [1, 4, 8, 9, 17, 24, 31, 32, 33, 40, 56, 100, 128, 300])
@pytest.mark.parametrize("features", [1, 15, 64, 192, 193, 576, 1300])
def test_products_are_as_precise_as_float32(rows: int, features: int) -> None:
    x = matrix(rows, features)
    # fewer columns than are computed side by side, one more than a panel, several panels
    weights = [matrix(n, features, seed=n) for n in (1, 2, 12, 49, 200)]
    for next_weight in (None, weights[0], matrix(3, 3), torch.zeros(2, 2, dtype=torch.float64), torch.zeros(0, 5)):
        for out, weight in zip(linears(x, weights, next_weight), weights, strict=True):
            assert out.shape == (rows, len(weight))
            assert out.is_contiguous()
            assert relative_error(out, x, weight) < 1e-6


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_errors_are_no_larger_than_pytorchs() -> None:
    x, weight = matrix(30, 4096), matrix(512, 4096, seed=1)
    [found] = linears(x, [weight])
    assert relative_error(found, x, weight) < 1.2 * relative_error(x @ weight.t(), x, weight)


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_a_row_does_not_depend_on_what_stands_beside_it() -> None:
    weight, x = matrix(100, 500), matrix(128, 500, seed=1)
    [whole] = linears(x, [weight])
    for count in (1, 7, 16, 25, 32, 47, 64, 90):
        assert torch.equal(linears(x[-count:], [weight])[0], whole[-count:])


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_threads_do_not_change_the_result() -> None:
    threads = torch.get_num_threads()
    x, weights = matrix(20, 300), [matrix(700, 300, seed=1), matrix(30, 300, seed=2)]
    try:
        torch.set_num_threads(1)
        alone = linears(x, weights)
        torch.set_num_threads(2)
        assert all(map(torch.equal, linears(x, weights), alone))
    finally:
        torch.set_num_threads(threads)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_where_it_counts_and_nowhere_else(bad: float) -> None:
    x, weight = matrix(11, 64), matrix(50, 64, seed=1)
    [expected] = linears(x, [weight])
    x[3, 5] = bad
    [found] = linears(x, [weight])
    assert not found[3].isfinite().any()
    others = [i for i in range(11) if i != 3]
    assert torch.equal(found[others], expected[others])


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_rows_of_a_larger_tensor() -> None:
    wide, weight = matrix(40, 100), matrix(30, 40, seed=1)
    x = wide[::2, 5:45]
    assert relative_error(linears(x, [weight])[0], x, weight) < 4e-7


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"a weight must be \(\.\.\., 64\)"):
        linears(torch.ones(8, 64), [torch.ones(32, 64), torch.ones(32, 63)])
    with pytest.raises(RuntimeError, match="a weight must be a contiguous float32 matrix"):
        linears(torch.ones(8, 64), [torch.ones(64, 32).t()])
    with pytest.raises(RuntimeError, match="a weight must be a contiguous float32 matrix"):
        linears(torch.ones(8, 64), [torch.ones(32, 64, dtype=torch.float64)])
    with pytest.raises(RuntimeError, match="x must not be empty"):
        linears(torch.ones(0, 64), [torch.ones(32, 64)])


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_which_products_take_them(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    true = fma_products.linears
    monkeypatch.setattr(fma_products, "linears", lambda x, *args: used.append(len(x)) or true(x, *args))
    monkeypatch.setattr(few_rows, "has_split_products", lambda: False)
    weight = matrix(100, 64, seed=1)
    for rows in (1, 3, 4, 128, 129):
        x = matrix(rows, 64)
        torch.testing.assert_close(few_rows.linears(x, [weight])[0], x @ weight.t(), rtol=1e-5, atol=1e-5)
    assert used == [4, 128]
    assert few_rows.parts_of_products() == 0
    double = few_rows.linears(matrix(8, 64).double(), [weight.double()])[0]
    assert torch.equal(double, matrix(8, 64).double() @ weight.double().t())
    with torch.autocast("cpu", torch.bfloat16):
        assert few_rows.linears(matrix(8, 64), [weight])[0].dtype == torch.bfloat16
    assert used == [4, 128]


@needs_vectors
def test_the_environment_turns_them_off(forget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ENVS_FMA_PRODUCTS", "0")
    monkeypatch.setattr(few_rows, "has_split_products", lambda: False)
    assert not few_rows.has_few_row_products()
    x, weight = matrix(8, 64), matrix(100, 64, seed=1)
    assert torch.equal(few_rows.linears(x, [weight])[0], torch.nn.functional.linear(x, weight))


@needs_vectors
def test_what_computes_another_product_is_not_used(
    forget: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true = fma_products.linears
    monkeypatch.setattr(fma_products, "linears", lambda *args: [out * 1.001 for out in true(*args)])
    with caplog.at_level(logging.WARNING, logger="agents.kernels"):
        assert not has_fma_products()
    assert "computes another product (relative difference 1.0e-03)" in caplog.text


def test_other_processors_go_without(forget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fma_products, "vector_flags", lambda: None)
    assert not has_fma_products()
