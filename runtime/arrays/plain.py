"""Operations on NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PlainArrays"]

_SHARPNESS = -0.75
"""Parameter a of the cubic kernel (Keys, 1981), as in torch."""

_CHUNK = 1 << 13
"""Numbers in one chunk of a long sum in single precision."""
# OpenBLAS divides larger ones among threads, and their number would affect the last bit.


@dataclass(frozen=True)
class PlainArrays:
    """:class:`Arrays` in NumPy."""

    def from_numpy(self, values: NDArray[Any], like: NDArray[Any] | None = None) -> NDArray[Any]:
        dtype = values.dtype if like is None else like.dtype
        return np.array(values, dtype=dtype, order="C")

    def to_numpy(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.array(array, order="C")

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy()

    def contiguous(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array)

    def empty(self, shape: Sequence[int], like: NDArray[Any]) -> NDArray[Any]:
        return np.empty(shape, _single_for_half(like))

    def buffer(self, shape: Sequence[int], *, half: bool = False) -> NDArray[Any]:
        return np.empty(shape, np.float16 if half else np.float32)

    def zeros(self, shape: Sequence[int], like: NDArray[Any]) -> NDArray[Any]:
        return np.zeros(shape, _single_for_half(like))

    def upcast_half(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.astype(_single_for_half(array), copy=False)

    def add_scaled(self, total: NDArray[Any], other: NDArray[Any], factor: Any) -> None:
        total += other * total.dtype.type(factor)

    def dot(self, one: NDArray[Any], other: NDArray[Any]) -> Any:
        return one.dtype.type(_dot(one, other))

    def sum_of_squares(self, array: NDArray[Any]) -> Any:
        return _dot(array, array)

    def to_double(self, array: Any) -> Any:
        return np.asarray(array, np.float64)[()]

    def cast(self, array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
        return array.astype(like.dtype, copy=False)

    def eigh(self, matrix: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors

    def stack(self, numbers: Sequence[Any], like: NDArray[Any]) -> NDArray[np.float64]:
        return np.array(numbers, np.float64)

    def clamp_min(self, array: Any, least: float) -> Any:
        return np.maximum(array, least)

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        return np.where(condition, one, other)

    def sqrt(self, array: Any) -> Any:
        return np.sqrt(array)

    def clamp(self, array: NDArray[Any]) -> None:
        np.clip(array, 0, 1, out=array)

    def add_gram(self, total: NDArray[Any], flat: NDArray[Any]) -> None:
        total += flat @ flat.T

    def add_matmul(self, total: NDArray[Any], factor: NDArray[Any], flat: NDArray[Any]) -> None:
        total += (factor @ flat).reshape(total.shape)

    def filter_spectrum(self, array: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        spectrum = np.fft.rfft2(array)
        spectrum *= weights
        return np.fft.irfft2(spectrum, s=array.shape[-2:]).astype(array.dtype, copy=False)

    def resize_bicubic(self, array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        return _interpolate(_interpolate(array, height, axis=2), width, axis=3)


def _dot(one: NDArray[Any], other: NDArray[Any]) -> np.float64:
    """The dot product, added in double precision over chunks in single precision: one long sum in
    single precision has a hundred times the rounding error."""
    one, other = one.ravel(), other.ravel()
    total = np.float64(0)
    for start in range(0, one.size, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        total += np.float64(np.dot(one[chunk], other[chunk]))
    return total


def _single_for_half(array: NDArray[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if array.dtype == np.float16 else array.dtype


def _interpolate(array: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """Resize along one axis by Keys' cubic kernel over the four nearest values; values beyond the
    edge equal that at the edge."""
    old_length = array.shape[axis]
    positions = (np.arange(length) + 0.5) * (old_length / length) - 0.5
    first = np.floor(positions).astype(int)
    fraction = positions - first
    shape = [1] * array.ndim
    shape[axis] = length
    result = np.zeros((*array.shape[:axis], length, *array.shape[axis + 1 :]), array.dtype)
    for offset in range(-1, 3):
        index = np.clip(first + offset, 0, old_length - 1)
        weight = _cubic_kernel(np.abs(fraction - offset)).astype(array.dtype).reshape(shape)
        result += array.take(index, axis) * weight
    return result


def _cubic_kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    a, x = _SHARPNESS, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
