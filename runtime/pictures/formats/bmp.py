"""Decode BMP files with Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.formats.facts import cut_off_error
from nstrt.runtime.pictures.formats.sniff import READABLE
from nstrt.runtime.pictures.pillow import pillow_samples

if TYPE_CHECKING:
    from PIL.BmpImagePlugin import BmpImageFile

    from nstrt.runtime.pictures.pillow import PillowSamples

__all__ = ["bmp_samples", "open_bmp"]


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
