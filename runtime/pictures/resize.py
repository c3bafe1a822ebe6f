"""Pictures of another size, by Lanczos filtering."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.values import strips

__all__ = ["resize"]

_RADIUS = 3
"""How many pixels Pillow's Lanczos filter reaches to each side."""


def resize(
    array: NDArray[np.float32], width: int, height: int, *, clip: bool = True
) -> NDArray[np.float32]:
    """Give float32 values (height, width) or (height, width, channels) in another size.

    Lanczos over three pixels: of the result when shrinking, so that nothing aliases, of the
    source when enlarging. At the borders the filter is cut off and its weights rescaled, so flat
    areas stay flat. Lanczos overshoots at edges; ``clip`` limits the values to 0..1. The result
    is a new array, except that nothing is done, or copied, when the size is the same already.
    """
    if array.ndim not in (2, 3) or array.dtype != np.float32:
        raise OptionError("Only float32 values of two or three dimensions can be resized.")
    if width < 1 or height < 1:
        raise OptionError(f"A picture cannot be {width} x {height} pixels.")
    if array.shape[:2] == (height, width):
        return np.clip(array, 0, 1) if clip else array
    resized = np.empty((height, width, *array.shape[2:]), np.float32)
    _fill(resized.reshape(height, width, -1), array.reshape(*array.shape[:2], -1))
    return np.clip(resized, 0, 1, out=resized) if clip else resized


def _fill(target: NDArray[np.float32], source: NDArray[np.float32]) -> None:
    from PIL import Image

    height, width, channels = target.shape
    source_height, source_width, _ = source.shape
    scale = source_height / height
    reach = math.ceil(_RADIUS * max(1, scale)) + 1
    # In strips, which stay in the processor's cache between NumPy and Pillow. Each is taken from
    # the source rows around it, because Pillow rounds a box to float32: its numbers must be small.
    for rows in strips(height, width):
        top, bottom = rows.start * scale, min(rows.stop * scale, source_height)
        first = max(0, math.floor(top) - reach)
        last = min(source_height, math.ceil(bottom) + reach)
        box = (0, top - first, source_width, bottom - first)
        size = (width, rows.stop - rows.start)
        for channel in range(channels):
            # Pillow works on single planes of float32, with weights and sums in float64.
            plane = Image.fromarray(np.ascontiguousarray(source[first:last, :, channel]))
            part = plane.resize(size, Image.Resampling.LANCZOS, box=box)
            target[rows, :, channel] = np.asarray(part)
