"""sRGB values and CIE L*a*b*, in floating point all through, and the edge of what sRGB can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.values import row_strips

__all__ = ["STRIP_PIXELS", "from_lab", "lightness", "map_to_gamut", "to_lab"]

_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float64
)
"""Linear sRGB to CIE XYZ, IEC 61966-2-1."""

_WHITE = _XYZ.sum(axis=1, keepdims=True)
"""XYZ of white (D65), as the matrix has it: so grays have a* and b* of zero."""

_TO_XYZ = (_XYZ / _WHITE).astype(np.float32)
_FROM_XYZ = np.linalg.inv(_XYZ / _WHITE).astype(np.float32)

_DELTA = 6 / 29
"""Where the cube root of CIE L*a*b* becomes a straight line."""

_ROUNDING = 1e-5
"""How far outside 0..1 a linear value may lie and count as shown: less than a step of 16 bits in
the brightest parts, a thirtieth of one of 8 bits in the darkest."""

_HALVINGS = 16
"""Halvings of a segment that ends at the edge of the gamut: to within 0.002 of 100 units, finer
than a step of 16 bits is in most of it."""

STRIP_PIXELS = 1 << 15
"""Pixels worked on at a time: some ten arrays of them stay in the processor's cache."""


def to_lab(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """L*, a* and b* (white D65) of sRGB-encoded values (height, width, 3).

    L* goes from 0 to 100; one unit of any is about what the eye can just tell apart. Values
    outside 0..1 are taken as the curve goes on, straight below and as a power above.
    """
    lab = np.empty(rgb.shape, np.float32)
    for rows in row_strips(*rgb.shape[:2], pixels=STRIP_PIXELS):
        xyz = _products(_linear(rgb[rows]), _TO_XYZ)
        f = np.where(xyz > _DELTA**3, np.cbrt(xyz), xyz / (3 * _DELTA**2) + np.float32(4 / 29))
        lab[rows, :, 0] = 116 * f[..., 1] - 16
        lab[rows, :, 1] = 500 * (f[..., 0] - f[..., 1])
        lab[rows, :, 2] = 200 * (f[..., 1] - f[..., 2])
    return lab


def from_lab(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB-encoded values in 0..1 of L*, a*, b* (height, width, 3).

    Each channel is clipped; see :func:`map_to_gamut` for colours that sRGB cannot show.
    """
    rgb = np.empty(lab.shape, np.float32)
    for rows in row_strips(*lab.shape[:2], pixels=STRIP_PIXELS):
        linear = np.clip(_linear_rgb(lab[rows]), 0, 1)
        curve = 1.055 * linear ** np.float32(1 / 2.4) - np.float32(0.055)
        rgb[rows] = np.where(linear <= 0.0031308, 12.92 * linear, curve)
    return np.clip(rgb, 0, 1, out=rgb)


def lightness(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """L* of sRGB values (height, width, 3), from 0 to 100."""
    return np.ascontiguousarray(to_lab(rgb)[..., 0])


def map_to_gamut(
    lab: NDArray[np.float32], towards: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Bring L*a*b* colours (height, width, 3) that sRGB cannot show to the edge of what it can.

    Each goes along the straight line to its own colour in ``towards``, which sRGB has to show,
    and no farther than it must; by default to the gray of its own lightness, so that lightness
    and hue stay and chroma gives way. Colours that sRGB shows stay as they are.
    """
    shown = lab.copy()
    for rows in row_strips(*lab.shape[:2], pixels=STRIP_PIXELS):
        outside = ~_in_gamut(lab[rows])
        if not outside.any():
            continue
        wanted = lab[rows][outside]
        if towards is None:
            np.clip(wanted[:, 0], 0, 100, out=wanted[:, 0])
            safe = wanted * np.array([1, 0, 0], np.float32)
        else:
            safe = towards[rows][outside]
        kept, lost = np.zeros((len(wanted), 1), np.float32), np.ones((len(wanted), 1), np.float32)
        for _ in range(_HALVINGS):
            half = (kept + lost) / 2
            fits = _in_gamut(safe + half * (wanted - safe))[:, np.newaxis]
            kept, lost = np.where(fits, half, kept), np.where(fits, lost, half)
        shown[rows][outside] = safe + kept * (wanted - safe)
    return shown


def _in_gamut(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    linear = _linear_rgb(lab)
    inside: NDArray[np.bool_] = (linear >= -_ROUNDING) & (linear <= 1 + _ROUNDING)
    return inside[..., 0] & inside[..., 1] & inside[..., 2]


def _linear(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    curve = ((np.maximum(rgb, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(rgb <= 0.04045, rgb / np.float32(12.92), curve)


def _linear_rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear sRGB values of L*, a*, b* (..., 3), unlimited."""
    f = np.empty(lab.shape, np.float32)
    f[..., 1] = (lab[..., 0] + 16) / 116
    f[..., 0] = f[..., 1] + lab[..., 1] / 500
    f[..., 2] = f[..., 1] - lab[..., 2] / 200
    xyz = np.where(f > _DELTA, f**3, (f - np.float32(4 / 29)) * np.float32(3 * _DELTA**2))
    return _products(xyz, _FROM_XYZ)


def _products(values: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    # One product of two dimensions: with three, NumPy makes one small product per row.
    return (values.reshape(-1, 3) @ matrix.T).reshape(values.shape)
