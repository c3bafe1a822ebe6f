"""Resize pictures with a Lanczos filter."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.values import row_strips

__all__ = ["resize"]

_RADIUS = 3
"""Radius of Pillow's Lanczos filter in pixels."""


def resize(
    array: NDArray[np.float32], width: int, height: int, *, clip: bool = True
) -> NDArray[np.float32]:
    """Resize float32 values (height, width) or (height, width, channels).

    The Lanczos radius is three pixels: result pixels when shrinking, which prevents aliasing, and
    source pixels when enlarging. Filter weights are renormalised at the borders. Lanczos
    overshoots at edges; ``clip`` limits values to 0..1. An array that has the size already is only
    copied if it is clipped. Raises :class:`OptionError` for other types, dimensions and sizes.
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
    margin = math.ceil(_RADIUS * max(1, scale)) + 1
    # Strips stay in the processor's cache between NumPy and Pillow. Each strip is resized from the
    # source rows around it, because Pillow rounds box coordinates to float32.
    for rows in row_strips(height, width):
        top, bottom = rows.start * scale, min(rows.stop * scale, source_height)
        first = max(0, math.floor(top) - margin)
        last = min(source_height, math.ceil(bottom) + margin)
        box = (0, top - first, source_width, bottom - first)
        size = (width, rows.stop - rows.start)
        for channel in range(channels):
            # Pillow resizes single float32 planes, with weights and sums in float64.
            plane = Image.fromarray(np.ascontiguousarray(source[first:last, :, channel]))
            part = plane.resize(size, Image.Resampling.LANCZOS, box=box)
            target[rows, :, channel] = np.asarray(part)
