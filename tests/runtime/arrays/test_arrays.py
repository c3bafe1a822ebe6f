"""Operations on NumPy arrays and torch tensors: both kinds compute equal values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nstrt.runtime.arrays import Arrays, PlainArrays
from nstrt.runtime.arrays.tensors import TensorArrays

PLAIN, TENSORS = PlainArrays(), TensorArrays(torch.device("cpu"))
VALUES = np.random.default_rng(1).random((1, 3, 9, 14), np.float32) - np.float32(0.5)
FLAT = VALUES.reshape(3, -1)
ARRAY, TENSOR = PLAIN.from_numpy(VALUES), TENSORS.from_numpy(VALUES)

each_kind = pytest.mark.parametrize("arrays", [PLAIN, TENSORS])


def assert_close(actual: Any, expected: Any) -> None:
    assert np.allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(13, 20), (18, 28), (9, 14), (10, 15)])
def test_bicubic_resizing_is_equal_for_both_kinds(size: tuple[int, int]) -> None:
    assert_close(PLAIN.resize_bicubic(ARRAY, *size), TENSORS.resize_bicubic(TENSOR, *size))


def test_filtering_the_spectrum_is_equal_for_both_kinds() -> None:
    weights = np.random.default_rng(2).random((9, 8))
    assert_close(
        PLAIN.filter_spectrum(ARRAY, PLAIN.from_numpy(weights, ARRAY)),
        TENSORS.filter_spectrum(TENSOR, TENSORS.from_numpy(weights, TENSOR)),
    )


def test_dot_product_and_sum_of_squares_are_equal_for_both_kinds() -> None:
    assert_close(PLAIN.dot(ARRAY, ARRAY), TENSORS.dot(TENSOR, TENSOR))
    assert_close(PLAIN.sum_of_squares(ARRAY), TENSORS.sum_of_squares(TENSOR))


def test_add_gram_adds_the_product_with_the_transpose() -> None:
    totals = PLAIN.zeros((3, 3), ARRAY), TENSORS.zeros((3, 3), TENSOR)
    PLAIN.add_gram(totals[0], FLAT)
    TENSORS.add_gram(totals[1], torch.from_numpy(FLAT))
    assert_close(*totals)
    assert_close(totals[0], FLAT.astype(np.float64) @ FLAT.T)


@each_kind
def test_add_scaled_and_clamp_work_in_place(arrays: Arrays) -> None:
    array = arrays.from_numpy(VALUES)
    arrays.add_scaled(array, array, 0.5)
    arrays.clamp(array)
    expected = np.clip(VALUES * 1.5, 0, 1).astype(np.float32)
    assert np.array_equal(arrays.to_numpy(array), expected)


@each_kind
def test_results_have_the_documented_number_format(arrays: Arrays) -> None:
    array = arrays.from_numpy(VALUES)
    half = arrays.buffer((2, 3), half=True)
    assert "float16" in str(half.dtype)
    assert "float32" in str(arrays.upcast_half(half).dtype)
    assert "float32" in str(arrays.empty((1,), half).dtype)
    assert "float64" in str(arrays.stack([0.0, arrays.dot(array, array)], array).dtype)
