"""Transforms of F(4x4, 3x3): exact matrices, and weights that both directions share."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import winograd_4x4
from nstrt.runtime.kernels.convolution.winograd_4x4 import Winograd4x4, transform_weight

from support.convolution import correlate, make_filter, noise
from support.errors import relative_error


@given(
    st.lists(st.fractions(-9, 9, max_denominator=9), min_size=6, max_size=6),
    st.lists(st.fractions(-9, 9, max_denominator=9), min_size=3, max_size=3),
)
@settings(max_examples=30)
def test_transforms_of_one_row_are_exact(values: list[Fraction], weights: list[Fraction]) -> None:
    points = winograd_4x4._POINTS
    transformed = winograd_4x4.weight_matrix(points) @ np.array(weights)
    at_points = winograd_4x4._input_matrix(points) @ np.array(values)
    result = winograd_4x4._output_matrix(points) @ (transformed * at_points)
    assert list(result) == correlate(values, weights)

    # At the reciprocal points, the same transformed weights are those of the flipped filter.
    points = tuple(map(winograd_4x4._reciprocal, points))
    outputs = winograd_4x4._output_matrix(points) * winograd_4x4._flip_factors()
    at_points = winograd_4x4._input_matrix(points) @ np.array(values)
    assert list(outputs @ (transformed * at_points)) == correlate(values, weights[::-1])


def test_weights_are_transformed_along_rows_and_columns() -> None:
    weight = noise(2, 3, 3, 3)
    matrix = torch.tensor(
        [
            [float(value) for value in row]
            for row in winograd_4x4.weight_matrix(winograd_4x4._POINTS)
        ],
        dtype=torch.float64,
    )
    expected = torch.einsum("ij,ocjk,lk->iloc", matrix, weight, matrix).reshape(36, 2, 3)
    assert relative_error(transform_weight(weight), expected) < 1e-6


def test_both_directions_share_transformed_weights() -> None:
    weights, buffers = make_filter(16, 32), BufferPool()
    forward, backward = (
        Winograd4x4(weights.winograd_weight(), buffers, transposed=transposed)
        for transposed in (False, True)
    )
    shared = weights.winograd_weight().data_ptr()
    assert forward._weight.data_ptr() == backward._weight.data_ptr() == shared
