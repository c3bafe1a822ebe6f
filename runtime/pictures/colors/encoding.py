"""Colour encodings other than ICC profiles: primaries, white and transfer function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.pictures.colors.tone_map import tone_map
from nstrt.runtime.pictures.colors.transfer import (
    H273_TRANSFERS,
    Transfer,
    encode_srgb,
    hlg_inverse_oetf,
    hlg_ootf,
    power,
    pq_eotf,
    srgb_eotf,
)
from nstrt.runtime.pictures.values import row_strips

__all__ = [
    "ADOBE_RGB",
    "BRADFORD",
    "D65",
    "Chromaticities",
    "ColorEncoding",
    "UnknownEncodingError",
    "encoded_to_srgb",
    "from_gamma",
    "from_h273",
    "lab_to_srgb",
]

Chromaticities: TypeAlias = (
    "tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]"
)
"""CIE 1931 x and y of red, green, blue and white."""

D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_BT709: Chromaticities = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65)
_NTSC: Chromaticities = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), D65)

_H273_PRIMARIES: dict[int, Chromaticities] = {
    1: _BT709,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), D65),
    6: _NTSC,
    7: _NTSC,
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    10: ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1 / 3, 1 / 3)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), D65),
}
"""H.273's ColourPrimaries."""

_UNSPECIFIED = 2

BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
"""Cone responses of the Bradford adaptation."""

_CHROMATICITY_TOLERANCE = 0.002
_GAMMA_TOLERANCE = 0.01
"""Differences from sRGB that other programs' rounding causes."""


