"""NumPy's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PlainArrays"]

_SHARPNESS = -0.75
"""The cubic kernel's parameter a (Keys, 1981), as torch has it."""

_PIECE = 1 << 13
"""Numbers of a piece of a long sum in single precision: so few that OpenBLAS does not share them
among threads, on whose number the order of the sum, and with it the last bit, would depend."""


@dataclass(frozen=True)
class PlainArrays:
    """See :class:`Arrays`."""

    def place(self, values: NDArray[Any], like: NDArray[Any] | None = None) -> NDArray[Any]:
        dtype = values.dtype if like is None else like.dtype
        return np.array(values, dtype=dtype, order="C")

    def fetch(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.array(array, order="C")

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy()

    def packed(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array)

    def empty(self, shape: Sequence[int], like: NDArray[Any]) -> NDArray[Any]:
        return np.empty(shape, _wide(like))

    def buffer(self, shape: Sequence[int], *, half: bool = False) -> NDArray[Any]:
        return np.empty(shape, np.float16 if half else np.float32)

    def zeros(self, shape: Sequence[int], like: NDArray[Any]) -> NDArray[Any]:
        return np.zeros(shape, _wide(like))

    def single(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.astype(_wide(array), copy=False)

    def add(self, total: NDArray[Any], other: NDArray[Any], factor: Any) -> None:
        total += other * total.dtype.type(factor)

    def dot(self, one: NDArray[Any], other: NDArray[Any]) -> Any:
        return one.dtype.type(_product(one, other))

    def energy(self, array: NDArray[Any]) -> Any:
        return _product(array, array)

    def double(self, number: Any) -> Any:
        return np.float64(number)

    def stack(self, numbers: Sequence[Any], like: NDArray[Any]) -> NDArray[np.float64]:
        return np.array(numbers, np.float64)

    def at_least(self, array: Any, least: float) -> Any:
        return np.maximum(array, least)

    def choose(self, condition: Any, one: Any, other: Any) -> Any:
        return np.where(condition, one, other)

    def root(self, array: Any) -> Any:
        return np.sqrt(array)

    def clamp(self, array: NDArray[Any]) -> None:
        np.clip(array, 0, 1, out=array)

    def add_product(self, total: NDArray[Any], flat: NDArray[Any]) -> None:
        total += flat @ flat.T

    def add_gram_gradient(
        self, gradient: NDArray[Any], factor: NDArray[Any], flat: NDArray[Any]
    ) -> None:
        gradient += (factor @ flat).reshape(gradient.shape)

    def filtered(self, array: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        spectrum = np.fft.rfft2(array)
        spectrum *= weights
        return np.fft.irfft2(spectrum, s=array.shape[-2:]).astype(array.dtype, copy=False)

    def resized(self, array: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        return _interpolated(_interpolated(array, height, 2), width, 3)


def _product(one: NDArray[Any], other: NDArray[Any]) -> np.float64:
    """The sum of all products, piece by piece: one long sum in single precision would round a
    hundred times as much."""
    one, other = one.ravel(), other.ravel()
    total = np.float64(0)
    for start in range(0, one.size, _PIECE):
        piece = slice(start, start + _PIECE)
        total += np.float64(np.dot(one[piece], other[piece]))
    return total


def _wide(array: NDArray[Any]) -> np.dtype[Any]:
    return np.dtype(np.float32) if array.dtype == np.float16 else array.dtype


def _interpolated(array: NDArray[Any], length: int, axis: int) -> NDArray[Any]:
    """Along one axis, by Keys' cubic kernel over the four nearest values; beyond the edge it goes
    on as it is there."""
    given = array.shape[axis]
    places = (np.arange(length) + 0.5) * (given / length) - 0.5
    first = np.floor(places).astype(int)
    rest = places - first
    shape = [1] * array.ndim
    shape[axis] = length
    found = np.zeros((*array.shape[:axis], length, *array.shape[axis + 1 :]), array.dtype)
    for offset in range(-1, 3):
        near = np.clip(first + offset, 0, given - 1)
        share = _cubic(np.abs(rest - offset)).astype(array.dtype).reshape(shape)
        found += array.take(near, axis) * share
    return found


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    a, x = _SHARPNESS, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
