"""Orientation and colour space of a picture by its EXIF and XMP data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["is_adobe_rgb", "parse_exif", "xmp_orientation"]

_COLOR_SPACE, _INTEROPERABILITY_INDEX = 0xA001, 1
_EXIF_IFD, _INTEROPERABILITY_IFD = 0x8769, 0xA005
_UNCALIBRATED, _ADOBE_RGB = 0xFFFF, 2
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\b")


def parse_exif(block: bytes | None) -> Image.Exif | None:
    """Parse a block of EXIF data; ``None`` for a damaged or missing one."""
    if not block:
        return None
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(block)
    except Exception:
        # Pillow raises many kinds of exceptions for broken EXIF data.
        return None
    return exif


def is_adobe_rgb(exif: Image.Exif | None) -> bool:
    """True for Adobe RGB by the option file R03 of DCF: uncalibrated colours with that index."""
    if exif is None:
        return False
    try:
        space = exif.get_ifd(_EXIF_IFD).get(_COLOR_SPACE)
        index = exif.get_ifd(_INTEROPERABILITY_IFD).get(_INTEROPERABILITY_INDEX)
    except Exception:
        return False
    # Some cameras write 2 for Adobe RGB, which EXIF itself does not know.
    return space == _ADOBE_RGB or (space == _UNCALIBRATED and str(index).strip("b'\0 \\x") == "R03")


def xmp_orientation(xmp: bytes | None) -> int:
    """The orientation that XMP data state; 1 if they state none."""
    found = _XMP_ORIENTATION.search(xmp) if xmp else None
    return int(found[1]) if found else 1
