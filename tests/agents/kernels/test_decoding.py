"""The operators of a decode step against what PyTorch computes in float64."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agents.decoders import functions
from agents.kernels import decoding
from agents.kernels.decoding import Cache, attend, exponentiate, geglu, has_fused_decoding, rms_norm, rotate, swiglu
from agents.kernels.loading import vector_flags

needs_vectors = pytest.mark.skipif(vector_flags() is None, reason="this CPU has neither AVX-512 nor AVX2")


@pytest.fixture
def forget() -> Iterator[None]:
    """Ask anew whether there are such operators, in this test and after it."""
    has_fused_decoding.cache_clear()
    yield
    has_fused_decoding.cache_clear()


@pytest.fixture
def operators() -> None:
    """They are there: where a CPU can have them, a test is not to be skipped because they cannot be built."""
    assert has_fused_decoding()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


# -- pieces -----------------------------------------------------------------------------------------------------------


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("shape", [(1, 1), (3, 37), (700, 64), (5, 3, 24)])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm(shape: tuple[int, ...], offset: float) -> None:
    x, weight = random(*shape), random(shape[-1], seed=1)
    before = x.clone()
    expected = functions.rms_norm(x.double(), weight.double(), 1e-5, offset)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5, offset), expected.float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(x, before)


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_rms_norm_of_a_sum() -> None:
    """As a whole step has it: what is to be added is added in place."""
    x, more, weight = random(9, 40), random(9, 40, seed=1), random(40, seed=2)
    total = x + more
    out = torch.ops.llm_envs_decoding.rms_norm(x, weight, 1e-5, 0.0, more)
    assert torch.equal(x, total)
    assert torch.equal(out, rms_norm(total, weight, 1e-5))


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_rms_norm_of_very_small_and_large_numbers(scale: float) -> None:
    x, weight = random(4, 64) * scale, torch.ones(64)
    expected = functions.rms_norm(x.double(), weight.double(), 1e-6)
    torch.testing.assert_close(rms_norm(x, weight, 1e-6), expected.float(), rtol=1e-6, atol=1e-9)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("size", [1, 16, 37, 1536])
@pytest.mark.parametrize("name", ["swiglu", "geglu"])
def test_gates_of_parts_of_a_tensor(size: int, name: str) -> None:
    gate, up = (random(40, 2 * size) * 20).split(size, dim=1)
    expected = getattr(functions, name)(gate.double(), up.double()).float()
    assert getattr(decoding, name)(gate, up) is gate
    torch.testing.assert_close(gate, expected, rtol=1e-6, atol=1e-6)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("d", [2, 24, 64, 128])
def test_rotate(d: int) -> None:
    x = random(30, 7 * d)[:, : 5 * d].view(30, 5, d)
    angle = random(30, 1, d // 2, seed=1)
    expected = functions.rotate(x.double(), angle.double().cos(), angle.double().sin())
    torch.testing.assert_close(rotate(x, angle.cos(), angle.sin()), expected.float(), rtol=1e-6, atol=1e-6)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("smallest", [0, math.inf], ids=["operator", "PyTorch"])
@pytest.mark.parametrize(("entries", "size"), [(1, 4), (64, 16), (1000, 32), (49152, 256)])
def test_exponentiate(monkeypatch: pytest.MonkeyPatch, entries: int, size: int, smallest: float) -> None:
    monkeypatch.setattr(decoding, "_LARGE_VOCABULARY", smallest)
    logits = random(3, entries) * 30 + 1000
    logits[1, 1::2] = -math.inf
    expected = (logits.double() - logits.double().amax(1, keepdim=True)).exp()
    largest = logits.amax(1, keepdim=True)
    sums, found = exponentiate(logits, size)
    assert torch.equal(found, largest)
    torch.testing.assert_close(logits.double(), expected, rtol=2e-6, atol=1e-12)
    for block in range(math.ceil(entries / size)):
        torch.testing.assert_close(sums[:, block].double(), expected[:, block * size : (block + 1) * size].sum(1))


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_exponentiate_of_parts_of_a_tensor_and_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last position of several, as a model gives it that computes them all."""
    monkeypatch.setattr(decoding, "_LARGE_VOCABULARY", 0)
    whole = random(4, 3, 100)
    expected = whole[:, -1].clone()
    sums, largest = exponentiate(expected, 16)
    found_sums, found_largest = exponentiate(whole[:, -1], 16)
    torch.testing.assert_close(whole[:, -1], expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(found_sums, sums)
    assert torch.equal(found_largest, largest)
    assert exponentiate(torch.zeros(0, 100), 16)[0].shape == (0, 7)


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_pieces_that_do_not_fit_are_refused() -> None:
    x = torch.ones(3, 8)
    with pytest.raises(RuntimeError, match="weight contiguous"):
        rms_norm(x, torch.ones(7), 1e-5)
    with pytest.raises(RuntimeError, match="x must be float32"):
        rms_norm(x.double(), torch.ones(8), 1e-5)
    for gate in (swiglu, geglu):
        with pytest.raises(RuntimeError, match="of one shape"):
            gate(x, torch.ones(3, 7))
    with pytest.raises(RuntimeError, match="cos and sin must be"):
        rotate(x.view(3, 1, 8), torch.ones(3, 1, 4), torch.ones(3, 1, 3))
    with pytest.raises(RuntimeError, match="D even"):
        rotate(torch.ones(3, 1, 7), torch.ones(3, 1, 3), torch.ones(3, 1, 3))
    with pytest.raises(RuntimeError, match="logits must be"):
        torch.ops.llm_envs_decoding.exponentiate(x.t(), 4)


# -- attention --------------------------------------------------------------------------------------------------------


class Case:
    """Lines of several prompts, and what their newest tokens see."""

    def __init__(
        self, repeats: int = 3, d: int = 24, is_padded: bool = True, filled: int = 5, longest: int = 40
    ) -> None:
        heads, lines, prompts = 2, 11, 3
        prompt_of = torch.tensor([0, 1, 2, 0, 0, 2, 0, 0, 0, 0, 0])
        padding = torch.tensor([longest - 1, 0, 7]) if is_padded else None
        self.query = random(lines, heads * repeats, d)
        self.key, self.value = random(2, lines, heads, d, seed=1)
        own = random(2, lines + 2, heads, 9, d, seed=2)
        self.cache = Cache(random(2, prompts, heads, longest, d, seed=3), own, filled, prompt_of, padding)

    def run(self, window: int | None, lines: list[int] | None = None) -> Tensor:
        """Of these lines alone, in this order."""
        lines = list(range(len(self.query))) if lines is None else lines
        own = self.cache.own[:, lines].contiguous()
        cache = self.cache._replace(own=own, prompt_of=self.cache.prompt_of[lines])
        out = attend(self.query[lines], self.key[lines], self.value[lines], cache, window, 0.3)
        assert torch.equal(own[0, :, :, cache.filled - 1], self.key[lines])
        assert torch.equal(own[1, :, :, cache.filled - 1], self.value[lines])
        return out

    def expected(self, window: int | None) -> Tensor:
        """In float64, line by line."""
        cache, outs = self.cache, []
        for line, prompt in enumerate(cache.prompt_of.tolist()):
            start = 0 if cache.padding is None else int(cache.padding[prompt])
            own = torch.cat([cache.own[:, line, :, : cache.filled - 1], self.new(line)], dim=2)
            keys, values = torch.cat([cache.prompts[:, prompt, :, start:], own], dim=2).double()
            if window is not None:
                keys, values = keys[:, -window:], values[:, -window:]
            repeats = self.query.shape[1] // len(keys)
            keys, values = keys.repeat_interleave(repeats, dim=0), values.repeat_interleave(repeats, dim=0)
            weights = (0.3 * torch.einsum("hd,hjd->hj", self.query[line].double(), keys)).softmax(1)
            outs.append(torch.einsum("hj,hjd->hd", weights, values))
        return torch.stack(outs)

    def new(self, line: int) -> Tensor:
        return torch.stack([self.key[line], self.value[line]])[:, :, None]


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("window", [None, 1, 3, 5, 12, 1000])
@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("filled", [1, 5, 9])
def test_attention_sees_what_it_should(window: int | None, is_padded: bool, filled: int) -> None:
    case = Case(is_padded=is_padded, filled=filled)
    torch.testing.assert_close(case.run(window).double(), case.expected(window), rtol=1e-5, atol=1e-6)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("repeats", [1, 2, 4, 7])
@pytest.mark.parametrize("d", [8, 16, 64, 80, 128, 256])
def test_heads_of_every_kind(repeats: int, d: int) -> None:
    case = Case(repeats, d)
    torch.testing.assert_close(case.run(None).double(), case.expected(None), rtol=1e-5, atol=1e-6)


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_long_prompts_and_large_scores() -> None:
    case = Case(longest=1000)
    case.query *= 100
    torch.testing.assert_close(case.run(None).double(), case.expected(None), rtol=1e-3, atol=1e-4)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_line_does_not_depend_on_what_stands_beside_it(repeats: int, window: int | None) -> None:
    case = Case(repeats)
    whole = case.run(window)
    for lines in ([4], [4, 3], [10, 5, 1], list(range(10, -1, -1))):
        assert torch.equal(case.run(window, lines), whole[lines])


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_threads_do_not_change_the_result() -> None:
    threads = torch.get_num_threads()
    case, x, weight = Case(), random(300, 700), random(700, seed=1)
    logits = random(8, 20000)
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            weights = logits.clone()
            sums, largest = exponentiate(weights, 128)
            gates = [swiglu(x.clone(), x), geglu(x.clone(), x)]
            results.append([case.run(None), rms_norm(x, weight, 1e-5), *gates, weights, sums, largest])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_vectors
@pytest.mark.usefixtures("operators")
def test_no_lines() -> None:
    case = Case()
    assert case.run(None, []).shape == (0, 6, 24)


@needs_vectors
@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filled": 0}, "filled must be in 1 .. 9"),
        ({"filled": 10}, "filled must be in 1 .. 9"),
        ({"prompt_of": torch.full((11,), 3)}, "prompt_of must be below 3"),
        ({"prompt_of": torch.full((11,), -1)}, "prompt_of must be below 3"),
        ({"prompt_of": torch.zeros(10, dtype=torch.long)}, r"prompt_of must be \(11,\)"),
        ({"prompt_of": torch.zeros(11)}, "int64"),
        ({"padding": torch.tensor([0, 41, 0])}, "padding must be in 0 .. 40"),
        ({"padding": torch.tensor([0, 0])}, r"padding must be \(3,\)"),
        ({"prompts": torch.zeros(2, 3, 2, 40, 16)}, "prompts must be"),
        ({"own": torch.zeros(2, 10, 2, 9, 24)}, "own must be"),
        ({"own": torch.zeros(2, 13, 4, 9, 24)}, "Hq a multiple of 4"),
        ({"own": torch.zeros(2, 13, 2, 9, 24, dtype=torch.float64)}, "own must be float32"),
    ],
    ids=str,
)
def test_caches_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    case = Case()
    with pytest.raises(RuntimeError, match=message):
        attend(case.query, case.key, case.value, case.cache._replace(**changes), None, 0.3)


