"""Convert between integer and 0..1 picture values, and apply EXIF orientations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["apply_orientation", "divide_by_alpha", "quantize", "row_strips", "to_unit_range"]

_STRIP_PIXELS = 1 << 18
"""Pixels in one strip; a strip fits into the processor's cache."""


def row_strips(height: int, width: int, *, pixels: int = _STRIP_PIXELS) -> Iterator[slice]:
    """Split the rows of a picture into strips of about ``pixels`` pixels."""
    rows = max(1, pixels // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def to_unit_range(values: NDArray[Any], *, channels: int = 1) -> NDArray[np.float32]:
    """Convert uint8 or uint16 values to value/255 or value/65535, correctly rounded.

    A single channel is repeated ``channels`` times.
    """
    height, width, _ = values.shape
    scale = np.float32(np.iinfo(values.dtype).max)
    unit = np.empty((height, width, channels), np.float32)
    for rows in row_strips(height, width):
        unit[rows] = values[rows]
        unit[rows] /= scale
    return unit


def divide_by_alpha(samples: NDArray[Any]) -> NDArray[Any]:
    """Integer samples, premultiplied by their last channel, with straight alpha."""
    top = np.iinfo(samples.dtype).max
    straight = samples.copy()
    for rows in row_strips(*samples.shape[:2]):
        alpha = samples[rows, :, -1:].astype(np.float32)
        colors = samples[rows, :, :-1] * (top / np.maximum(alpha, 1))
        straight[rows, :, :-1] = np.rint(np.minimum(colors, top))
    return straight


def quantize(values: NDArray[np.float32], target: NDArray[Any]) -> None:
    """Scale values in 0..1 to the integer range of ``target``, round and store them there."""
    height, width = values.shape[:2]
    top = np.float32(np.iinfo(target.dtype).max)
    for rows in row_strips(height, width):
        levels = np.clip(values[rows], 0, 1)
        levels *= top
        target[rows] = np.rint(levels, out=levels)


def apply_orientation(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror by the EXIF ``orientation`` (1 to 8); other values change nothing."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
