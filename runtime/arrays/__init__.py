"""What loop, losses and optimisers do with pictures, for NumPy arrays and torch tensors alike.

Both kinds share operators, slices and in-place arithmetic. What they do not share is here, so that
the formulas are written once: ``arrays.plain`` does it with NumPy, for machines
without torch, and ``arrays.tensors`` with torch, on the processor or a card.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays.plain import PlainArrays

__all__ = ["Array", "Arrays", "PlainArrays", "arrays_of", "bands_of", "row_bands"]

Array = Any
"""A NumPy array or a torch tensor."""

_BAND = 1 << 22
"""Numbers of a band of a picture: 17 MB."""


class Arrays(Protocol):
    """One kind of array, in one place: the processor's memory, or a card's."""

    def place(self, values: NDArray[Any], like: Array | None = None) -> Array:
        """A copy of a NumPy array there, with the number format of ``like``, or its own."""

    def fetch(self, array: Array) -> NDArray[Any]:
        """A copy as a NumPy array."""

    def copy(self, array: Array) -> Array:
        """A copy of its own."""

    def packed(self, array: Array) -> Array:
        """The same in one piece of memory, copied only if it is not."""

    def empty(self, shape: Sequence[int], like: Array) -> Array:
        """Memory for an array in the number format of ``like``; single precision for half."""

    def buffer(self, shape: Sequence[int], *, half: bool = False) -> Array:
        """Contiguous memory for an array in single precision, or in half."""

    def zeros(self, shape: Sequence[int], like: Array) -> Array:
        """The same, filled with zeros."""

    def single(self, array: Array) -> Array:
        """In single precision, if it is in half; else as it is."""

    def add(self, total: Array, other: Array, factor: Any) -> None:
        """total += factor * other, where it lies."""

    def dot(self, one: Array, other: Array) -> Array:
        """The sum of all products, as one number in the arrays' own precision, where it is
        computed: nothing waits for a card."""

    def energy(self, array: Array) -> Array:
        """The sum of all squares, added up in double precision, as one number."""

    def double(self, number: Array) -> Array:
        """A number in double precision."""

    def stack(self, numbers: Sequence[Array], like: Array) -> Array:
        """Numbers, some of which may be Python's, as one array in double precision."""

    def at_least(self, array: Array, least: float) -> Array:
        """The larger of each value and ``least``."""

    def choose(self, condition: Array, one: Array, other: Array | float) -> Array:
        """``one`` where the condition holds, else ``other``."""

    def root(self, array: Array) -> Array:
        """Square roots."""

    def clamp(self, array: Array) -> None:
        """Bring values into 0..1, where they lie."""

    def add_product(self, total: Array, flat: Array) -> None:
        """total += F F' for F of channels x positions, where it lies."""

    def add_pull(self, gradient: Array, pull: Array, flat: Array) -> None:
        """gradient += D F, where it lies, for F of channels x positions; the gradient is channels
        x rows x columns."""

    def filtered(self, array: Array, weights: Array) -> Array:
        """F^-1 diag(weights) F of an array, for the Fourier transform F along its last two axes;
        ``weights`` are rows x (columns / 2 + 1), as real transforms have them."""

    def resized(self, array: Array, height: int, width: int) -> Array:
        """1 x channels x height x width by bicubic interpolation (a = -0.75)."""


def arrays_of(array: Array) -> Arrays:
    """Who computes with arrays of this kind, where this one lies."""
    if isinstance(array, (np.ndarray, np.generic)):
        return PlainArrays()
    from nstrt.runtime.arrays.tensors import TensorArrays

    return TensorArrays(array.device)


def bands_of(image: Array) -> Iterator[slice]:
    """Rows of an image, 1 x 3 x height x width, so few at once that what is computed of them takes
    no memory to speak of beside the image; a picture of 1.4 megapixels is one band."""
    height, width = image.shape[-2:]
    return row_bands(height, max(1, _BAND // (3 * width)))


def row_bands(rows: int, band: int) -> Iterator[slice]:
    """Slices of ``band`` rows that together are ``rows`` rows; the last one may be smaller."""
    for top in range(0, rows, band):
        yield slice(top, min(rows, top + band))