# -- where they are not -----------------------------------------------------------------------------------------------


def test_the_environment_turns_them_off(forget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_ENVS_FUSED_DECODING", "0")
    assert not has_fused_decoding()


def test_other_processors_go_without(forget: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert not has_fused_decoding()


@needs_vectors
def test_the_first_to_ask_may_compute_in_another_precision(forget: None) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert has_fused_decoding()
    finally:
        torch.set_default_dtype(torch.float32)


@needs_vectors
def test_without_a_compiler_the_log_says_so_once(
    forget: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.WARNING, logger="agents.kernels"):
        assert not any(has_fused_decoding() for _ in range(3))
    [record] = caplog.records
    assert "fused decoding: not available" in record.getMessage()
    assert "no-such-compiler" in record.getMessage()


@needs_vectors
@pytest.mark.parametrize("name", ["attend", "rms_norm", "rotate", "swiglu", "geglu"])
def test_what_computes_something_else_is_not_used(
    forget: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    assert has_fused_decoding()
    has_fused_decoding.cache_clear()
    true = getattr(decoding, name)
    monkeypatch.setattr(decoding, name, lambda *args: true(*args) * 1.01)
    with caplog.at_level(logging.WARNING, logger="agents.kernels"):
        assert not has_fused_decoding()
    assert "computes something else" in caplog.text


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="needs a CPU with AVX-512, which has AVX2 as well"
)
def test_all_this_with_avx2() -> None:
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", __file__, "-rs"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "1 skipped" in done.stdout  # this test, there
