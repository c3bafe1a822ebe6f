"""Convolution algorithms against double precision and autograd, and the list of candidates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nstrt.runtime.kernels import compiled
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import Filter, Kernel, algorithms
from nstrt.runtime.kernels.convolution.algorithms import candidates
from nstrt.runtime.kernels.convolution.winograd_4x4 import Winograd4x4
from nstrt.runtime.kernels.convolution.winograd_6x6 import Winograd6x6

from support.convolution import apply_kernel, make_filter, noise, reference_convolution
from support.errors import relative_error

SIZES = [(4, 4), (8, 12), (1, 1), (5, 7), (3, 18), (19, 22), (4, 41)]
CHANNELS = [(16, 16), (24, 40), (40, 20), (3, 20), (20, 3)]


def all_algorithms() -> list[tuple[str, str, tuple[int, int], bool, float]]:
    """Precision, name, channels, direction and largest error of each algorithm that applies."""
    cases = []
    for (inputs, outputs), transposed in product(CHANNELS, (False, True)):
        for precision in ("fp32", "bf16", "fp16"):
            makers = candidates(
                make_filter(inputs, outputs),
                BufferPool(),
                transposed=transposed,
                precision=precision,
                large=True,
            )
            tolerance = 1e-5 if precision == "fp32" else 1e-2
            cases += [
                (precision, name, (inputs, outputs), transposed, tolerance)
                for name in makers
                if precision == "fp32" or name in ("bf16", "fp16")
            ]
    return cases


ALL_ALGORITHMS = pytest.mark.parametrize(
    ("precision", "name", "channels", "transposed", "tolerance"), all_algorithms()
)


@pytest.mark.parametrize("biased", [False, True])
@ALL_ALGORITHMS
def test_algorithm_computes_the_convolution(
    precision: str,
    name: str,
    channels: tuple[int, int],
    transposed: bool,
    tolerance: float,
    biased: bool,
) -> None:
    weights, buffers = make_filter(*channels), BufferPool()
    inputs, outputs = channels[::-1] if transposed else channels
    makers = candidates(weights, buffers, transposed=transposed, precision=precision, large=True)
    kernel = makers[name]()
    bias = noise(outputs, 1, 1, seed=4) if biased else None
    for rows, columns in SIZES:
        values = noise(inputs, rows + 2, columns + 2, seed=rows)
        expected = reference_convolution(values, weights.weight, transposed=transposed)
        result = apply_kernel(
            kernel,
            values,
            buffers,
            outputs=outputs,
            bias=None if bias is None else bias.float(),
        )
        expected = expected if bias is None else expected + bias
        assert relative_error(result, expected) < tolerance, (rows, columns)


@ALL_ALGORITHMS
def test_algorithm_writes_only_its_output(
    precision: str, name: str, channels: tuple[int, int], transposed: bool, tolerance: float
) -> None:
    weights, buffers = make_filter(*channels), BufferPool()
    inputs, outputs = channels[::-1] if transposed else channels
    makers = candidates(weights, buffers, transposed=transposed, precision=precision, large=True)
    kernel = makers[name]()
    for (rows, columns), (left, right) in product([(8, 12), (5, 7)], [(0, 0), (4, 1)]):
        plane = torch.full((outputs, rows + 7, left + columns + right), torch.nan)
        out = plane[:, 4 : 4 + rows, left : left + columns]
        values = noise(inputs, rows + 2, columns + 2)
        apply_kernel(kernel, values, buffers, outputs=outputs, out=out)
        expected = reference_convolution(values, weights.weight, transposed=transposed)
        assert relative_error(out, expected) < tolerance
        out.fill_(torch.nan)
        assert bool(plane.isnan().all())


def winograd_4x4(weights: Filter, buffers: BufferPool, *, transposed: bool) -> Kernel:
    return Winograd4x4(weights.winograd_weight(), buffers, transposed=transposed)


def winograd_6x6(weights: Filter, buffers: BufferPool, *, transposed: bool) -> Kernel:
    return Winograd6x6(weights.directed_weight(transposed=transposed), buffers)


@pytest.mark.parametrize("make", [winograd_4x4, winograd_6x6])
@given(
    rows=st.integers(1, 14),
    columns=st.integers(1, 60),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    transposed=st.booleans(),
    biased=st.booleans(),
)
@settings(max_examples=60)
def test_winograd_computes_the_convolution_at_any_size(
    make: Callable[..., Kernel],
    rows: int,
    columns: int,
    inputs: int,
    outputs: int,
    transposed: bool,
    biased: bool,
) -> None:
    weights, buffers = make_filter(inputs, outputs), BufferPool()
    kernel = make(weights, buffers, transposed=transposed)
    if transposed:
        inputs, outputs = outputs, inputs
    bias = noise(outputs, 1, 1, seed=4) if biased else torch.zeros(outputs, 1, 1).double()
    values = noise(inputs, rows + 2, columns + 2)
    kernel_bias = bias.float() if biased else None
    result = apply_kernel(kernel, values, buffers, outputs=outputs, bias=kernel_bias)
    expected = reference_convolution(values, weights.weight, transposed=transposed) + bias
    # Sums over few channels may cancel.
    assert relative_error(result, expected) < 1e-4


@pytest.mark.parametrize("kind", [algorithms.Bfloat16, algorithms.Float16])
@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_reduced_precision_handles_extreme_magnitudes(
    kind: type[algorithms.Bfloat16 | algorithms.Float16], scale: float
) -> None:
    """Gradients of means over a million positions are tiny."""
    weights, buffers = make_filter(16, 16), BufferPool()
    values = noise(16, 10, 10) * scale
    result = apply_kernel(kind(weights.weight), values, buffers, outputs=16)
    expected = reference_convolution(values, weights.weight, transposed=False)
    assert relative_error(result, expected) < 1e-2


@pytest.mark.parametrize("kind", [algorithms.Bfloat16, algorithms.Float16, algorithms.Direct])
def test_zero_input_gives_zero_output(kind: Callable[[Tensor], Kernel]) -> None:
    kernel = kind(make_filter(16, 16).weight)
    result = apply_kernel(kernel, torch.zeros(16, 6, 6), BufferPool(), outputs=16)
    assert torch.equal(result, torch.zeros(16, 4, 4))


@pytest.mark.parametrize("transposed", [False, True])
def test_candidates_depend_on_channels_precision_and_size(
    transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(weights: Filter, precision: str = "fp32", *, large: bool = False) -> set[str]:
        makers = candidates(
            weights, BufferPool(), transposed=transposed, precision=precision, large=large
        )
        return set(makers)

    wide, narrow = make_filter(16, 32), make_filter(3, 64)
    assert names(wide) == {"direct", "winograd4x4"}
    assert names(narrow) == {"direct", "im2col"}
    for works in (True, False):
        monkeypatch.setattr(algorithms, "winograd_6x6_works", lambda works=works: works)
        more = {"winograd6x6"} if works else set()
        assert names(wide, large=True) == names(wide) | more
        assert names(narrow, large=True) == names(narrow) | more
        assert names(wide, "bf16", large=True) == {"bf16"}
    assert names(wide, "bf16") == {"bf16"}
    assert names(narrow, "bf16") == {"direct", "im2col"}
    assert names(wide, "fp16") == names(narrow, "fp16") == {"fp16"}
    assert names(make_filter(16, 32, torch.float64)) == {"direct"}
    assert names(make_filter(3, 64, torch.float64)) == {"direct"}


def test_float64_convolution_keeps_double_precision() -> None:
    weights, buffers = make_filter(16, 24, torch.float64), BufferPool()
    for transposed, (inputs, outputs) in ((False, (16, 24)), (True, (24, 16))):
        kernel = candidates(weights, buffers, transposed=transposed)["direct"]()
        values = noise(inputs, 7, 9)
        out = torch.empty(outputs, 5, 7, dtype=torch.float64)
        kernel.apply(values, out, None)
        expected = reference_convolution(values, weights.weight, transposed=transposed)
        assert relative_error(out, expected) < 1e-14


@pytest.mark.usefixtures("uncached_self_tests")
def test_wrong_or_failing_compiled_convolution_is_no_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    makers = candidates(make_filter(16, 16), BufferPool(), transposed=False, large=True)
    assert "winograd6x6" in makers

    def fail(*_: object, **__: object) -> None:
        raise ValueError("an error of LLVM")

    def fill(self: Winograd6x6, source: Tensor, top: int, left: int, out: Tensor, *_: Any) -> None:
        out.fill_(1)

    for wrong in (lambda *arguments, rectified: fill(*arguments), fail):
        compiled.load_compiled.cache_clear()
        monkeypatch.setattr(Winograd6x6, "window", wrong)
        makers = candidates(make_filter(16, 16), BufferPool(), transposed=False, large=True)
        assert "winograd6x6" not in makers


@pytest.mark.usefixtures("uncached_self_tests")
def test_compiled_convolution_is_no_candidate_without_numba(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    makers = candidates(make_filter(16, 16), BufferPool(), transposed=False, large=True)
    assert "winograd6x6" not in makers