class UnknownEncodingError(ValueError):
    """The numbers describe no colour encoding that can be converted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColorEncoding:
    """Meaning of RGB or gray samples."""

    primaries: Chromaticities
    """Chromaticities of the primaries and the white."""

    transfer: Transfer
    """Linear light of encoded values."""

    narrow: bool = False
    """Samples use the narrow range of video, 16 to 235 of 255."""

    @property
    def hdr_name(self) -> str | None:
        """Name of an encoding with values above diffuse white; ``None`` for others."""
        if self.transfer is pq_eotf:
            return "BT.2100 PQ"
        return "BT.2100 HLG" if self.transfer is hlg_inverse_oetf else None

    @property
    def is_srgb(self) -> bool:
        """True if samples are those of sRGB."""
        return (
            not self.narrow
            and self.transfer is srgb_eotf
            and bool(np.allclose(self.primaries, _BT709, rtol=0, atol=_CHROMATICITY_TOLERANCE))
        )

    def levels(self, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> NDArray[np.float32]:
        """Linear light of each integer level."""
        top = np.iinfo(dtype).max
        values = np.arange(top + 1, dtype=np.float64)
        unit = (top + 1) / 256
        values = (values - 16 * unit) / (219 * unit) if self.narrow else values / top
        return self.transfer(np.clip(values, 0, 1)).astype(np.float32)

    def matrix(self) -> NDArray[np.float64]:
        """Matrix from linear values to linear sRGB, with Bradford adaptation of the white."""
        to_xyz = _rgb_to_xyz(self.primaries)
        return np.linalg.inv(_rgb_to_xyz(_BT709)) @ _adaptation(self.primaries[3], D65) @ to_xyz

    def luma(self) -> NDArray[np.float32]:
        """Luminance of each primary."""
        weights: NDArray[np.float32] = _rgb_to_xyz(self.primaries)[1].astype(np.float32)
        return weights


ADOBE_RGB = ColorEncoding(
    primaries=((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65), transfer=power(563 / 256)
)
"""Adobe RGB (1998)."""


def from_h273(primaries: int, transfer: int, *, narrow: bool = False) -> ColorEncoding:
    """The encoding of H.273's code points; unspecified ones are those of sRGB.

    Raises :class:`UnknownEncodingError` for code points that are not supported.
    """
    chromaticities = _H273_PRIMARIES.get(1 if primaries == _UNSPECIFIED else primaries)
    curve = H273_TRANSFERS.get(13 if transfer == _UNSPECIFIED else transfer)
    if chromaticities is None or curve is None:
        raise UnknownEncodingError(f"primaries {primaries} and transfer function {transfer}")
    return ColorEncoding(primaries=chromaticities, transfer=curve, narrow=narrow)


def from_gamma(
    gamma: float | None, primaries: Chromaticities | None, *, transfer: Transfer | None = None
) -> ColorEncoding:
    """The encoding of a decoding exponent and of chromaticities; ``None`` stands for sRGB's.

    With sRGB's primaries 2.2 stands for sRGB's curve, which writers approximate by it. Raises
    :class:`UnknownEncodingError` for numbers that no encoding can have.
    """
    if gamma is not None and not 0.05 <= gamma <= 20:
        raise UnknownEncodingError(f"gamma {gamma:g}")
    known = _BT709 if primaries is None else primaries
    points = np.array(known)
    sane = bool(np.isfinite(points).all()) and known[3][1] > 0
    if not sane or abs(np.linalg.det(np.column_stack([points[:3], np.ones(3)]))) < 1e-4:
        raise UnknownEncodingError("its chromaticities")
    plain = bool(np.allclose(points, _BT709, rtol=0, atol=_CHROMATICITY_TOLERANCE))
    curve = transfer or srgb_eotf
    if gamma is not None and not (plain and abs(gamma / 2.2 - 1) < _GAMMA_TOLERANCE):
        curve = power(gamma)
    return ColorEncoding(primaries=known, transfer=curve)


def encoded_to_srgb(
    samples: NDArray[np.uint8] | NDArray[np.uint16],
    encoding: ColorEncoding,
    visible: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint16]:
    """Convert (height, width, 1 or 3) samples to 16-bit sRGB; colours outside are clipped.

    HDR is tone-mapped towards the peak of the ``visible`` pixels (:func:`tone_map`).
    """
    height, width, channels = samples.shape
    levels = encoding.levels(samples.dtype)
    matrix = encoding.matrix().T.astype(np.float32)
    hlg, luma = encoding.transfer is hlg_inverse_oetf, encoding.luma()

    def linear(rows: slice) -> NDArray[np.float32]:
        values = levels[samples[rows]]
        return hlg_ootf(values, luma) if hlg else values

    def largest(rows: slice) -> float:
        values = linear(rows)
        return float(
            values.max(initial=0, where=True if visible is None else visible[rows, :, None])
        )

    strips = list(row_strips(height, width))
    peak = max(map(largest, strips)) if encoding.hdr_name else 1.0
    converted = np.empty(samples.shape, np.uint16)
    for rows in strips:
        values = tone_map(linear(rows), peak)
        if channels == 3:
            values = (values.reshape(-1, 3) @ matrix).reshape(values.shape)
        encoded = encode_srgb(np.clip(values, 0, 1))
        converted[rows] = np.rint(encoded * np.float32(65535))
    return converted


def lab_to_srgb(samples: NDArray[Any], *, signed: bool) -> NDArray[np.uint16]:
    """Convert L*a*b* samples (height, width, 3) of white D50 to 16-bit sRGB, Bradford-adapted.

    TIFF's CIELab has ``signed`` a* and b*, its ICCLab an offset of 128.
    """
    d50 = (0.34567, 0.35850)
    to_rgb = np.linalg.inv(_rgb_to_xyz(_BT709)) @ _adaptation(d50, D65)
    matrix = (to_rgb * _white_xyz(d50)).T.astype(np.float32)
    converted = np.empty(samples.shape, np.uint16)
    for rows in row_strips(*samples.shape[:2]):
        lab = _lab(samples[rows], signed=signed)
        y = (lab[..., 0] + 16) / 116
        f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
        xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * (3 * (6 / 29) ** 2)).astype(np.float32)
        rgb = (xyz.reshape(-1, 3) @ matrix).reshape(xyz.shape)
        converted[rows] = np.rint(encode_srgb(np.clip(rgb, 0, 1)) * np.float32(65535))
    return converted


def _lab(samples: NDArray[Any], *, signed: bool) -> NDArray[np.float32]:
    wide = samples.dtype == np.uint16
    lab = np.empty(samples.shape, np.float32)
    # ICC's 16-bit encoding reaches 100 below the top level.
    top = 65535 if wide and signed else 65280 if wide else 255
    lab[..., 0] = samples[..., 0] * np.float32(100 / top)
    if signed:
        lab[..., 1:] = samples[..., 1:].view(np.int16 if wide else np.int8)
    else:
        lab[..., 1:] = samples[..., 1:].astype(np.float32) - (32768 if wide else 128)
    if wide:
        lab[..., 1:] /= 256
    return lab


def _white_xyz(white: tuple[float, float]) -> NDArray[np.float64]:
    x, y = white
    return np.array([x / y, 1, (1 - x - y) / y])


def _rgb_to_xyz(primaries: Chromaticities) -> NDArray[np.float64]:
    """Matrix from linear RGB to CIE XYZ, with Y = 1 for white."""
    points = np.array([(x, y, 1 - x - y) for x, y in primaries[:3]]).T
    matrix: NDArray[np.float64] = points * np.linalg.solve(points, _white_xyz(primaries[3]))
    return matrix


def _adaptation(white: tuple[float, float], target: tuple[float, float]) -> NDArray[np.float64]:
    """Bradford adaptation of XYZ from one white to another."""
    gains = (BRADFORD @ _white_xyz(target)) / (BRADFORD @ _white_xyz(white))
    matrix: NDArray[np.float64] = np.linalg.inv(BRADFORD) @ np.diag(gains) @ BRADFORD
    return matrix
