"""Algorithms for convolutions against double precision and autograd; the choice between them."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nstrt.runtime.errors import CheckpointError
from nstrt.runtime.kernels import compiled as loops
from nstrt.runtime.kernels import simd as vectors
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import Autotuner, Filter, Kernel, band_for
from nstrt.runtime.kernels.convolution import algorithms as kernels
from nstrt.runtime.kernels.convolution import autotune as choice
from nstrt.runtime.kernels.convolution import filter as filter_module
from nstrt.runtime.kernels.convolution import winograd_4x4 as winograd_module
from nstrt.runtime.kernels.convolution import winograd_6x6 as fused
from nstrt.runtime.kernels.convolution import winograd_6x6_loops as compiled
from nstrt.runtime.kernels.convolution.algorithms import candidates, nnpack_works
from nstrt.runtime.kernels.convolution.winograd_4x4 import TILE, Winograd4x4, transform_weight

SIZES = [(4, 4), (8, 12), (1, 1), (5, 7), (3, 18), (19, 22), (4, 41)]
CHANNELS = [(16, 16), (24, 40), (40, 20), (3, 20), (20, 3)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def filter_of(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> Filter:
    weight = noise(outputs, inputs, 3, 3, seed=1) / 3 / inputs**0.5
    return Filter(weight.to(dtype), noise(outputs, seed=2).to(dtype))


def plainly(seen: Tensor, weight: Tensor, *, transposed: bool) -> Tensor:
    """The convolution of channels x (rows + 2) x (columns + 2) in double precision; its transpose
    by autograd."""
    seen, weight = seen.double(), weight.double()
    if not transposed:
        return functional.conv2d(seen[None], weight)[0]
    # The gradient at whatever has all its neighbours among ``seen``.
    shape = (weight.shape[1], seen.shape[1] + 2, seen.shape[2] + 2)
    leaf = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(functional.conv2d(leaf[None], weight)[0], leaf, seen)
    return found[:, 2:-2, 2:-2]


def applied(
    kernel: Kernel,
    seen: Tensor,
    scratch: BufferPool,
    *,
    outputs: int,
    bias: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """What a kernel makes of a band with the content ``seen``, after other content was there."""
    channels, rows, columns = seen.shape[0], seen.shape[1] - 2, seen.shape[2] - 2
    band_for(scratch, kernel, channels, rows, columns).fill_(7)
    band = band_for(scratch, kernel, channels, rows, columns)
    band.zero_()
    band[:, : rows + 2, : columns + 2] = seen
    out = torch.full((outputs, rows, columns), 9.0) if out is None else out
    kernel.apply(band, out, bias)
    return out


def serving() -> list[tuple[str, str, tuple[int, int], bool, float]]:
    """Each algorithm with channels that it serves, its way, and the error it may make."""
    found = []
    for (inputs, outputs), transposed in product(CHANNELS, (False, True)):
        for precision in ("fp32", "bf16", "fp16"):
            makers = candidates(
                filter_of(inputs, outputs),
                BufferPool(),
                transposed=transposed,
                precision=precision,
                large=True,
            )
            allowed = 1e-5 if precision == "fp32" else 1e-2
            found += [
                (precision, name, (inputs, outputs), transposed, allowed)
                for name in makers
                if precision == "fp32" or name in ("rounded", "half")
            ]
    return found


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("precision", "name", "channels", "transposed", "allowed"), serving())
def test_every_algorithm_computes_the_convolution(
    precision: str,
    name: str,
    channels: tuple[int, int],
    transposed: bool,
    allowed: float,
    biased: bool,
) -> None:
    weights, scratch = filter_of(*channels), BufferPool()
    inputs, outputs = channels[::-1] if transposed else channels
    makers = candidates(weights, scratch, transposed=transposed, precision=precision, large=True)
    kernel = makers[name]()
    bias = noise(outputs, 1, 1, seed=4) if biased else None
    for rows, columns in SIZES:
        seen = noise(inputs, rows + 2, columns + 2, seed=rows)
        expected = plainly(seen, weights.weight, transposed=transposed)
        found = applied(
            kernel,
            seen,
            scratch,
            outputs=outputs,
            bias=None if bias is None else bias.float(),
        )
        wanted = expected if bias is None else expected + bias
        assert error(found, wanted) < allowed, (rows, columns)


@pytest.mark.parametrize(("precision", "name", "channels", "transposed", "allowed"), serving())
def test_nothing_is_written_beside_the_rows_that_were_asked_for(
    precision: str, name: str, channels: tuple[int, int], transposed: bool, allowed: float
) -> None:
    weights, scratch = filter_of(*channels), BufferPool()
    inputs, outputs = channels[::-1] if transposed else channels
    makers = candidates(weights, scratch, transposed=transposed, precision=precision, large=True)
    kernel = makers[name]()
    for (rows, columns), (left, right) in product([(8, 12), (5, 7)], [(0, 0), (4, 1)]):
        plane = torch.full((outputs, rows + 7, left + columns + right), torch.nan)
        out = plane[:, 4 : 4 + rows, left : left + columns]
        seen = noise(inputs, rows + 2, columns + 2)
        applied(kernel, seen, scratch, outputs=outputs, out=out)
        assert error(out, plainly(seen, weights.weight, transposed=transposed)) < allowed
        out.fill_(torch.nan)
        assert bool(plane.isnan().all())


def winograd(weights: Filter, scratch: BufferPool, *, transposed: bool) -> Kernel:
    return Winograd4x4(weights.transformed(), scratch, transposed=transposed)


def fused_one(weights: Filter, scratch: BufferPool, *, transposed: bool) -> fused.Winograd6x6:
    return fused.Winograd6x6(weights.one_way(transposed=transposed), scratch)


@pytest.mark.parametrize("kind", [winograd, fused_one])
@given(
    rows=st.integers(1, 14),
    columns=st.integers(1, 60),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    transposed=st.booleans(),
    biased=st.booleans(),
)
@settings(max_examples=60)
def test_winograd_is_the_convolution_at_any_size(
    kind: Callable[..., Kernel],
    rows: int,
    columns: int,
    inputs: int,
    outputs: int,
    transposed: bool,
    biased: bool,
) -> None:
    weights, scratch = filter_of(inputs, outputs), BufferPool()
    kernel = kind(weights, scratch, transposed=transposed)
    if transposed:
        inputs, outputs = outputs, inputs
    bias = noise(outputs, 1, 1, seed=4) if biased else torch.zeros(outputs, 1, 1).double()
    seen = noise(inputs, rows + 2, columns + 2)
    given_bias = bias.float() if biased else None
    found = applied(kernel, seen, scratch, outputs=outputs, bias=given_bias)
    expected = plainly(seen, weights.weight, transposed=transposed) + bias
    # Sums of few channels may cancel.
    assert error(found, expected) < 1e-4


def test_bands_have_room_for_the_pixel_around_and_for_whole_tiles() -> None:
    scratch, weights = BufferPool(), filter_of(16, 16)
    tiled = winograd(weights, scratch, transposed=False)
    assert tiled.multiple == TILE
    assert band_for(scratch, tiled, 16, 5, 8).shape == (16, 10, 10)
    unfilled = fused_one(weights, scratch, transposed=False)
    assert band_for(scratch, unfilled, 16, 5, 8).shape == (16, 7, 10)
    assert band_for(scratch, kernels.Direct(weights.weight), 16, 5, 8).shape == (16, 7, 10)
    double = band_for(scratch, kernels.Direct(weights.weight), 16, 5, 8, torch.float64)
    assert double.dtype == torch.float64
    rounded = band_for(scratch, kernels.Rounded(weights.weight), 16, 5, 8)
    assert (rounded.dtype, rounded.shape) == (torch.bfloat16, (16, 7, 10))
    assert rounded[None].is_contiguous(memory_format=torch.channels_last)


def correlated(values: list[Fraction], weights: list[Fraction]) -> list[Fraction]:
    return [
        sum((values[i + k] * weights[k] for k in range(3)), start=Fraction(0))
        for i in range(len(values) - 2)
    ]


@given(
    st.lists(st.fractions(-9, 9, max_denominator=9), min_size=6, max_size=6),
    st.lists(st.fractions(-9, 9, max_denominator=9), min_size=3, max_size=3),
)
@settings(max_examples=30)
def test_winograds_matrices_are_exact(values: list[Fraction], weights: list[Fraction]) -> None:
    """One row of a tile, in fractions: there is nothing to round."""
    points = winograd_module._POINTS
    transformed = winograd_module.weight_matrix(points) @ np.array(weights)
    seen = winograd_module._input_matrix(points) @ np.array(values)
    found = winograd_module._output_matrix(points) @ (transformed * seen)
    assert list(found) == correlated(values, weights)

    # The same transformed weights, at the reciprocal points, are those of the flipped filter.
    points = tuple(map(winograd_module._reciprocal, points))
    outputs = winograd_module._output_matrix(points) * winograd_module._flip_factors()
    seen = winograd_module._input_matrix(points) @ np.array(values)
    assert list(outputs @ (transformed * seen)) == correlated(values, weights[::-1])


@given(
    st.lists(st.integers(-9, 9), min_size=8, max_size=8),
    st.lists(st.integers(-9, 9), min_size=3, max_size=3),
)
@settings(max_examples=30)
def test_the_formulas_that_are_compiled_are_winograds(
    values: list[int], weights: list[int]
) -> None:
    """On integers, whose products with halves and quarters are exact in double precision."""
    matrix = winograd_module.weight_matrix(fused.POINTS) * np.array(fused.FACTORS)[:, None]
    transformed = matrix @ np.array(list(map(Fraction, weights)))
    seen = [Fraction(value) for value in compiled.points_of(list(map(float, values)))]
    exact = correlated(list(map(Fraction, values)), list(map(Fraction, weights)))
    products = [weight * value for weight, value in zip(transformed, seen, strict=True)]
    # 45ths are not exact: by linearity, each product's share alone, with a numerator of one.
    shares = np.array([compiled.pixels_of([float(i == j) for j in range(8)]) for i in range(8)])
    found = [
        sum((Fraction(shares[i][k]) * products[i] for i in range(8)), start=Fraction(0))
        for k in range(6)
    ]
    assert found == exact

    # The formula for weights has no exact ninths, so it is as near as double precision is.
    assert compiled.weights_of(list(map(float, weights))) == pytest.approx(
        list(map(float, transformed)), abs=1e-14
    )


@pytest.mark.parametrize(("inputs", "outputs"), [(136, 128), (40, 300), (512, 80)])
@pytest.mark.parametrize("transposed", [False, True])
def test_blocks_of_tiles_share_a_reading_of_the_weights(
    inputs: int, outputs: int, transposed: bool
) -> None:
    """More tiles than are computed at once, of more channels than stay in a cache."""
    assert compiled.strips_of(60, 163) > 2 * fused._MOST
    weights, scratch = filter_of(inputs, outputs), BufferPool()
    kernel = fused_one(weights, scratch, transposed=transposed)
    if transposed:
        inputs, outputs = outputs, inputs
    seen = noise(inputs, 62, 165)
    found = applied(kernel, seen, scratch, outputs=outputs)
    assert error(found, plainly(seen, weights.weight, transposed=transposed)) < 1e-5


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 70),
    top=st.integers(-3, 21),
    left=st.integers(-3, 71),
    height=st.integers(1, 20),
    width=st.integers(1, 70),
    transposed=st.booleans(),
)
@settings(max_examples=100)
def test_a_window_sees_zeros_where_there_is_nothing(
    rows: int, columns: int, top: int, left: int, height: int, width: int, transposed: bool
) -> None:
    weights = filter_of(5, 6)
    kernel = fused_one(weights, BufferPool(), transposed=transposed)
    inputs, outputs = (6, 5) if transposed else (5, 6)
    # What lies around a plane in memory is not seen.
    memory = torch.full((inputs, rows + 2, columns + 2), torch.nan)
    plane = memory[:, 1:-1, 1:-1]
    plane.copy_(noise(inputs, rows, columns))
    around = functional.pad(plane, (100, 200, 100, 200))
    window = around[:, 100 + top : 102 + top + height, 100 + left : 102 + left + width]
    out = torch.full((outputs, height, width), torch.nan)
    kernel.window(plane, top, left, out, None)
    expected = plainly(window, weights.weight, transposed=transposed)
    assert not out.isnan().any()
    assert float((out - expected).abs().max()) < 1e-4
    rectified = torch.full((outputs, height, width), torch.nan)
    kernel.window(plane, top, left, rectified, None, rectified=True)
    assert torch.equal(rectified, out.relu())


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("channels", [16, 130], ids=["their own", "shared"])
def test_threads_have_buffers_of_their_own_or_share_them(channels: int, threads: int) -> None:
    weights, scratch = filter_of(channels, channels), BufferPool()
    seen = noise(channels, 62, 165)
    expected = plainly(seen, weights.weight, transposed=False)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kernel = fused_one(weights, scratch, transposed=False)
        first = applied(kernel, seen, scratch, outputs=channels).clone()
        assert error(first, expected) < 1e-5
        for _ in range(5):
            assert torch.equal(applied(kernel, seen, scratch, outputs=channels), first)
    finally:
        torch.set_num_threads(before)


def test_weights_are_transformed_along_rows_and_columns() -> None:
    weight = noise(2, 3, 3, 3)
    matrix = torch.tensor(
        [
            [float(value) for value in row]
            for row in winograd_module.weight_matrix(winograd_module._POINTS)
        ],
        dtype=torch.float64,
    )
    expected = torch.einsum("ij,ocjk,lk->iloc", matrix, weight, matrix).reshape(36, 2, 3)
    assert error(transform_weight(weight), expected) < 1e-6


def test_both_ways_share_one_transform_of_the_weights() -> None:
    weights, scratch = filter_of(16, 32), BufferPool()
    on, back = (winograd(weights, scratch, transposed=transposed) for transposed in (False, True))
    shared = weights.transformed().data_ptr()
    assert on._weight.data_ptr() == back._weight.data_ptr() == shared


@pytest.mark.parametrize("kind", [kernels.Rounded, kernels.Half])
@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_numbers_far_from_one_survive_rounding(
    kind: type[kernels.Rounded | kernels.Half], scale: float
) -> None:
    """Gradients of means over a million positions are tiny."""
    weights, scratch = filter_of(16, 16), BufferPool()
    seen = noise(16, 10, 10) * scale
    found = applied(kind(weights.weight), seen, scratch, outputs=16)
    assert error(found, plainly(seen, weights.weight, transposed=False)) < 1e-2


@pytest.mark.parametrize("kind", [kernels.Rounded, kernels.Half, kernels.Direct])
def test_nothing_convolved_is_nothing(kind: Callable[[Tensor], Kernel]) -> None:
    found = applied(kind(filter_of(16, 16).weight), torch.zeros(16, 6, 6), BufferPool(), outputs=16)
    assert torch.equal(found, torch.zeros(16, 4, 4))


@pytest.mark.parametrize("transposed", [False, True])
def test_what_may_serve_depends_on_channels_and_precision(
    transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(weights: Filter, precision: str = "fp32", *, large: bool = False) -> set[str]:
        makers = candidates(
            weights, BufferPool(), transposed=transposed, precision=precision, large=large
        )
        return set(makers)

    wide, narrow = filter_of(16, 32), filter_of(3, 64)
    always = {"direct", "winograd"}
    for works in (True, False):
        monkeypatch.setattr(kernels, "nnpack_works", lambda works=works: works)
        assert names(wide) == always | ({"nnpack"} if works else set())
        assert names(narrow) == {"direct", "products"}
    for works in (True, False):
        monkeypatch.setattr(kernels, "fused_works", lambda works=works: works)
        more = {"fused"} if works else set()
        assert names(wide, large=True) == names(wide) | more
        assert names(narrow, large=True) == names(narrow) | more
        assert names(wide, "bf16", large=True) == {"rounded"}
    assert names(wide, "bf16") == {"rounded"}
    assert names(narrow, "bf16") == {"direct", "products"}
    assert names(wide, "fp16") == names(narrow, "fp16") == {"half"}
    assert names(filter_of(16, 32, torch.float64)) == {"direct"}
    assert names(filter_of(3, 64, torch.float64)) == {"direct"}


def test_doubles_stay_doubles() -> None:
    weights, scratch = filter_of(16, 24, torch.float64), BufferPool()
    for transposed, (inputs, outputs) in ((False, (16, 24)), (True, (24, 16))):
        kernel = candidates(weights, scratch, transposed=transposed)["direct"]()
        seen = noise(inputs, 7, 9)
        out = torch.empty(outputs, 5, 7, dtype=torch.float64)
        kernel.apply(seen, out, None)
        assert error(out, plainly(seen, weights.weight, transposed=transposed)) < 1e-14


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has asked yet whether NNPACK works."""
    monkeypatch.setattr(kernels, "_works", [])


