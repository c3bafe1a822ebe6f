"""Enlarge the luminance of a painting with crisp strokes: a shock filter along their direction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.resize import resize
from nstrt.runtime.pictures.values import row_strips

__all__ = ["enlarge_strokes"]

_Plane = NDArray[np.float32]

_STEPS = 4
"""Steps of the filter after each enlargement."""

_SHOCK, _SMOOTHING = 0.4, 0.2
"""Length of a step across and along strokes where the enlargement is twofold."""

_CURVATURE = 300
"""Inverse of the second derivative, per pixel squared, at which a step has half its length."""

_RETURNED = 0.5
"""Share of a change that is taken back where the small size shows it."""

_FLAT = np.float32(1e-8)
"""Squared difference between neighbours below which a stroke has no direction."""

_REACH = 4 * _STEPS
"""Rows on either side that the filter's steps read."""

_STRIP_PIXELS = 1 << 19
"""Pixels in a strip; a step holds some twenty planes of a strip."""


def enlarge_strokes(luminance: _Plane, width: int, height: int) -> _Plane:
    """Enlarge a plane (h, w) to (height, width); blurred borders of strokes become crisp.

    Each enlargement is at most twofold, by Lanczos. Then four steps sharpen the plane y across
    its strokes and smooth it along them, with t the length of a step, k a constant, n the direction
    across and m that along::

        y <- y - t v / (1 + |v|) |grad y|,    v = k d2/dn2 (G * y)
        y <- y + s d2/dm2 y

    That is the shock filter of Osher and Rudin (1990), whose upwind differences |grad y| keep its
    values between those of the neighbours. The direction is that of the structure tensor, as in
    Weickert, "Coherence-Enhancing Shock Filters" (2003). Lengths of steps are proportional to the
    logarithm of the enlargement. Half of the change that shows at the small size is taken back,
    so that strokes keep their places and tones (Irani and Peleg's back-projection, 1991).

    Sizes that are no larger are plain Lanczos. Needs memory for three more planes of the result.
    """
    small_height, small_width = luminance.shape
    zoom = max(height / small_height, width / small_width)
    count = math.ceil(math.log2(zoom)) if zoom > 1 else 0
    if not count:
        return resize(luminance, width, height, clip=False)
    enlarged = luminance
    for level in range(1, count + 1):
        share = level / count
        size = (
            round(small_width * (width / small_width) ** share),
            round(small_height * (height / small_height) ** share),
        )
        enlarged = _sharpened(enlarged, *size, math.log2(zoom) / count)
        change = luminance - resize(enlarged, small_width, small_height, clip=False)
        enlarged += np.float32(_RETURNED) * resize(change, *size, clip=False)
    return enlarged


def _sharpened(plane: _Plane, width: int, height: int, length: float) -> _Plane:
    """Enlarge ``plane`` once and filter it in strips, with steps of relative ``length``."""
    cosine, sine = (resize(part, width, height, clip=False) for part in _direction(plane))
    soft = resize(plane, width, height, clip=False)
    sharp = np.empty_like(soft)
    for rows in row_strips(height, width, pixels=_STRIP_PIXELS):
        around = slice(max(0, rows.start - _REACH), rows.stop + _REACH)
        strip = _filtered(soft[around], cosine[around], sine[around], length)
        first = rows.start - around.start
        sharp[rows] = strip[first : first + sharp[rows].shape[0]]
    return sharp


def _direction(plane: _Plane) -> tuple[_Plane, _Plane]:
    """cos 2a and sin 2a, a the angle across strokes; both are near 0 where there is none."""
    smooth = _padded(_blurred(plane))
    dx = smooth[1:-1, 2:] - smooth[1:-1, :-2]
    dy = smooth[2:, 1:-1] - smooth[:-2, 1:-1]
    cosine, sine = _blurred(_blurred(dx * dx - dy * dy)), _blurred(_blurred(2 * dx * dy))
    norm = np.hypot(cosine, sine) + _FLAT
    return cosine / norm, sine / norm


def _filtered(y: _Plane, cosine: _Plane, sine: _Plane, length: float) -> _Plane:
    """All steps of the filter on one strip."""
    shock, smoothing = np.float32(_SHOCK * length), np.float32(_SMOOTHING * length)
    for _ in range(_STEPS):
        laplacian, difference = _second_derivatives(_blurred(y), cosine, sine)
        v = np.float32(_CURVATURE / 2) * (laplacian + difference)
        v /= 1 + np.abs(v)
        v *= _upwind_slope(y, v)
        y = y - shock * v
        laplacian, difference = _second_derivatives(y, cosine, sine)
        y += smoothing / 2 * (laplacian - difference)
    return y


def _second_derivatives(y: _Plane, cosine: _Plane, sine: _Plane) -> tuple[_Plane, _Plane]:
    """Sum and difference of the second derivatives across and along strokes."""
    p, twice = _padded(y), 2 * y
    xx = p[1:-1, 2:] + p[1:-1, :-2] - twice
    yy = p[2:, 1:-1] + p[:-2, 1:-1] - twice
    xy = p[2:, 2:] - p[2:, :-2] - p[:-2, 2:] + p[:-2, :-2]
    xy *= sine
    xy *= np.float32(0.5)
    return xx + yy, cosine * (xx - yy) + xy


def _upwind_slope(y: _Plane, v: _Plane) -> _Plane:
    """|grad y| from the neighbours whose values ``y`` takes: larger ones if ``v`` is negative."""
    p, sign = _padded(y), np.where(v < 0, np.float32(1), np.float32(-1))
    left, right = sign * (p[1:-1, :-2] - y), sign * (p[1:-1, 2:] - y)
    above, below = sign * (p[:-2, 1:-1] - y), sign * (p[2:, 1:-1] - y)
    across = np.maximum(np.maximum(left, right), np.float32(0))
    down = np.maximum(np.maximum(above, below), np.float32(0))
    slope: _Plane = np.hypot(across, down)
    return slope


def _padded(plane: _Plane, width: int = 1) -> _Plane:
    """The plane with its borders repeated."""
    return np.pad(plane, width, mode="edge")


def _blurred(plane: _Plane) -> _Plane:
    """Convolve with the binomial filter (1, 4, 6, 4, 1) / 16 in both directions."""
    p = _padded(plane, 2)
    rows: _Plane = p[:-4] + p[4:] + 4 * (p[1:-3] + p[3:-1]) + 6 * p[2:-2]
    both: _Plane = rows[:, :-4] + rows[:, 4:] + 4 * (rows[:, 1:-3] + rows[:, 3:-1])
    both += 6 * rows[:, 2:-2]
    both *= np.float32(1 / 256)
    return both
