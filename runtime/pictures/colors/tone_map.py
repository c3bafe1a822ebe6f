"""Tone mapping of HDR pictures to the range of sRGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.colors.transfer import pq_eotf, pq_inverse_eotf

__all__ = ["tone_map"]

_TABLE = 4096
"""Entries of the table of the curve."""


def tone_map(linear: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """Compress linear values (..., channels) so that ``peak`` becomes 1, diffuse white.

    The curve is the EETF of ITU-R BT.2390 without a raised black. E is a PQ value over that of the
    peak, m the value of white, k = 1.5 m - 0.5 the knee. Values up to k stay. Those above follow
    the Hermite spline from (k, k) with slope 1 to (1, m) with slope 0. All channels of a pixel are
    scaled by the factor of the largest, so that hues stay. A peak of at most 1 changes nothing.
    """
    if peak <= 1:
        return linear
    levels = np.linspace(0, 1, _TABLE)
    top = pq_inverse_eotf(np.array([peak, 1.0]))
    mapped = pq_eotf(_eetf(levels, top[1] / top[0]) * top[0])
    largest = np.maximum(linear.max(axis=-1, keepdims=True), 1e-9)
    encoded = pq_inverse_eotf(largest.astype(np.float64)) / top[0]
    factor = np.interp(encoded, levels, mapped) / largest
    # Values below the knee keep their bits.
    knee = 1.5 * top[1] / top[0] - 0.5
    return linear * np.where(encoded <= knee, 1, factor).astype(np.float32)


def _eetf(encoded: NDArray[np.float64], white: float) -> NDArray[np.float64]:
    """BT.2390's curve from PQ values over the source's peak to those of the target's."""
    knee = 1.5 * white - 0.5
    t = (encoded - knee) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * white
    )
    return np.where(encoded < knee, encoded, spline)
