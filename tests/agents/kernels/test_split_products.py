"""Float32 products on the matrix units of the CPU: precision, edges, gradients, and what happens where they are not."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agents.engines import StaticCacheEngine
from agents.kernels import add_product, linear, linears, product, split_products
from agents.kernels.build import CannotBuild, built_library
from agents.kernels.split_products import has_split_products
from agents.policies import load_policy
from agents.rollout import SamplingParams

needs_amx = pytest.mark.skipif(not split_products._has_amx(), reason="this CPU has no AMX, or the system is not Linux")


@pytest.fixture
def forget() -> Iterator[None]:
    """Ask anew whether there are split products, in this test and after it."""
    has_split_products.cache_clear()
    yield
    has_split_products.cache_clear()


@pytest.fixture
def high() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def matrix(rows: int, columns: int, by_column: bool = False, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 7919 + rows * 31 + columns)
    if by_column:
        return torch.randn(columns, rows, generator=generator).t()
    return torch.randn(rows, columns, generator=generator)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found.double() - expected).norm() / expected.norm()).item()


SHAPES = [
    (1, 1, 1),
    (5, 3, 7),
    (16, 32, 16),
    (31, 33, 31),
    (32, 64, 32),
    (33, 96, 65),
    (64, 640, 256),
    (70, 100, 45),
    (128, 672, 33),
    (129, 576, 300),
    (200, 1300, 257),
    (2100, 40, 70),
    (40, 5000, 40),
    (300, 20, 1100),
]


@pytest.mark.usefixtures("always_split")
@pytest.mark.parametrize("by_column", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_three_parts_are_as_precise_as_float32(shape: tuple[int, int, int], by_column: tuple[bool, bool]) -> None:
    m, k, n = shape
    a, b = matrix(m, k, by_column[0]), matrix(k, n, by_column[1], seed=1)
    expected = a.double() @ b.double()
    # float32's own rounding of each product and sum is 6e-8 of it
    assert relative_error(product(a, b), expected) < 4e-7
    out = torch.full((m, n), math.nan)
    assert product(a, b, out=out) is out
    assert relative_error(out, expected) < 4e-7
    start = matrix(m, n, seed=2)
    out = start.clone()
    add_product(out, a, b)
    assert relative_error(out, start.double() + expected) < 4e-7


@pytest.mark.usefixtures("always_split")
@pytest.mark.parametrize("rows", [48, 300])
def test_errors_are_no_larger_than_pytorchs(rows: int) -> None:
    a, b = matrix(rows, 4096), matrix(1024, 4096, seed=1).t()
    expected = a.double() @ b.double()
    assert relative_error(product(a, b), expected) < 1.2 * relative_error(a @ b, expected)


@pytest.mark.usefixtures("always_split", "high")
@pytest.mark.parametrize("rows", [48, 300])
def test_high_precision_is_two_parts(rows: int) -> None:
    a, b = matrix(rows, 512), matrix(256, 512, seed=1).t()
    assert 1e-6 < relative_error(product(a, b), a.double() @ b.double()) < 1e-5


@pytest.mark.usefixtures("always_split")
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_numbers_of_any_size(scale: float) -> None:
    a, b = matrix(40, 64) * scale, matrix(64, 40, seed=1)
    assert relative_error(product(a, b), a.double() @ b.double()) < 4e-7


@pytest.mark.usefixtures("always_split")
@pytest.mark.parametrize("rows", [40, 200])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_shows_where_it_counts_and_nowhere_else(rows: int, bad: float) -> None:
    a, b = matrix(rows, 64), matrix(48, 64, seed=1).t()
    expected = product(a, b)
    a[3, 5] = bad
    found = product(a, b)
    assert not found[3].isfinite().any()
    others = [i for i in range(rows) if i != 3]
    assert torch.equal(found[others], expected[others])


@pytest.mark.usefixtures("always_split")
def test_a_row_does_not_depend_on_what_stands_beside_it() -> None:
    weight = matrix(96, 200)
    few, many = matrix(100, 200, seed=1), matrix(400, 200, seed=2)
    for x, counts in ((few, (1, 17, 33)), (many, (129, 300))):
        whole = product(x, weight.t())
        for count in counts:
            assert torch.equal(product(x[-count:], weight.t()), whole[-count:])


@pytest.mark.usefixtures("always_split")
def test_threads_do_not_change_the_result() -> None:
    threads = torch.get_num_threads()
    pairs = [(matrix(40, 300), matrix(700, 300, seed=1).t()), (matrix(500, 700), matrix(700, 300, seed=1))]
    try:
        torch.set_num_threads(1)
        alone = [product(*pair) for pair in pairs]
        torch.set_num_threads(2)
        assert all(torch.equal(product(*pair), one) for pair, one in zip(pairs, alone, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("always_split")
@pytest.mark.parametrize("has_bias", [False, True])
def test_gradients_of_linear(has_bias: bool) -> None:
    x, weight, bias = matrix(150, 96).requires_grad_(), matrix(64, 96, seed=1).requires_grad_(), torch.randn(64)
    bias.requires_grad_()
    inputs = [x, weight, bias] if has_bias else [x, weight]
    toward = matrix(150, 64, seed=2)
    out = linear(*inputs)
    found = torch.autograd.grad(out, inputs, toward)
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = torch.nn.functional.linear(*doubles)
    for ours, true in zip(found, torch.autograd.grad(expected, doubles, toward.double()), strict=True):
        assert relative_error(ours, true) < 4e-7
    assert relative_error(out, expected) < 4e-7


@pytest.mark.usefixtures("always_split")
def test_only_the_gradients_that_are_asked_for() -> None:
    x, weight = matrix(40, 64), matrix(64, 64, seed=1).requires_grad_()
    linear(x, weight).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, x.sum(0).expand(64, 64), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert not linear(x, weight).requires_grad


@pytest.mark.usefixtures("always_split")
@pytest.mark.parametrize("rows", [1, 20, 70, 128, 129])
@pytest.mark.parametrize("features", [64, 50, 1300])
def test_several_linears_of_the_same_rows(rows: int, features: int) -> None:
    x = matrix(rows, features)
    weights = [matrix(n, features, seed=n) for n in (96, 32, 7)]
    following = [None, matrix(40, 96), matrix(3, 3), torch.zeros(8, 8, dtype=torch.float64), torch.zeros(0, 8)]
    for next_weight in following:
        for out, weight in zip(linears(x, weights, next_weight), weights, strict=True):
            assert out.is_contiguous()
            assert relative_error(out, x.double() @ weight.double().t()) < 4e-7


@pytest.mark.usefixtures("always_split")
def test_linears_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"a weight must be \(\.\.\., 64\) and contiguous"):
        linears(torch.ones(8, 64), [torch.ones(32, 64), torch.ones(32, 63)])


@pytest.mark.usefixtures("always_split")
def test_strides_of_every_kind() -> None:
    wide = matrix(80, 200)
    weight = matrix(48, 64, seed=1)
    for x in (wide[:, 3:67], wide[::2, 3:67], wide[:, ::2][:, :64], wide[:1, :64].expand(80, 64), wide[::3, 10:74]):
        assert relative_error(product(x, weight.t()), x.double() @ weight.double().t()) < 4e-7
    # rows of a larger tensor
    out = torch.zeros(120, 48)
    product(wide[:, :64], weight.t(), out=out[20:100])
    assert relative_error(out[20:100], wide[:, :64].double() @ weight.double().t()) < 4e-7
    assert not out[:20].any()
    assert not out[100:].any()


@pytest.mark.usefixtures("always_split")
def test_empty_operands() -> None:
    assert product(torch.zeros(0, 5), torch.zeros(5, 4)).shape == (0, 4)
    assert torch.equal(product(torch.zeros(3, 0), torch.zeros(0, 4)), torch.zeros(3, 4))


@pytest.mark.usefixtures("always_split")
def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        product(torch.ones(3, 4), torch.ones(5, 6))
    with pytest.raises(RuntimeError, match="out must be"):
        product(torch.ones(3, 4), torch.ones(4, 6), out=torch.ones(3, 5))


@needs_amx
def test_other_dtypes_small_matrices_and_autocast_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError("split products were used")

    monkeypatch.setattr(split_products, "_product", never)
    x, weight = matrix(64, 512), matrix(512, 512, seed=1)
    for dtype in (torch.float64, torch.bfloat16):
        assert torch.equal(linear(x.to(dtype), weight.to(dtype)), x.to(dtype) @ weight.to(dtype).t())
    assert torch.equal(linear(x[:2], weight), x[:2] @ weight.t())
    assert torch.equal(linear(x[:, :32], weight[:, :32]), x[:, :32] @ weight[:, :32].t())
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    with pytest.raises(AssertionError, match="split products were used"):
        linear(x, weight)


def test_the_default_policy_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> bool:
        raise AssertionError("asked for split products")

    monkeypatch.setattr(split_products, "has_split_products", never)
    monkeypatch.setattr("agents.decoders.streamed.has_few_row_products", never)
    policy = load_policy("builtin/tiny", device="cpu")
    engine = StaticCacheEngine(policy)
    engine.generate([[5, 6, 7]] * 32, 8, SamplingParams(20), torch.Generator().manual_seed(0))
    for _, parameter in policy.trainable_parameters():
        if parameter.ndim == 2:
            linear(torch.zeros(10_000, parameter.shape[1]), parameter.detach())


def test_the_environment_turns_them_off(forget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ENVS_SPLIT_PRODUCTS", "0")
    x, weight = matrix(64, 512), matrix(512, 512, seed=1)
    assert not has_split_products()
    assert torch.equal(linear(x, weight), torch.nn.functional.linear(x, weight))
    assert torch.equal(product(x, weight), x @ weight)
    out = torch.ones(64, 512)
    add_product(out, x, weight)
    assert torch.equal(out, torch.ones(64, 512).addmm_(x, weight))


@needs_amx
def test_the_first_to_ask_may_compute_in_another_precision(forget: None) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert has_split_products()
    finally:
        torch.set_default_dtype(torch.float32)


def test_without_a_compiler_pytorchs_products_are_used(
    forget: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(split_products, "_has_amx", lambda: True)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    x, weight = matrix(64, 512), matrix(512, 512, seed=1)
    with caplog.at_level(logging.WARNING, logger="agents.kernels"):
        for _ in range(3):
            assert torch.equal(linear(x, weight), torch.nn.functional.linear(x, weight))
    assert [record.getMessage() for record in caplog.records] == [
        "float32 products on matrix units: not available, PyTorch's operators are used instead: "
        "there is no C++ compiler 'no-such-compiler'"
    ]


@needs_amx
def test_what_computes_another_product_is_not_used(
    forget: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true = split_products._product
    monkeypatch.setattr(split_products, "_product", lambda a, b, out=None: true(a, b, out) * 1.001)
    with caplog.at_level(logging.WARNING, logger="agents.kernels"):
        assert not has_split_products()
    assert "computes another product (relative difference 1.0e-03)" in caplog.text


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a shell script in the compiler's place, with a cache of its own; gives a source to be compiled."""

    def replace(script: str) -> Path:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
        compiler = tmp_path / "compiler"
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        source = tmp_path / "some.cpp"
        source.write_text("int one() { return 1; }")
        return source

    return replace


