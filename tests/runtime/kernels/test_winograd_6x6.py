"""F(6x6, 3x3): exact transforms, shared tiles, implicit padding and threads."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import Filter, winograd_6x6
from nstrt.runtime.kernels.convolution.winograd_4x4 import weight_matrix
from nstrt.runtime.kernels.convolution.winograd_6x6 import Winograd6x6
from nstrt.runtime.kernels.convolution.winograd_6x6_layout import count_strips
from nstrt.runtime.kernels.convolution.winograd_6x6_transforms import (
    input_transform,
    output_transform,
    weight_transform,
)

from support.convolution import apply_kernel, correlate, make_filter, noise, reference_convolution
from support.errors import relative_error


def make_kernel(weights: Filter, *, transposed: bool, buffers: BufferPool) -> Winograd6x6:
    return Winograd6x6(weights.directed_weight(transposed=transposed), buffers)


@given(
    st.lists(st.integers(-9, 9), min_size=8, max_size=8),
    st.lists(st.integers(-9, 9), min_size=3, max_size=3),
)
@settings(max_examples=30)
def test_compiled_formulas_are_exact_winograd_transforms(
    values: list[int], weights: list[int]
) -> None:
    """On integers, whose products with halves and quarters are exact in double precision."""
    matrix = weight_matrix(winograd_6x6.POINTS) * np.array(winograd_6x6.FACTORS)[:, None]
    transformed = matrix @ np.array(list(map(Fraction, weights)))
    at_points = [Fraction(value) for value in input_transform(list(map(float, values)))]
    exact = correlate(list(map(Fraction, values)), list(map(Fraction, weights)))
    products = [weight * value for weight, value in zip(transformed, at_points, strict=True)]
    # Products with denominator 45 are not exact floats. The transform is linear, so it is applied
    # to unit vectors, and the sum is taken in fractions.
    units = np.array([output_transform([float(i == j) for j in range(8)]) for i in range(8)])
    result = [
        sum((Fraction(units[i][k]) * products[i] for i in range(8)), start=Fraction(0))
        for k in range(6)
    ]
    assert result == exact

    # The weight transform has ninths, so it is exact up to double precision.
    assert weight_transform(list(map(float, weights))) == pytest.approx(
        list(map(float, transformed)), abs=1e-14
    )


@pytest.mark.parametrize(("inputs", "outputs"), [(136, 128), (40, 300), (512, 80)])
@pytest.mark.parametrize("transposed", [False, True])
def test_weights_transformed_on_the_fly_serve_several_groups_of_blocks(
    inputs: int, outputs: int, transposed: bool
) -> None:
    """More tiles than one group, and more channels than stay in the cache."""
    assert count_strips(60, 163) > 2 * winograd_6x6._MAX_BLOCKS
    weights, buffers = make_filter(inputs, outputs), BufferPool()
    kernel = make_kernel(weights, transposed=transposed, buffers=buffers)
    if transposed:
        inputs, outputs = outputs, inputs
    values = noise(inputs, 62, 165)
    result = apply_kernel(kernel, values, buffers, outputs=outputs)
    expected = reference_convolution(values, weights.weight, transposed=transposed)
    assert relative_error(result, expected) < 1e-5


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
def test_window_is_padded_with_zeros_outside_of_the_plane(
    rows: int, columns: int, top: int, left: int, height: int, width: int, transposed: bool
) -> None:
    weights = make_filter(5, 6)
    kernel = make_kernel(weights, transposed=transposed, buffers=BufferPool())
    inputs, outputs = (6, 5) if transposed else (5, 6)
    # NaN around the plane in memory must not be read.
    memory = torch.full((inputs, rows + 2, columns + 2), torch.nan)
    plane = memory[:, 1:-1, 1:-1]
    plane.copy_(noise(inputs, rows, columns))
    padded = functional.pad(plane, (100, 200, 100, 200))
    window = padded[:, 100 + top : 102 + top + height, 100 + left : 102 + left + width]
    out = torch.full((outputs, height, width), torch.nan)
    kernel.window(plane, top, left, out, None)
    expected = reference_convolution(window, weights.weight, transposed=transposed)
    assert not out.isnan().any()
    assert float((out - expected).abs().max()) < 1e-4
    rectified = torch.full((outputs, height, width), torch.nan)
    kernel.window(plane, top, left, rectified, None, rectified=True)
    assert torch.equal(rectified, out.relu())


@pytest.mark.parametrize("threads", [1, 2, 3, 7], indirect=True)
@pytest.mark.parametrize("channels", [16, 130], ids=["own buffers", "shared buffers"])
def test_threads_give_the_same_bits_in_each_run(channels: int, threads: int) -> None:
    weights, buffers = make_filter(channels, channels), BufferPool()
    values = noise(channels, 62, 165)
    expected = reference_convolution(values, weights.weight, transposed=False)
    kernel = make_kernel(weights, transposed=False, buffers=buffers)
    first = apply_kernel(kernel, values, buffers, outputs=channels).clone()
    assert relative_error(first, expected) < 1e-5
    for _ in range(5):
        assert torch.equal(apply_kernel(kernel, values, buffers, outputs=channels), first)
