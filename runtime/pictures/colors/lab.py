"""Convert between sRGB and CIE L*a*b* in floating point, and map colours into the sRGB gamut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.values import row_strips

__all__ = ["STRIP_PIXELS", "from_lab", "lightness", "map_to_gamut", "to_lab"]

_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float64
)
"""Matrix from linear sRGB to CIE XYZ, IEC 61966-2-1."""

_WHITE = _XYZ.sum(axis=1, keepdims=True)
"""XYZ of white (D65), computed from the matrix so that grays have a* = b* = 0."""

_TO_XYZ = (_XYZ / _WHITE).astype(np.float32)
_FROM_XYZ = np.linalg.inv(_XYZ / _WHITE).astype(np.float32)

_DELTA = 6 / 29
"""Boundary between the linear part and the cube root of the CIE L*a*b* formula."""

_ROUNDING = 1e-5
"""Tolerance of the gamut test, in linear values.

It is below one 16-bit level in the brightest parts and a thirtieth of an 8-bit level in the
darkest."""

_BISECTION_STEPS = 16
"""Bisection steps to the edge of the gamut: an error below 0.002 units for a distance of 100."""

STRIP_PIXELS = 1 << 15
"""Pixels in one strip: about ten float32 arrays of this size fit into the processor's cache."""


def to_lab(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert sRGB-encoded values (height, width, 3) to L*, a* and b* (white D65).

    L* is in 0..100; one unit is about the smallest visible difference. Values below 0 continue
    the linear part of the sRGB curve, values above 1 its power.
    """
    lab = np.empty(rgb.shape, np.float32)
    for rows in row_strips(*rgb.shape[:2], pixels=STRIP_PIXELS):
        xyz = _apply_matrix(_linear(rgb[rows]), _TO_XYZ)
        f = np.where(xyz > _DELTA**3, np.cbrt(xyz), xyz / (3 * _DELTA**2) + np.float32(4 / 29))
        lab[rows, :, 0] = 116 * f[..., 1] - 16
        lab[rows, :, 1] = 500 * (f[..., 0] - f[..., 1])
        lab[rows, :, 2] = 200 * (f[..., 1] - f[..., 2])
    return lab


def from_lab(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert L*, a*, b* (height, width, 3) to sRGB-encoded values in 0..1.

    Each channel is clipped; :func:`map_to_gamut` treats colours outside sRGB better.
    """
    rgb = np.empty(lab.shape, np.float32)
    for rows in row_strips(*lab.shape[:2], pixels=STRIP_PIXELS):
        linear = np.clip(_linear_rgb(lab[rows]), 0, 1)
        curve = 1.055 * linear ** np.float32(1 / 2.4) - np.float32(0.055)
        rgb[rows] = np.where(linear <= 0.0031308, 12.92 * linear, curve)
    return np.clip(rgb, 0, 1, out=rgb)


def lightness(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return L*, in 0..100, of sRGB values (height, width, 3)."""
    return np.ascontiguousarray(to_lab(rgb)[..., 0])


def map_to_gamut(
    lab: NDArray[np.float32], towards: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Move L*a*b* colours (height, width, 3) outside sRGB to the edge of its gamut.

    Each colour moves along the straight line to its counterpart in ``towards``, which must lie
    inside the gamut. The default is the gray of equal lightness: lightness and hue stay, chroma
    shrinks. Colours inside the gamut stay unchanged.
    """
    mapped = lab.copy()
    for rows in row_strips(*lab.shape[:2], pixels=STRIP_PIXELS):
        outside = ~_in_gamut(lab[rows])
        if not outside.any():
            continue
        colors = lab[rows][outside]
        if towards is None:
            np.clip(colors[:, 0], 0, 100, out=colors[:, 0])
            anchors = colors * np.array([1, 0, 0], np.float32)
        else:
            anchors = towards[rows][outside]
        inside = np.zeros((len(colors), 1), np.float32)
        beyond = np.ones((len(colors), 1), np.float32)
        for _ in range(_BISECTION_STEPS):
            middle = (inside + beyond) / 2
            fits = _in_gamut(anchors + middle * (colors - anchors))[:, np.newaxis]
            inside, beyond = np.where(fits, middle, inside), np.where(fits, beyond, middle)
        mapped[rows][outside] = anchors + inside * (colors - anchors)
    return mapped


def _in_gamut(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    linear = _linear_rgb(lab)
    inside: NDArray[np.bool_] = (linear >= -_ROUNDING) & (linear <= 1 + _ROUNDING)
    return inside[..., 0] & inside[..., 1] & inside[..., 2]


def _linear(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    curve = ((np.maximum(rgb, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(rgb <= 0.04045, rgb / np.float32(12.92), curve)


def _linear_rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert L*, a*, b* (..., 3) to linear sRGB values without clipping."""
    f = np.empty(lab.shape, np.float32)
    f[..., 1] = (lab[..., 0] + 16) / 116
    f[..., 0] = f[..., 1] + lab[..., 1] / 500
    f[..., 2] = f[..., 1] - lab[..., 2] / 200
    xyz = np.where(f > _DELTA, f**3, (f - np.float32(4 / 29)) * np.float32(3 * _DELTA**2))
    return _apply_matrix(xyz, _FROM_XYZ)


def _apply_matrix(values: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    # NumPy multiplies a three-dimensional array row by row, so the array is flattened first.
    return (values.reshape(-1, 3) @ matrix.T).reshape(values.shape)
