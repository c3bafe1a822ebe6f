"""Transfer functions: linear light from encoded values, by ITU-T H.273 and ITU-R BT.2100."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DIFFUSE_WHITE",
    "H273_TRANSFERS",
    "Transfer",
    "encode_srgb",
    "hlg_inverse_oetf",
    "hlg_ootf",
    "power",
    "pq_eotf",
    "pq_inverse_eotf",
    "srgb_eotf",
    "table",
]

Transfer: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Linear light of encoded values in 0..1; diffuse white is 1."""

DIFFUSE_WHITE = 203.0
"""Luminance of HDR's diffuse white in cd/m2, ITU-R BT.2408."""

HLG_PEAK = 1000.0
"""Nominal peak luminance in cd/m2 at which HLG pictures are shown, ITU-R BT.2100."""

_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
"""Constants of SMPTE ST 2084."""


def srgb_eotf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Encode linear values in 0..1, the inverse of :func:`srgb_eotf`."""
    curve = np.float32(1.055) * linear ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(linear <= 0.0031308, linear * np.float32(12.92), curve)


def power(exponent: float) -> Transfer:
    """A pure power, such as gamma 2.2."""
    return partial(_power, exponent=exponent)


def table(levels: NDArray[np.float64]) -> Transfer:
    """Interpolation in a table of linear values, evenly spaced over the encoded range."""
    return lambda values: np.interp(values, np.linspace(0, 1, len(levels)), levels)


def pq_eotf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Perceptual quantizer of ST 2084; luminance relative to diffuse white."""
    root = values ** (1 / _M2)
    linear = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return linear * (10000 / DIFFUSE_WHITE)


def pq_inverse_eotf(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of :func:`pq_eotf`."""
    root = (np.maximum(linear, 0) * (DIFFUSE_WHITE / 10000)) ** _M1
    encoded: NDArray[np.float64] = ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2
    return encoded


def hlg_inverse_oetf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hybrid log-gamma of BT.2100: scene light in 0..1, before :func:`hlg_ootf`."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)


def hlg_ootf(scene: NDArray[np.float32], luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Displayed light of scene light (..., channels), relative to diffuse white.

    F = 1000 Y^0.2 E with Y the luminance by the weights ``luma``: BT.2100's system gamma of 1.2
    at 1000 cd/m2.
    """
    luminance = scene @ luma if scene.shape[-1] == 3 else scene[..., 0]
    gain = np.maximum(luminance, 0) ** np.float32(0.2) * np.float32(HLG_PEAK / DIFFUSE_WHITE)
    return scene * gain[..., None]


def _power(values: NDArray[np.float64], *, exponent: float) -> NDArray[np.float64]:
    raised: NDArray[np.float64] = values**exponent
    return raised


def _bt709(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of BT.709's transfer characteristics, with BT.2020's exact constants."""
    alpha, beta = 1.09929682680944, 0.018053968510807
    return np.where(values < 4.5 * beta, values / 4.5, ((values + alpha - 1) / alpha) ** (1 / 0.45))


def _smpte240(values: NDArray[np.float64]) -> NDArray[np.float64]:
    alpha, beta = 1.1115, 0.0228
    return np.where(values < 4 * beta, values / 4, ((values + alpha - 1) / alpha) ** (1 / 0.45))


def _st428(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 428-1, with its reference white of 48 cd/m2 as 1."""
    linear: NDArray[np.float64] = values**2.6 * (52.37 / 48)
    return linear


H273_TRANSFERS: dict[int, Transfer] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709),
    4: power(2.2),
    5: power(2.8),
    7: _smpte240,
    8: power(1.0),
    13: srgb_eotf,
    16: pq_eotf,
    17: _st428,
    18: hlg_inverse_oetf,
}
"""Transfer functions by H.273's TransferCharacteristics."""
