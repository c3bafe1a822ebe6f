"""Upscale a small result to the size of its photo, with the photo's fine detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.transparency import resize_visible
from nstrt.runtime.pictures.values import row_strips

__all__ = ["upscale"]

_RADIUS = 4
"""Radius of the windows of 9 x 9 pixels, in pixels of the small result."""

_EPSILON = 4e-4
"""Luminance variance below which the photo counts as flat: a deviation of 5 of 255 levels."""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def upscale(
    result_rgb: NDArray[np.float32],
    photo_rgb: NDArray[np.float32],
    photo_alpha: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Upscale a small result (h, w, 3) to the size of its photo (H, W, 3).

    Lanczos upscaling alone is soft. The photo's detail is added where the result follows the photo.
    With ``low`` the photo at the result's size, Y the luminance, ``up(.)`` Lanczos upscaling, and
    variance and covariance over windows of 9 x 9 pixels::

        a   = clip(cov(Y(result), Y(low)) / (var(Y(low)) + eps), 0, 1)
        out = clip(up(result) + up(a) * (Y(photo) - up(Y(low))), 0, 1)

    ``a`` is the local linear coefficient of the guided filter (He, Sun, Tang: "Guided Image
    Filtering", 2013, equation 5): 1 where the result repeats the photo's contrast, 0 where both
    are unrelated or the photo is flat.

    Needs memory for two planes of the photo's size besides the returned array.
    """
    for rgb in (result_rgb, photo_rgb):
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.float32:
            raise OptionError("Only float32 pictures of (height, width, 3) can be upscaled.")
    small_height, small_width = result_rgb.shape[:2]
    height, width = photo_rgb.shape[:2]
    if (small_height, small_width) == (height, width):
        return np.clip(result_rgb, 0, 1)

    small = resize_visible(photo_rgb, photo_alpha, small_width, small_height, clip=False)
    low = _luminance(small)
    gain = resize(_gain(_luminance(result_rgb), low), width, height)
    soft = resize(low, width, height, clip=False)
    upscaled = resize(result_rgb, width, height, clip=False)
    for rows in row_strips(height, width):
        detail = _luminance(photo_rgb[rows])
        detail -= soft[rows]
        detail *= gain[rows]
        strip = upscaled[rows]
        strip += detail[..., np.newaxis]
        np.clip(strip, 0, 1, out=strip)
    return upscaled


def _luminance(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    # NumPy multiplies a three-dimensional array row by row, so the array is flattened first.
    return (rgb.reshape(-1, 3) @ _LUMINANCE).reshape(rgb.shape[:2])


def _gain(result: NDArray[np.float32], low: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the guided filter's coefficient ``a`` of each pixel, in 0..1."""
    y, x = result.astype(np.float64), low.astype(np.float64)
    mean_x, mean_y = _box_mean(x), _box_mean(y)
    covariance = _box_mean(x * y) - mean_x * mean_y
    variance = np.maximum(_box_mean(x * x) - mean_x * mean_x, 0)
    return np.clip(covariance / (variance + _EPSILON), 0, 1).astype(np.float32)


def _box_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the window around each pixel, cut off at the picture's borders."""
    for axis in (0, 1):
        length = values.shape[axis]
        centre = np.arange(length)
        first = np.maximum(centre - _RADIUS, 0)
        last = np.minimum(centre + _RADIUS + 1, length)
        sums = np.insert(np.cumsum(values, axis=axis), 0, 0.0, axis=axis)
        count = (last - first).reshape((-1, 1) if axis == 0 else (1, -1))
        values = (sums.take(last, axis=axis) - sums.take(first, axis=axis)) / count
    return values