def test_a_library_is_compiled_once(tmp_path: Path, compiler: Callable[[str], Path]) -> None:
    source = compiler(f"echo called >> {tmp_path}/calls\nfor last; do :; done\necho library > $last")
    first = built_library(source, [])
    assert first.read_text() == "library\n"
    assert built_library(source, []) == first
    assert built_library(source, ["-DOTHER"]) != first
    source.write_text("int one() { return 2; }")
    assert built_library(source, []) != first
    assert len((tmp_path / "calls").read_text().split()) == 3
    assert sorted(path.suffix for path in first.parent.iterdir()) == [".so"] * 3


def test_a_failing_compiler_is_quoted(tmp_path: Path, compiler: Callable[[str], Path]) -> None:
    source = compiler("echo 'some.cpp:1: what is this' >&2\nexit 1")
    with pytest.raises(CannotBuild, match="what is this"):
        built_library(source, [])
    assert not list((tmp_path / "cache" / "llm_envs").iterdir())


def test_a_compiler_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, compiler: Callable[[str], Path]) -> None:
    monkeypatch.setattr("agents.kernels.build._SECONDS", 0.2)
    source = compiler("exec sleep 60")
    with pytest.raises(CannotBuild, match="timed out"):
        built_library(source, [])


def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "true")
    source = tmp_path / "some.cpp"
    source.write_text("int one() { return 1; }")
    with pytest.raises(CannotBuild, match="cannot be made"):
        built_library(source, [])
