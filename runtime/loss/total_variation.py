"""Total variation of an image and its gradient.

TV = mean squared difference of neighbours, right and below, image in 0..1
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from nstrt.runtime.arrays import Array, arrays_of, bands_of

__all__ = ["add_total_variation_gradient", "total_variation"]

_Index: TypeAlias = Any
"""Index of a part of an array."""


def total_variation(image: Array) -> Array:
    """TV of an image of any leading dimensions x height x width, in double precision."""
    differences = (image[later] - image[earlier] for later, earlier in _neighbours(image))
    return sum(arrays_of(image).sum_of_squares(each) for each in differences) / _pairs(image)


def add_total_variation_gradient(image: Array, weight: float, gradient: Array) -> None:
    """Add the gradient of ``weight`` * TV at ``image`` to ``gradient``, of the image's shape."""
    if not weight:
        return
    for later, earlier in _neighbours(image):
        difference = image[later] - image[earlier]
        difference *= 2 * weight / _pairs(image)
        gradient[later] += difference
        gradient[earlier] -= difference


def _pairs(image: Array) -> int:
    """Number of neighbouring pairs, right and below, over all channels."""
    height, width = image.shape[-2:]
    pairs: int = math.prod(image.shape[:-2]) * (height * (width - 1) + (height - 1) * width)
    return pairs


def _neighbours(image: Array) -> Iterator[tuple[_Index, _Index]]:
    """Indices of the later and the earlier of all neighbouring pairs, in bands of rows."""
    last = image.shape[-2] - 1
    for rows in bands_of(image):
        yield (..., rows, slice(1, None)), (..., rows, slice(None, -1))
        above = slice(rows.start, min(rows.stop, last))
        yield (..., slice(above.start + 1, above.stop + 1), slice(None)), (..., above, slice(None))
