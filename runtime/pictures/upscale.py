"""Upscale a small result to its photo's size: crisp strokes, and a little of the photo's detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import OptionError
from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.shock_filter import enlarge_strokes
from nstrt.runtime.pictures.transparency import resize_visible
from nstrt.runtime.pictures.values import row_strips

__all__ = ["upscale"]

_RADIUS = 4
"""Radius of the windows of 9 x 9 small pixels in which result and photo are compared."""

_NEAR = 1
"""Radius of the windows of 3 x 3 small pixels in which the contrasts of details are compared."""

_SHARE = 0.5
"""Largest contrast of the photo's detail over that of the strokes' detail."""

_EPSILON = 4e-4
"""Luminance variance below which the photo counts as flat: a deviation of 5 of 255 levels."""

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def upscale(
    result_rgb: NDArray[np.float32],
    photo_rgb: NDArray[np.float32],
    photo_alpha: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Upscale a small result (h, w, 3) to the size of its photo (H, W, 3).

    Lanczos upscaling alone is soft. The strokes' detail is added, and where the result follows
    the photo, at most half as much of the photo's. With Y the luminance, ``low`` the photo at the
    result's size, ``up(.)`` Lanczos upscaling and ``crisp(.)`` :func:`enlarge_strokes`::

        strokes = crisp(Y(result)) - up(Y(result))
        detail  = Y(photo) - up(Y(low))
        a       = clip(cov(Y(result), Y(low)) / (var(Y(low)) + eps), 0, 1)
        g       = min(a, rms(strokes) / (2 rms(detail)))
        out     = clip(up(result) + strokes + up(g) detail, 0, 1)

    ``a`` is the local linear coefficient of the guided filter (He, Sun, Tang: "Guided Image
    Filtering", 2013, equation 5): 1 where the result repeats the photo's contrast, 0 where both
    are unrelated or the photo is flat. Its windows are 9 x 9 pixels of the result, those of the
    root mean squares 3 x 3.

    Needs memory for three planes of the photo's size before, and one besides, the returned array.
    """
    for rgb in (result_rgb, photo_rgb):
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.float32:
            raise OptionError("Only float32 pictures of (height, width, 3) can be upscaled.")
    height, width = photo_rgb.shape[:2]
    if result_rgb.shape[:2] == (height, width):
        return np.clip(result_rgb, 0, 1)

    detail = _detail(result_rgb, photo_rgb, photo_alpha)
    upscaled = resize(result_rgb, width, height, clip=False)
    for rows in row_strips(height, width):
        strip = upscaled[rows]
        strip += detail[rows, :, np.newaxis]
        np.clip(strip, 0, 1, out=strip)
    return upscaled


def _detail(
    result_rgb: NDArray[np.float32],
    photo_rgb: NDArray[np.float32],
    photo_alpha: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Luminance (H, W) that is added to the result: detail of its strokes and of the photo."""
    small_height, small_width = result_rgb.shape[:2]
    height, width = photo_rgb.shape[:2]
    luminance = _luminance(result_rgb)
    strokes = enlarge_strokes(luminance, width, height)
    strokes -= resize(luminance, width, height, clip=False)
    low = _luminance(resize_visible(photo_rgb, photo_alpha, small_width, small_height, clip=False))
    detail = resize(low, width, height, clip=False)
    for rows in row_strips(height, width):
        np.subtract(_luminance(photo_rgb[rows]), detail[rows], out=detail[rows])
    own, others = (_energy(plane, small_width, small_height) for plane in (strokes, detail))
    limit = _SHARE * np.sqrt(own / np.maximum(others, np.finfo(np.float32).tiny))
    gain = np.minimum(_gain(luminance, low), limit).astype(np.float32)
    detail *= resize(gain, width, height)
    strokes += detail
    return strokes


def _energy(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float64]:
    """Mean square of a plane around each pixel of a smaller size."""
    squares = resize(plane * plane, width, height, clip=False)
    return np.maximum(_box_mean(squares.astype(np.float64), _NEAR), 0)


def _luminance(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    # NumPy multiplies a three-dimensional array row by row, so the array is flattened first.
    return (rgb.reshape(-1, 3) @ _LUMINANCE).reshape(rgb.shape[:2])


def _gain(result: NDArray[np.float32], low: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the guided filter's coefficient ``a`` of each pixel, in 0..1."""
    y, x = result.astype(np.float64), low.astype(np.float64)
    mean_x, mean_y = _box_mean(x, _RADIUS), _box_mean(y, _RADIUS)
    covariance = _box_mean(x * y, _RADIUS) - mean_x * mean_y
    variance = np.maximum(_box_mean(x * x, _RADIUS) - mean_x * mean_x, 0)
    gain: NDArray[np.float64] = np.clip(covariance / (variance + _EPSILON), 0, 1)
    return gain


def _box_mean(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Return the mean over the window around each pixel, cut off at the picture's borders."""
    for axis in (0, 1):
        length = values.shape[axis]
        centre = np.arange(length)
        first = np.maximum(centre - radius, 0)
        last = np.minimum(centre + radius + 1, length)
        sums = np.insert(np.cumsum(values, axis=axis), 0, 0.0, axis=axis)
        count = (last - first).reshape((-1, 1) if axis == 0 else (1, -1))
        values = (sums.take(last, axis=axis) - sums.take(first, axis=axis)) / count
    return values
