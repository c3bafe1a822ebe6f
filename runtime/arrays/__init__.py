"""One interface to NumPy arrays and torch tensors, so that formulas are written once.

Both kinds share operators, slices and in-place arithmetic; :class:`Arrays` has the rest.
``arrays.plain`` implements it in NumPy, for machines without torch, and ``arrays.tensors`` in
torch, on the processor or a card.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.arrays.plain import PlainArrays

__all__ = ["Array", "Arrays", "Mask", "PlainArrays", "arrays_of", "bands_of", "row_bands"]

Array = Any
"""A NumPy array or a torch tensor."""

Mask = NDArray[np.float32]
"""Height x width, from 0 (outside) to 1 (inside)."""

_BAND = 1 << 22
"""Numbers in one band of a picture: 17 MB."""


class Arrays(Protocol):
    """Operations on one kind of array on one device."""

    def from_numpy(self, values: NDArray[Any], like: Array | None = None) -> Array:
        """Copy a NumPy array, in the number format of ``like`` or its own."""

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """Copy an array to NumPy."""

    def copy(self, array: Array) -> Array:
        """Copy an array."""

    def contiguous(self, array: Array) -> Array:
        """The array in contiguous memory; copied only if it is not."""

    def empty(self, shape: Sequence[int], like: Array) -> Array:
        """An uninitialised array in the number format of ``like``; single precision for half."""

    def buffer(self, shape: Sequence[int], *, half: bool = False) -> Array:
        """An uninitialised array in single precision, or in half; contiguous."""

    def zeros(self, shape: Sequence[int], like: Array) -> Array:
        """An array of zeros in the number format of ``like``; single precision for half."""

    def upcast_half(self, array: Array) -> Array:
        """Convert half precision to single; return any other array as it is."""

    def add_scaled(self, total: Array, other: Array, factor: Any) -> None:
        """total += factor * other, in place."""

    def dot(self, one: Array, other: Array) -> Array:
        """The dot product, as a scalar on the arrays' device in their own precision; does not wait
        for a card."""

    def sum_of_squares(self, array: Array) -> Array:
        """The sum of squares, added in double precision, as a scalar."""

    def to_double(self, array: Array) -> Array:
        """Convert an array or a scalar to double precision."""

    def cast(self, array: Array, like: Array) -> Array:
        """Convert to the number format of ``like``."""

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Eigenvalues, ascending, and eigenvectors, as columns, of a symmetric matrix."""

    def stack(self, numbers: Sequence[Array], like: Array) -> Array:
        """Stack scalars, which may be Python floats, into an array in double precision."""

    def clamp_min(self, array: Array, least: float) -> Array:
        """The maximum of each value and ``least``."""

    def where(self, condition: Array, one: Array, other: Array | float) -> Array:
        """``one`` where the condition holds, else ``other``."""

    def sqrt(self, array: Array) -> Array:
        """Square roots."""

    def clamp(self, array: Array) -> None:
        """Clamp values to 0..1, in place."""

    def add_gram(self, total: Array, flat: Array) -> None:
        """total += F F', in place, for F of channels x positions."""

    def add_matmul(self, total: Array, factor: Array, flat: Array) -> None:
        """total += D F, in place, for D of channels x channels and F of channels x positions;
        ``total`` is channels x rows x columns."""

    def filter_spectrum(self, array: Array, weights: Array) -> Array:
        """F^-1 diag(weights) F of an array, for the Fourier transform F along its last two axes.

        ``weights`` are rows x (columns / 2 + 1), as for a real transform.
        """

    def resize_bicubic(self, array: Array, height: int, width: int) -> Array:
        """Resize to 1 x channels x height x width by bicubic interpolation (a = -0.75)."""


def arrays_of(array: Array) -> Arrays:
    """The operations for this kind of array on its device."""
    if isinstance(array, (np.ndarray, np.generic)):
        return PlainArrays()
    from nstrt.runtime.arrays.tensors import TensorArrays

    return TensorArrays(array.device)


def bands_of(image: Array) -> Iterator[slice]:
    """Slices of rows of an image, 1 x 3 x height x width, of 17 MB each in single precision.

    Temporary arrays of one band then need little memory beside the image. An image of up to 1.4
    megapixels is one band.
    """
    height, width = image.shape[-2:]
    return row_bands(height, max(1, _BAND // (3 * width)))


def row_bands(rows: int, band: int) -> Iterator[slice]:
    """Divide ``rows`` rows into slices of ``band`` rows; the last one may be smaller."""
    for top in range(0, rows, band):
        yield slice(top, min(rows, top + band))
