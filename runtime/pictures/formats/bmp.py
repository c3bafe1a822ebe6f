"""Decode BMP files with Pillow."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.colors.encoding import D65
from nstrt.runtime.pictures.formats.facts import cut_off_error
from nstrt.runtime.pictures.formats.sniff import READABLE
from nstrt.runtime.pictures.pillow import pillow_samples

if TYPE_CHECKING:
    from PIL.BmpImagePlugin import BmpImageFile

    from nstrt.runtime.pictures.pillow import PillowSamples

__all__ = ["bmp_samples", "open_bmp"]

_CALIBRATED = bytes(4)
"""Colour space of a header whose chromaticities and gamma count (LCS_CALIBRATED_RGB)."""


def open_bmp(content: bytes, name: str) -> BmpImageFile:
    """Read the header of a BMP file."""
    from PIL.BmpImagePlugin import BmpImageFile

    try:
        # Image.open would try every format and applies its own size limit.
        image = BmpImageFile(io.BytesIO(content))
    except Exception as error:
        raise PictureReadError(
            f"'{name}' is not a picture that can be read; save it as {READABLE} and use that."
        ) from error
    profile = _profile(content)
    if profile is not None:
        image.info["icc_profile"] = profile
    image.info |= _calibration(content)
    return image


def bmp_samples(image: BmpImageFile, content: bytes, name: str) -> PillowSamples:
    """Decode an opened file. Raises :class:`PictureReadError` if it lacks rows."""
    tile = image.tile[0]
    if tile.codec_name == "raw" and isinstance(tile.args, tuple):
        stride = int(tile.args[1])
        rows = max(0, len(content) - tile.offset) // max(1, stride)
        if rows < image.height:
            raise cut_off_error(name, rows=(image.height - rows, image.height))
    try:
        return pillow_samples(image, name=name)
    except PictureReadError as error:
        raise cut_off_error(name) from error


def _profile(content: bytes) -> bytes | None:
    """The ICC profile that a header of version 5 points at."""
    header = int.from_bytes(content[14:18], "little")
    if header < 124 or content[70:74] != b"DEBM":
        return None
    start = 14 + int.from_bytes(content[126:130], "little")
    return content[start : start + int.from_bytes(content[130:134], "little")]


def _calibration(content: bytes) -> dict[str | tuple[int, int], Any]:
    """Gamma and chromaticities of a header of version 4 or 5, as Pillow keeps those of PNG."""
    header = int.from_bytes(content[14:18], "little")
    if header < 108 or content[70:74] != _CALIBRATED or len(content) < 122:
        return {}
    *numbers, _, green, _ = struct.unpack_from("<9i3I", content, 74)
    info: dict[str | tuple[int, int], Any] = {}
    points = [numbers[start : start + 3] for start in (0, 3, 6)]
    if all(sum(point) for point in points):
        shares = [value / sum(point) for point in points for value in point[:2]]
        info["chromaticity"] = (*D65, *shares)
    if green:
        # Programs write the exponent or its inverse, with 16 binary places.
        info["gamma"] = min(green / 65536, 65536 / green)
    return info
