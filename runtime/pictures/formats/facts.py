"""Facts about a picture file that libvips does not tell: colours, repairs, sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstrt.runtime.errors import PictureReadError
from nstrt.runtime.pictures.colors.encoding import ColorEncoding

__all__ = [
    "Facts",
    "cut_off_error",
    "fallback_note",
    "float_note",
    "hdr_note",
    "press_note",
    "profile_note",
]


@dataclass(kw_only=True)
class Facts:
    """Facts that a format's own module finds before the file is decoded."""

    name: str
    """Name of the picture in sentences."""

    content: bytes = b""
    """Bytes for libvips: those of the file, or of a mended one."""

    encoding: ColorEncoding | None = None
    """Colour encoding that overrides an ICC profile."""

    fallback: ColorEncoding | None = None
    """Colour encoding of a file without a usable ICC profile."""

    profile: bytes | None = None
    """ICC profile that libvips does not find."""

    expects_profile: bool = False
    """The file has an ICC profile, be it usable or not."""

    premultiplied: bool = False
    """Colours are multiplied by alpha, and libvips does not divide them."""

    oriented: bool = False
    """The decoder applies the orientation."""

    states_orientation: bool = True
    """libvips' orientation is the file's, not a default."""

    color_channels: int | None = None
    """Number of colour channels; ``None`` if libvips knows."""

    alpha: int | None = None
    """Index of the alpha channel behind ``color_channels``; ``None`` if there is none."""

    decode: Callable[[], NDArray[np.uint8]] | None = None
    """Decoder of sRGB or ICC samples where libvips' own is wrong."""

    convert: Callable[[NDArray[Any]], NDArray[np.uint16]] | None = None
    """Conversion of the colour channels to sRGB."""

    missing: tuple[int, int] | None = None
    """Rows that are missing if decoding fails, and all rows."""

    damage: str = ""
    """Sentence on damage that costs no pixel."""

    notes: list[str] = field(default_factory=list)
    """Further sentences for :attr:`Picture.notes`."""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """All sentences, that on damage first."""
        return tuple(dict.fromkeys(filter(None, (self.damage, *self.notes))))


def cut_off_error(
    name: str, reason: str = "", *, rows: tuple[int, int] | None = None
) -> PictureReadError:
    """The error of a damaged file; ``rows`` are those missing and all of them."""
    advice = "copy it again from where it came from."
    if rows is not None:
        missing, total = max(1, rows[0]), rows[1]
        verb = "is" if missing == 1 else "are"
        reason = f"{missing} of its {total} rows {verb} missing"
    if reason:
        return PictureReadError(f"The picture '{name}' is cut off or damaged: {reason}; {advice}")
    return PictureReadError(f"The picture '{name}' is cut off or damaged; {advice}")


def hdr_note(name: str, encoding: ColorEncoding) -> str:
    """Sentence on a tone-mapped picture."""
    return (
        f"'{name}' is an HDR picture ({encoding.hdr_name}): it was converted to sRGB, and what is "
        "brighter than white was compressed."
    )


def profile_note(name: str) -> str:
    """Sentence on an ICC profile that was ignored."""
    return f"The colour profile of '{name}' is damaged or of another kind, and was ignored."


def press_note(name: str) -> str:
    """Sentence on CMYK without a usable profile."""
    return f"'{name}' does not say for which press its CMYK is; a usual one was assumed."


def float_note(name: str) -> str:
    """Sentence on floating-point samples without a profile."""
    return f"'{name}' does not say which colours its floating-point numbers are; sRGB was assumed."


def fallback_note(name: str, reason: str) -> str:
    """Sentence on a colour encoding that was ignored."""
    return f"'{name}' was read as sRGB, since its own data on its colours is wrong ({reason})."