def lose_the_operator(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(torch, "_nnpack_spatial_convolution", raising=False)


def lose_the_backend(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends, "nnpack", None)


def have_no_library(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch.backends.nnpack, "is_available", lambda: False)


def answer(result: Callable[[Tensor], Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    def break_it(patch: pytest.MonkeyPatch) -> None:
        def operator(x: Tensor, weight: Tensor, *rest: Any, **options: Any) -> Tensor:
            return result(functional.conv2d(x, weight))

        patch.setattr(torch.backends.nnpack, "is_available", lambda: True)
        patch.setattr(torch, "_nnpack_spatial_convolution", operator, raising=False)

    return break_it


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize(
    "break_it",
    [
        lose_the_operator,
        lose_the_backend,
        have_no_library,
        answer(lambda y: y + 0.01),
        answer(lambda y: y * torch.nan),
        answer(lambda y: y[..., 1:]),
        answer(lambda y: y.flip(-1)),
    ],
    ids=["no operator", "no backend", "no library", "wrong", "nan", "another shape", "flipped"],
)
def test_nnpack_that_is_absent_or_wrong_is_left_out(
    break_it: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    assert not nnpack_works()
    assert "nnpack" not in candidates(filter_of(16, 16), BufferPool(), transposed=False)


@pytest.mark.usefixtures("unasked")
def test_nnpack_that_agrees_is_taken_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(lambda y: y)(monkeypatch)
    assert nnpack_works()
    lose_the_operator(monkeypatch)
    assert nnpack_works()
    assert "nnpack" in candidates(filter_of(16, 16), BufferPool(), transposed=False)


@pytest.fixture
def asked_again() -> Iterator[None]:
    """Nobody has asked yet whether compiled loops work; the next one will ask again."""
    forget()
    yield
    forget()


def forget() -> None:
    loops.working_loops.cache_clear()


@pytest.mark.usefixtures("asked_again")
def test_compiled_loops_that_are_wrong_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fused" in candidates(filter_of(16, 16), BufferPool(), transposed=False, large=True)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("what LLVM says")

    def fill(
        self: fused.Winograd6x6, source: Tensor, top: int, left: int, out: Tensor, *_: Any
    ) -> None:
        out.fill_(1)

    for wrong in (lambda *given, rectified: fill(*given), fail):
        forget()
        monkeypatch.setattr(fused.Winograd6x6, "window", wrong)
        makers = candidates(filter_of(16, 16), BufferPool(), transposed=False, large=True)
        assert "fused" not in makers


NARROW = """
import torch
from nstrt.runtime.kernels import simd
from nstrt.runtime.kernels.buffers import Scratch
from nstrt.runtime.kernels.compiled import working_loops
from nstrt.runtime.kernels.convolution.winograd_6x6 import Fused

assert simd.WIDE == simd.LANES, simd.WIDE
for name in ("convolution.winograd_6x6", "gram.compiled", "pooling.compiled"):
    assert working_loops(name), name
for inputs, outputs in ((40, 3), (3, 40), (80, 300)):
    seen, weight = torch.randn(inputs, 21, 51), torch.randn(outputs, inputs, 3, 3)
    found = torch.empty(outputs, 19, 49)
    Fused(weight, Scratch()).window(seen, 0, 0, found, None)
    wanted = torch.nn.functional.conv2d(seen[None].double(), weight.double())[0]
    assert (found - wanted).norm() < 1e-5 * wanted.norm(), (inputs, outputs)
"""


def test_loops_work_on_processors_with_narrower_registers() -> None:
    """Numba compiles for whatever processor it is told of; a narrower one's code runs here too."""
    name, features = vectors.cpu_target.target_context.codegen().magic_tuple()[1:]
    if vectors.WIDE == vectors.LANES:
        pytest.skip("they are narrow here, and all else tests them")
    fewer = [
        f"-{feature[1:]}" if feature.startswith(("+avx512", "+avx10")) else feature
        for feature in features.split(",")
    ]
    environment = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ",".join(fewer)}
    subprocess.run(
        [sys.executable, "-c", NARROW], env={**os.environ, **environment}, check=True, timeout=300
    )


@pytest.mark.usefixtures("asked_again")
def test_without_numba_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "find_spec", lambda name: None)
    assert "fused" not in candidates(filter_of(16, 16), BufferPool(), transposed=False, large=True)


def test_a_run_whose_algorithm_is_gone_is_not_gone_on_with(cache: Path) -> None:
    weights, chooser = filter_of(16, 16), Autotuner(BufferPool())
    chooser.kernel(weights, 8, 8, transposed=False)
    chooser.pin(dict.fromkeys(chooser.names, "of another machine"))
    for ask in (chooser.name, chooser.kernel):
        with pytest.raises(CheckpointError, match=r"'of another machine'.*anew"):
            ask(weights, 8, 8, transposed=False)


def test_scratch_is_used_again_and_grows() -> None:
    scratch = BufferPool()
    assert scratch.bytes == 0
    first = scratch.get("a", (4, 6))
    assert (first.shape, first.dtype, first.is_contiguous()) == ((4, 6), torch.float32, True)
    first.fill_(3)
    smaller = scratch.get("a", (2, 5))
    assert smaller.data_ptr() == first.data_ptr()
    assert torch.equal(smaller, torch.full((2, 5), 3.0))
    assert scratch.bytes == 4 * 24
    larger = scratch.get("a", (5, 6))
    assert larger.numel() == 30
    assert scratch.bytes == 4 * 30  # the smaller one is gone
    assert scratch.get("a", (4, 6)).data_ptr() == larger.data_ptr()
    other, bits = scratch.get("b", (4,)), scratch.get("a", (4,), torch.bool)
    assert len({larger.data_ptr(), other.data_ptr(), bits.data_ptr()}) == 3
    assert scratch.bytes == 4 * 30 + 4 * 4 + 4
    scratch.clear()
    assert scratch.bytes == 0


def test_a_growing_buffer_lets_the_old_one_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = BufferPool()
    gone = weakref.ref(scratch.get("a", (8,))._base)
    alive_then = []

    def empty(*shape: Any, **options: Any) -> Tensor:
        alive_then.append(gone() is not None)
        return torch.zeros(*shape, **options)

    monkeypatch.setattr(torch, "empty", empty)
    scratch.get("a", (16,))
    assert alive_then == [False]


class Pretended:
    """A kernel that computes nothing and takes its time over it."""

    multiple = 1
    rounded = None
    windowed = False
    applied: dict[str, int]

    def __init__(self, name: str, seconds: float, applied: dict[str, int]) -> None:
        self.name = name
        self.seconds = seconds
        self.applied = applied

    def apply(self, band: Tensor, out: Tensor, bias: Tensor | None) -> None:
        self.applied[self.name] = self.applied.get(self.name, 0) + 1
        time.sleep(self.seconds)


class Machine:
    """A machine on which one algorithm is quick."""

    def __init__(self) -> None:
        self.seconds = {"tortoise": 0.03, "hare": 0.0, "snail": 0.03}
        self.made: list[weakref.ref[Pretended]] = []
        self.applied: dict[str, int] = {}

    def candidates(self, *_: Any, **__: Any) -> dict[str, Callable[[], Pretended]]:
        def make(name: str) -> Pretended:
            found = Pretended(name, self.seconds[name], self.applied)
            self.made.append(weakref.ref(found))
            return found

        return {name: lambda name=name: make(name) for name in self.seconds}

    def alive(self) -> list[str]:
        gc.collect()
        return [found.name for each in self.made if (found := each()) is not None]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which nothing was measured."""
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def machine(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(choice, "candidates", made.candidates)
    monkeypatch.setattr(choice, "_REPEATS", 5)
    return made


WIDE = filter_of(16, 32)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"direct": 3.0, "winograd": 1.0, "fused": 1.09}, "fused"),
        ({"direct": 3.0, "winograd": 1.0, "fused": 1.2}, "winograd"),
        ({"direct": 1.0, "winograd": 1.05}, "direct"),
    ],
)
def test_compiled_loops_are_taken_where_they_are_about_as_quick(
    seconds: dict[str, float], chosen: str
) -> None:
    assert choice._quickest(seconds) == chosen


def test_the_quickest_is_measured_once(machine: Machine) -> None:
    chooser = Autotuner(BufferPool())
    name, kernel = chooser.kernel(WIDE, 8, 8, transposed=False)
    assert name == "hare"
    # Each takes its turn, but for those that turned out to be far slower.
    assert machine.applied == {"tortoise": 2, "hare": choice._REPEATS + 1, "snail": 2}
    before = dict(machine.applied)
    for _ in range(3):
        assert chooser.kernel(WIDE, 8, 8, transposed=False) == ("hare", kernel)
    assert machine.applied == before


def test_what_was_measured_is_remembered_and_not_measured_again(
    machine: Machine, cache: Path
) -> None:
    Autotuner(BufferPool(), key="this machine").kernel(WIDE, 8, 8, transposed=False)
    (seconds,) = json.loads((cache / "kernels.json").read_text()).values()
    assert set(seconds) == {"tortoise", "hare", "snail"}
    assert seconds["hare"] < 0.004 <= min(seconds["tortoise"], seconds["snail"])
    machine.applied.clear()
    machine.made.clear()
    again, _ = Autotuner(BufferPool(), key="this machine").kernel(WIDE, 8, 8, transposed=False)
    assert again == "hare"
    assert machine.applied == {}
    assert machine.alive() in ([], ["hare"])
    assert len(machine.made) == 1


def test_what_is_remembered_is_believed(machine: Machine, cache: Path) -> None:
    """A machine that was busy once paints the same picture the next time."""
    Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    path = cache / "kernels.json"
    (key,) = json.loads(path.read_text())
    path.write_text(json.dumps({key: {"tortoise": 1, "hare": 3, "snail": 2}}))
    machine.applied.clear()
    name, _ = Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    assert (name, machine.applied) == ("tortoise", {})


def test_compiled_loops_are_not_loaded_for_the_name_of_what_is_known(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def works() -> bool:
        asked.append(True)
        return len(asked) < 2

    monkeypatch.setattr(kernels, "fused_works", works)
    at = {"weights": WIDE, "rows": 8, "columns": 8, "transposed": False, "large": True}
    key = Autotuner(BufferPool())._key_of(**at)
    seconds = {"direct": 2.0, "winograd": 1.0, "fused": 0.5}
    if kernels.nnpack_works():
        seconds["nnpack"] = 3.0
    cache.mkdir()
    (cache / "kernels.json").write_text(json.dumps({key: seconds}))
    chooser = Autotuner(BufferPool())
    assert chooser.name(**at) == "fused"
    assert not asked
    name, kernel = chooser.kernel(**at)
    assert (name, type(kernel)) == ("fused", fused.Winograd6x6)
    assert asked
    # A machine on which they work no longer measures what is left.
    other = Autotuner(BufferPool())
    assert other.name(**at) == "fused"
    name, _ = other.kernel(**at)
    assert name != "fused"
    assert other.name(**at) == name
    # Whoever began with them does not go on with others.
    for chooser in (other, Autotuner(BufferPool())):
        chooser.pin({key: "fused"})
        for ask in (chooser.name, chooser.kernel):
            with pytest.raises(CheckpointError, match="'fused'"):
                ask(**at)
    assert "fused" not in json.loads((cache / "kernels.json").read_text())[key]


def test_the_name_of_what_is_not_known_is_measured(machine: Machine) -> None:
    chooser = Autotuner(BufferPool())
    assert chooser.name(WIDE, 8, 8, transposed=False) == "hare"
    assert machine.applied
    machine.applied.clear()
    assert chooser.kernel(WIDE, 8, 8, transposed=False)[0] == "hare"
    assert Autotuner(BufferPool()).name(WIDE, 8, 8, transposed=False) == "hare"
    assert machine.applied == {}


def test_each_shape_way_and_machine_is_measured_by_itself(machine: Machine, cache: Path) -> None:
    def measures(chooser: Autotuner, weights: Filter, *size: int, transposed: bool = False) -> bool:
        machine.applied.clear()
        chooser.kernel(weights, *size, transposed=transposed)
        return bool(machine.applied)

    chooser = Autotuner(BufferPool())
    assert measures(chooser, WIDE, 8, 8)
    assert not measures(chooser, WIDE, 7, 9)  # about as many pixels
    assert measures(chooser, WIDE, 16, 16)
    assert measures(chooser, WIDE, 8, 8, transposed=True)
    assert measures(chooser, filter_of(32, 32), 8, 8)
    assert not measures(chooser, filter_of(16, 32), 8, 8)
    assert measures(chooser, WIDE, 100, 100)
    assert not measures(chooser, WIDE, 200, 200)  # they keep their order from there on
    assert measures(Autotuner(BufferPool(), key="another machine"), WIDE, 8, 8)
    assert len(json.loads((cache / "kernels.json").read_text())) == 6


def test_another_choice_of_algorithms_is_measured_again(machine: Machine) -> None:
    Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    machine.seconds = {"tortoise": 0.004, "cheetah": 0.0}
    machine.applied.clear()
    name, _ = Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    assert name == "cheetah"
    assert set(machine.applied) == {"tortoise", "cheetah"}


def test_one_algorithm_alone_is_not_measured(machine: Machine, cache: Path) -> None:
    machine.seconds = {"tortoise": 1.0}
    name, _ = Autotuner(BufferPool()).kernel(WIDE, 8, 8, transposed=False)
    assert (name, machine.applied) == ("tortoise", {})
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_only_costs_the_measurement(
    machine: Machine, cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    chooser = Autotuner(BufferPool())
    assert chooser.kernel(WIDE, 8, 8, transposed=False)[0] == "hare"
    machine.applied.clear()
    assert chooser.kernel(WIDE, 8, 8, transposed=False)[0] == "hare"
    assert machine.applied == {}


def test_what_lost_is_not_kept_in_memory(machine: Machine) -> None:
    chooser = Autotuner(BufferPool())
    chooser.kernel(WIDE, 8, 8, transposed=False)
    chooser.kernel(WIDE, 8, 8, transposed=True)
    assert machine.alive() == ["hare", "hare"]


@pytest.mark.usefixtures("cache")
def test_transformed_weights_of_a_winograd_that_lost_both_ways_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are four times as large as the weights themselves."""
    transformed: list[weakref.ref[Tensor]] = []

    def transform(weight: Tensor) -> Tensor:
        found = transform_weight(weight)
        transformed.append(weakref.ref(found))
        return found

    def slowly(*_: Any) -> None:
        time.sleep(0.02)

    monkeypatch.setattr(filter_module, "transform_weight", transform)
    monkeypatch.setattr(kernels.Winograd4x4, "apply", slowly)
    chooser, weights = Autotuner(BufferPool()), filter_of(16, 32)
    for transposed in (False, True):
        name, _ = chooser.kernel(weights, 8, 8, transposed=transposed)
        assert name != "winograd"
    gc.collect()
    assert transformed
    assert all(each() is None for each in transformed)


@pytest.mark.usefixtures("cache")
def test_chosen_kernels_are_made_once() -> None:
    chooser = Autotuner(BufferPool())
    for transposed in (False, True):
        _, first = chooser.kernel(WIDE, 8, 8, transposed=transposed)
        _, second = chooser.kernel(WIDE, 8, 8, transposed=transposed)
        assert first is second


@pytest.mark.usefixtures("cache")
def test_measuring_leaves_the_weights_as_they_are() -> None:
    weights = filter_of(16, 32)
    before = weights.weight.clone(), weights.bias.clone()
    Autotuner(BufferPool()).kernel(weights, 9, 9, transposed=True)
    assert torch.equal(weights.weight, before[0])
    assert torch.equal(weights.bias, before[1])
